"""Steps that treat every element alike and are fitted to nothing: `log1p`, `affine`, `clip`.

Not here: steps with parameters per feature.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from pipeline.errors import DataError
from pipeline.normalize.names import Number
from pipeline.normalize.step import FittedStep, Floats, ParameterlessStep, room


class Log1p(ParameterlessStep):
    """Take the logarithm of 1 + x, which tames long tails and keeps zeros.

    ``y = log(1 + x) / log(base)``, accurate near 0, by default the natural logarithm. The function is NumPy's ``log1p``;
    scanpy's ``pp.log1p`` is the same step for expression counts.

    - NaN stays NaN; positive infinity stays infinite.
    - Values of -1 or less, negative infinity too, have no finite logarithm: DataError says how many there are.
    - Nothing is fitted, so constant and all-NaN features are nothing special.

    Inverse: ``x = exp(y * log(base)) - 1``; DataError where that overflows float64.

    Parameters
    ----------
    base : float, optional
        Of the logarithm: finite, above 1; e where None.

    Examples
    --------
    >>> Log1p().fit(None)(np.array([0.0, 1.0]), ("sample",)).round(4).tolist()
    [0.0, 0.6931]
    >>> Log1p(base=2).fit(None)(np.array([0.0, 1.0, 7.0]), ("sample",)).round(4).tolist()
    [0.0, 1.0, 3.0]
    """

    name: ClassVar[str] = "log1p"
    summary: ClassVar[str] = "Take the logarithm of 1 + x, which tames long tails and keeps zeros."
    formula: ClassVar[str] = "y = log(1 + x), divided by log(base) where there is one"
    reference: ClassVar[str] = "NumPy, log1p; scanpy, pp.log1p"
    inverse_note: ClassVar[str] = "expm1, exact but for rounding"

    base: Number | None = Field(default=None, gt=1, description="a finite number above 1; by default e")

    @property
    def function(self) -> type[FittedLog1p]:
        return FittedLog1p


@dataclass(frozen=True, eq=False)
class FittedLog1p(FittedStep):
    """`Log1p`, which has no parameters."""

    step: Log1p

    def __call__(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        outside = values <= -1
        if outside.any():
            raise DataError(
                "log1p of values of -1 or less",
                where=self.step.name,
                found=f"{int(outside.sum())} of {values.size} values, the least {np.nanmin(values)}",
                expected="values above -1",
                remedy="put a clip or an affine step before it",
            )
        result = np.log1p(_contiguous(values), out=room(values, out))
        return result if self.step.base is None else np.divide(result, math.log(self.step.base), out=result)

    def inverse(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        if self.step.base is None:
            return np.expm1(_contiguous(values), out=room(values, out))
        result = np.multiply(values, math.log(self.step.base), out=room(values, out))
        return np.expm1(result, out=result)


def _contiguous(values: Floats) -> Floats:
    """The same values as transcendental functions must see them: their loops may round otherwise on strided memory."""
    return np.require(values, np.float64, ["C", "A"])


class Affine(ParameterlessStep):
    """Multiply by one number and add another.

    ``y = scale * x + shift``.

    - NaN stays NaN; infinities stay infinite, with the scale's sign.
    - Raises DataError where a finite result overflows float64.
    - Nothing is fitted, so constant and all-NaN features are nothing special.

    Inverse: ``x = (y - shift) / scale``.

    Parameters
    ----------
    scale : float
        Finite, not 0.
    shift : float
        Finite.

    Examples
    --------
    >>> Affine(scale=2, shift=-1).fit(None)(np.array([0.0, 0.5]), ("sample",)).tolist()
    [-1.0, 0.0]
    """

    name: ClassVar[str] = "affine"
    summary: ClassVar[str] = "Multiply by one number and add another."
    formula: ClassVar[str] = "y = scale * x + shift"
    reference: ClassVar[str] = "NumPy, multiply and add"
    inverse_note: ClassVar[str] = "exact but for rounding"

    scale: Number = Field(default=1.0, description="a finite number other than 0")
    shift: Number = Field(default=0.0, description="a finite number")

    @model_validator(mode="after")
    def _scale_is_not_zero(self) -> Self:
        if self.scale == 0:
            raise ValueError("a scale other than 0, which would erase the data")
        return self

    @property
    def is_affine(self) -> bool:
        return True

    @property
    def function(self) -> type[FittedAffine]:
        return FittedAffine


@dataclass(frozen=True, eq=False)
class FittedAffine(FittedStep):
    """`Affine`, which has no parameters."""

    step: Affine

    def __call__(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        result = np.multiply(values, self.step.scale, out=room(values, out))
        return np.add(result, self.step.shift, out=result)

    def inverse(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        result = np.subtract(values, self.step.shift, out=room(values, out))
        return np.divide(result, self.step.scale, out=result)

    @property
    def affine(self) -> tuple[Floats, Floats, Floats]:
        return np.asarray(0.0), np.asarray(self.step.scale), np.asarray(self.step.shift)


class Clip(ParameterlessStep):
    """Move values outside two fixed bounds to the nearest bound.

    ``y = minimum(maximum(x, min), max)``; either bound may be left out. The function is NumPy's ``clip``.

    - NaN stays NaN; infinities become the bounds, where there is one on their side.
    - Nothing is fitted, so constant and all-NaN features are nothing special.

    Inverse: none, what was beyond a bound is not kept.

    Parameters
    ----------
    min, max : float, optional
        Finite, min < max, at least one of them.

    Examples
    --------
    >>> Clip(min=0, max=1).fit(None)(np.array([-2.0, 0.5, np.inf]), ("sample",)).tolist()
    [0.0, 0.5, 1.0]
    """

    name: ClassVar[str] = "clip"
    summary: ClassVar[str] = "Move values outside two fixed bounds to the nearest bound."
    formula: ClassVar[str] = "y = minimum(maximum(x, min), max)"
    reference: ClassVar[str] = "NumPy, clip"
    inverse_note: ClassVar[str] = "none, what was beyond a bound is not kept"

    min: Number | None = Field(default=None, description="a finite number below max")
    max: Number | None = Field(default=None, description="a finite number above min")

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("min, max or both")
        if self.min is not None and self.max is not None and not self.min < self.max:
            raise ValueError("min below max")
        return self

    @property
    def function(self) -> type[FittedClip]:
        return FittedClip


@dataclass(frozen=True, eq=False)
class FittedClip(FittedStep):
    """`Clip`, which has no parameters."""

    step: Clip

    def __call__(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        low = -math.inf if self.step.min is None else self.step.min
        high = math.inf if self.step.max is None else self.step.max
        return np.clip(values, low, high, out=room(values, out))

    @property
    def why_not_invertible(self) -> str:
        return "what was beyond a bound is not kept"
