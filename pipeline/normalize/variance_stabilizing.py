"""Steps that make the variance of counts and intensities nearly constant: `arcsinh`, `anscombe`.

Not here: `log1p` (`elementwise.py`) and transformations whose exponent is fitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import Field

from pipeline.errors import DataError
from pipeline.normalize.names import Number
from pipeline.normalize.step import FittedStep, Floats, ParameterlessStep, room

OFFSET = 3 / 8


class Arcsinh(ParameterlessStep):
    """Take the inverse hyperbolic sine, which is linear near zero, logarithmic far from it, and takes negative values.

    ``y = arcsinh(x / cofactor)``. The function is NumPy's; the cofactor, up to which the scale is about linear, is that of
    cytometry, where 5 is usual for mass and 150 for fluorescence (Bendall et al., 2011, doi:10.1126/science.1198704).

    - NaN stays NaN; infinities stay infinite.
    - Raises DataError where x / cofactor overflows float64.
    - Nothing is fitted, so constant and all-NaN features are nothing special.

    Inverse: ``x = sinh(y) * cofactor``; DataError where that overflows float64.

    Parameters
    ----------
    cofactor : float
        Finite, above 0.

    Examples
    --------
    >>> Arcsinh(cofactor=5).fit(None)(np.array([-5.0, 0.0, 500.0]), ("sample",)).round(4).tolist()
    [-0.8814, 0.0, 5.2983]
    """

    name: ClassVar[str] = "arcsinh"
    summary: ClassVar[str] = (
        "Take the inverse hyperbolic sine, which is linear near zero, logarithmic far from it, and takes negative values."
    )
    formula: ClassVar[str] = "y = arcsinh(x / cofactor)"
    reference: ClassVar[str] = "NumPy, arcsinh; Bendall et al. 2011, doi:10.1126/science.1198704"
    inverse_note: ClassVar[str] = "sinh, exact but for rounding"

    cofactor: Number = Field(default=1.0, gt=0, description="a finite number above 0")

    @property
    def function(self) -> type[FittedArcsinh]:
        return FittedArcsinh


@dataclass(frozen=True, eq=False)
class FittedArcsinh(FittedStep):
    """`Arcsinh`, which has no parameters."""

    step: Arcsinh

    def __call__(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        result = _into(room(values, out), values)
        if self.step.cofactor != 1:
            np.divide(result, self.step.cofactor, out=result)
        return np.arcsinh(result, out=result)

    def inverse(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        result = _into(room(values, out), values)
        np.sinh(result, out=result)
        return result if self.step.cofactor == 1 else np.multiply(result, self.step.cofactor, out=result)


class Anscombe(ParameterlessStep):
    """Give Poisson counts a variance of about 1, whatever their mean.

    ``y = 2 * sqrt(x + 3/8)`` (Anscombe, 1948, doi:10.1093/biomet/35.3-4.246): for means above about 4.

    - NaN stays NaN; positive infinity stays infinite.
    - Values below -3/8, negative infinity too, have no root: DataError says how many there are.
    - Nothing is fitted, so constant and all-NaN features are nothing special.

    Inverse: the algebraic one, ``x = (y / 2)**2 - 3/8``, which returns what was transformed. It is not the unbiased inverse,
    which estimates a mean from a denoised y. Values of y below 0, which the step never puts out, are taken as 0.

    Examples
    --------
    >>> Anscombe().fit(None)(np.array([0.0, 10.0, 1000.0]), ("sample",)).round(3).tolist()
    [1.225, 6.442, 63.257]
    """

    name: ClassVar[str] = "anscombe"
    summary: ClassVar[str] = "Give Poisson counts a variance of about 1, whatever their mean."
    formula: ClassVar[str] = "y = 2 * sqrt(x + 3/8)"
    reference: ClassVar[str] = "Anscombe 1948, doi:10.1093/biomet/35.3-4.246"
    inverse_note: ClassVar[str] = "algebraic (not the unbiased one), exact but for rounding"

    @property
    def function(self) -> type[FittedAnscombe]:
        return FittedAnscombe


@dataclass(frozen=True, eq=False)
class FittedAnscombe(FittedStep):
    """`Anscombe`, which has no parameters."""

    step: Anscombe

    def __call__(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        outside = values < -OFFSET
        if outside.any():
            raise DataError(
                "anscombe of values below -3/8",
                where=self.step.name,
                found=f"{int(outside.sum())} of {values.size} values, the least {np.nanmin(values)}",
                expected="counts, or other values of -3/8 or more",
                remedy="put a clip or an affine step before it",
            )
        result = np.add(values, OFFSET, out=room(values, out))
        np.sqrt(result, out=result)
        return np.multiply(result, 2.0, out=result)

    def inverse(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        result = np.maximum(values, 0.0, out=room(values, out))
        np.multiply(result, 0.5, out=result)
        np.square(result, out=result)
        return np.subtract(result, OFFSET, out=result)


def _into(result: Floats, values: Floats) -> Floats:
    """`result`, which is contiguous as transcendental functions need it, with `values` in it."""
    np.copyto(result, values)
    return result
