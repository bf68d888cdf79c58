"""Replacing NaN by a number: `fillna`.

Not here: values that stand for missing ones (`nodata.py`), and what a fit makes of NaN (`fit.nan`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import Field

from pipeline.normalize.names import Number
from pipeline.normalize.step import FittedStep, Floats, ParameterlessStep, room


class FillNa(ParameterlessStep):
    """Replace NaN by a number.

    ``y = value where x is NaN, else x``. The function is ``fillna`` of pandas and xarray. The steps after it, and the
    statistics that they are fitted to, see the number.

    - NaN becomes `value`: this is the one step that does not keep it. Infinities stay infinite.
    - Nothing is fitted, so constant features are nothing special; an all-NaN feature becomes constant.

    Inverse: none, which values were NaN is not kept.

    Parameters
    ----------
    value : float
        Finite.

    Examples
    --------
    >>> FillNa().fit(None)(np.array([1.5, np.nan]), ("sample",)).tolist()
    [1.5, 0.0]
    """

    name: ClassVar[str] = "fillna"
    summary: ClassVar[str] = "Replace NaN by a number."
    formula: ClassVar[str] = "y = value where x is NaN, else x"
    reference: ClassVar[str] = "pandas and xarray, fillna; scikit-learn, SimpleImputer(strategy='constant')"
    inverse_note: ClassVar[str] = "none, which values were NaN is not kept"

    value: Number = Field(default=0.0, description="a finite number")

    @property
    def function(self) -> type[FittedFillNa]:
        return FittedFillNa


@dataclass(frozen=True, eq=False)
class FittedFillNa(FittedStep):
    """`FillNa`, which has no parameters."""

    step: FillNa

    def __call__(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        result = room(values, out)
        np.copyto(result, values)
        np.copyto(result, self.step.value, where=np.isnan(values))
        return result

    @property
    def why_not_invertible(self) -> str:
        return "which values were NaN is not kept"
