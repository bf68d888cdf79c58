"""Scaling by extrema: to a range (`minmax`) or by the largest magnitude (`maxabs`).

Not here: scaling by what a dtype can hold (`dtype_range.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from pipeline.errors import DataError, ManifestError
from pipeline.normalize.features import FeatureStep, check_positive, checked_statistics, finite_scale, settled
from pipeline.normalize.linear import interpolate
from pipeline.normalize.names import Range
from pipeline.normalize.step import FittedStep, Floats, Parameters, frozen_parameters, room, stored_parameters

if TYPE_CHECKING:
    from pipeline.statistics.describe import Statistics


class MinMax(FeatureStep):
    """Scale each feature so that its fitted minimum and maximum become the ends of a range.

    ``y = (x - min) / (max - min) * (b - a) + a`` for a range ``[a, b]``. The fitted minimum and maximum give exactly
    a and b, and nothing between them leaves the range. The formula is that of scikit-learn's ``MinMaxScaler``.

    - A constant feature is shifted only: ``y = (x - constant) * (b - a) + a``, so that the constant gives a.
    - A feature without a finite value is fitted as the constant 0.
    - New values outside the fitted extrema land outside the range, or with `clip` on its nearest end.
    - NaN stays NaN; infinities stay infinite, or with `clip` become a and b.
    - Raises DataError where max - min overflows float64 and, without `clip`, where a finite result does.

    Inverse: ``x = (y - a) / (b - a) * (max - min) + min``. What `clip` cut off stays cut off.

    Parameters
    ----------
    per : tuple of str
        The dims that keep extrema of their own.
    range : (float, float)
        a and b, a < b.
    clip : bool
        Whether results outside the range are moved to its ends.

    Examples
    --------
    >>> fitted = MinMax(range=(-1, 1)).restore({"minimum": np.array(2.0), "maximum": np.array(4.0)})
    >>> fitted(np.array([2.0, 3.5, 4.0, 5.0]), ("sample",)).tolist()
    [-1.0, 0.5, 1.0, 2.0]
    """

    name: ClassVar[str] = "minmax"
    summary: ClassVar[str] = "Scale each feature so that its fitted minimum and maximum become the ends of a range."
    formula: ClassVar[str] = "y = (x - min) / (max - min) * (b - a) + a"
    reference: ClassVar[str] = "scikit-learn, MinMaxScaler"
    inverse_note: ClassVar[str] = "exact but for rounding; what clip cut off stays cut off"

    range: Range = Field(default=(0.0, 1.0), description="two finite numbers, the first below the second")
    clip: bool = Field(default=False, description="true or false")

    @property
    def is_affine(self) -> bool:
        return not self.clip

    def fit(self, statistics: Statistics | None) -> FittedMinMax:
        statistics = checked_statistics(self, statistics)
        low, high = (settled(statistics, extreme) for extreme in (statistics.minimum(), statistics.maximum()))
        with np.errstate(over="ignore"):
            too_wide = int(np.isinf(high - low).sum())
        if too_wide:
            raise DataError(
                "max - min overflows float64",
                where=self.name,
                found=f"{too_wide} of {low.size} features",
                expected="a difference below 1.8e308",
                remedy="put an affine step with a small scale before it",
            )
        return FittedMinMax(self, self.per, frozen_parameters(minimum=low, maximum=high))

    def restore(self, parameters: Parameters) -> FittedMinMax:
        stored = stored_parameters(self, self.per, parameters, ("minimum", "maximum"))
        if (stored["minimum"] > stored["maximum"]).any():
            raise ManifestError("stored minimum above the maximum", where=self.name)
        return FittedMinMax(self, self.per, stored)


@dataclass(frozen=True, eq=False)
class FittedMinMax(FittedStep):
    """`MinMax` with the parameters minimum and maximum."""

    step: MinMax

    @cached_property
    def _width(self) -> Floats:
        low, high = self.parameters["minimum"], self.parameters["maximum"]
        return np.where(low == high, 1.0, high - low)

    @cached_property
    def _high(self) -> Floats:
        """What fraction 1 stands for: the maximum, or 1 above a constant."""
        low, high = self.parameters["minimum"], self.parameters["maximum"]
        return np.where(low == high, low + 1.0, high)

    def __call__(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        start, end = self.step.range
        if self.step.clip:
            with np.errstate(over="ignore"):  # what overflows is far outside, and clipped
                fraction = self._fraction(values, dims, out)
            np.clip(fraction, 0.0, 1.0, out=fraction)
        else:
            fraction = self._fraction(values, dims, out)
        return interpolate(fraction, start, end - start, end)

    def _fraction(self, values: Floats, dims: tuple[str, ...], out: Floats | None) -> Floats:
        """Where between the minimum (0) and the maximum (1) the values lie."""
        fraction = np.subtract(values, self.along("minimum", dims), out=room(values, out))
        return np.divide(fraction, self.along(self._width, dims), out=fraction)

    def inverse(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        start, end = self.step.range
        fraction = np.subtract(values, start, out=room(values, out))
        np.divide(fraction, end - start, out=fraction)
        low, width, high = (self.along(each, dims) for each in ("minimum", self._width, self._high))
        return interpolate(fraction, low, width, high)

    @property
    def affine(self) -> tuple[Floats, Floats, Floats] | None:
        if self.step.clip:
            return None
        start, end = self.step.range
        with np.errstate(over="ignore"):
            scale = finite_scale(self.step, (end - start) / self._width)
        return self.parameters["minimum"], scale, np.asarray(start)


class MaxAbs(FeatureStep):
    """Divide each feature by its largest fitted magnitude, which keeps zeros and signs.

    ``y = x / max(|min|, |max|)``: values in [-1, 1]. The formula is that of scikit-learn's ``MaxAbsScaler``.

    - A constant feature becomes 1 or -1; one that is all zero, or without a finite value, is divided by 1.
    - New values of larger magnitude land outside [-1, 1].
    - NaN stays NaN; infinities stay infinite.
    - Raises DataError where a finite result overflows float64.

    Inverse: ``x = y * max(|min|, |max|)``.

    Parameters
    ----------
    per : tuple of str
        The dims that keep magnitudes of their own.

    Examples
    --------
    >>> fitted = MaxAbs().restore({"magnitude": np.array(4.0)})
    >>> fitted(np.array([-4.0, 0.0, 1.0]), ("sample",)).tolist()
    [-1.0, 0.0, 0.25]
    """

    name: ClassVar[str] = "maxabs"
    summary: ClassVar[str] = "Divide each feature by its largest fitted magnitude, which keeps zeros and signs."
    formula: ClassVar[str] = "y = x / max|x|"
    reference: ClassVar[str] = "scikit-learn, MaxAbsScaler"
    inverse_note: ClassVar[str] = "exact but for rounding"

    @property
    def is_affine(self) -> bool:
        return True

    def fit(self, statistics: Statistics | None) -> FittedMaxAbs:
        statistics = checked_statistics(self, statistics)
        largest = np.maximum(np.abs(statistics.minimum()), np.abs(statistics.maximum()))
        magnitude = settled(statistics, largest)
        return FittedMaxAbs(self, self.per, frozen_parameters(magnitude=np.where(magnitude == 0, 1.0, magnitude)))

    def restore(self, parameters: Parameters) -> FittedMaxAbs:
        stored = stored_parameters(self, self.per, parameters, ("magnitude",))
        check_positive(self, stored, "magnitude")
        return FittedMaxAbs(self, self.per, stored)


@dataclass(frozen=True, eq=False)
class FittedMaxAbs(FittedStep):
    """`MaxAbs` with the parameter magnitude."""

    step: MaxAbs

    def __call__(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        return np.divide(values, self.along("magnitude", dims), out=room(values, out))

    def inverse(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        return np.multiply(values, self.along("magnitude", dims), out=room(values, out))

    @property
    def affine(self) -> tuple[Floats, Floats, Floats]:
        with np.errstate(over="ignore"):
            scale = finite_scale(self.step, 1.0 / self.parameters["magnitude"])
        return np.asarray(0.0), scale, np.asarray(0.0)
