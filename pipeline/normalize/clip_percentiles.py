"""Clipping at bounds that are fitted: `clip_percentiles`.

Not here: bounds that the user names (`elementwise.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from pipeline.errors import ManifestError
from pipeline.normalize.distributions import DistributionStep, Percent, checked_distribution, fitted_quantiles
from pipeline.normalize.step import FittedStep, Floats, Parameters, frozen_parameters, room, stored_parameters

if TYPE_CHECKING:
    from pipeline.statistics.describe import Statistics


class ClipPercentiles(DistributionStep):
    """Move values outside two percentiles of each feature to the nearest of them.

    ``y = minimum(maximum(x, low), high)`` where low and high are the percentiles `lower` and `upper` of the fitted values, by
    linear interpolation as ``numpy.percentile`` has them. The usual first step for microscopes and CT scanners (0.5 and
    99.5 %), where a few hot pixels or metal implants would set the range; for expression data the same is called winsorizing.

    - A constant feature becomes its constant, new values of it too.
    - A feature without a finite value is fitted as the constant 0.
    - NaN stays NaN; infinities become the bounds.
    - Where the distribution is not known exactly, a bound is within a relative error of the exact percentile (at most 0.4 %,
      in practice far less; `Distribution.relative_error`).
    - A percentile of 0 or 100 is the fitted minimum or maximum, exactly, and clips new values only.

    Inverse: none, what was beyond a bound is not kept.

    Parameters
    ----------
    per : tuple of str
        The dims that keep bounds of their own.
    lower, upper : float
        Percentiles, from 0 to 100, lower < upper.

    Examples
    --------
    >>> fitted = ClipPercentiles().restore({"low": np.array(1.0), "high": np.array(9.0)})
    >>> fitted(np.array([0.0, 5.0, np.inf]), ("sample",)).tolist()
    [1.0, 5.0, 9.0]
    """

    name: ClassVar[str] = "clip_percentiles"
    summary: ClassVar[str] = "Move values outside two percentiles of each feature to the nearest of them."
    formula: ClassVar[str] = "y = minimum(maximum(x, low), high), low and high being percentiles"
    reference: ClassVar[str] = "NumPy, clip and percentile; Isensee et al. 2021, nnU-Net, doi:10.1038/s41592-020-01008-z"
    inverse_note: ClassVar[str] = "none, what was beyond a bound is not kept"

    lower: Percent = Field(default=0.5, description="a percentile from 0 on, below upper")
    upper: Percent = Field(default=99.5, description="a percentile up to 100, above lower")

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        if not self.lower < self.upper:
            raise ValueError("lower below upper")
        return self

    def fit(self, statistics: Statistics | None) -> FittedClipPercentiles:
        checked, distribution = checked_distribution(self, statistics)
        low, high = fitted_quantiles(checked, distribution, np.array([self.lower, self.upper]) / 100)
        return FittedClipPercentiles(self, self.per, frozen_parameters(low=low, high=np.maximum(low, high)))

    def restore(self, parameters: Parameters) -> FittedClipPercentiles:
        stored = stored_parameters(self, self.per, parameters, ("low", "high"))
        if (stored["low"] > stored["high"]).any():
            raise ManifestError("stored lower bound above the upper", where=self.name)
        return FittedClipPercentiles(self, self.per, stored)


@dataclass(frozen=True, eq=False)
class FittedClipPercentiles(FittedStep):
    """`ClipPercentiles` with the parameters low and high."""

    step: ClipPercentiles

    def __call__(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        return np.clip(values, self.along("low", dims), self.along("high", dims), out=room(values, out))

    @property
    def why_not_invertible(self) -> str:
        return "what was beyond a bound is not kept"
