"""Mapping each feature onto a uniform or a normal distribution by its quantiles.

Not here: the normal distribution itself (`gaussian.py`), and transformations with a formula (`power.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.errors import DataError, ManifestError
from pipeline.normalize.distributions import DistributionStep, checked_distribution, finite_spread, fitted_quantiles
from pipeline.normalize.gaussian import normal_probability, normal_quantile
from pipeline.normalize.names import Count
from pipeline.normalize.step import FittedStep, Floats, Parameters, frozen_parameters, stored_parameters

if TYPE_CHECKING:
    from pipeline.statistics.describe import Statistics
    from pipeline.statistics.distribution import Distribution

OWN_DIMS: Mapping[str, tuple[str, ...]] = MappingProxyType({"quantiles": ("<quantile>",)})
LARGEST_RANK_ERROR = 0.1
OUTERMOST = 1e-7 - 2.0**-52  # what scikit-learn's clipping comes to: normal outputs end at ±5.1993


class Quantile(DistributionStep):
    """Map each feature onto a uniform or a normal distribution by its quantiles.

    ``p`` is the fraction of fitted values below x, by linear interpolation between `n_quantiles` fitted quantiles at equal
    steps of probability; ``y = p``, or for normal ``y = Phi^-1(p)``. The formula is that of scikit-learn's
    ``QuantileTransformer`` without subsampling. It is monotone, defined everywhere, and applies to new data as it is.

    - A value that occurs often fills several quantiles; it becomes the middle of their fractions. At or beyond the fitted
      minimum and maximum y is 0 and 1; for normal, where these have no finite quantile, -5.1993 and 5.1993. Every p within
      1e-7 of 0 or 1 becomes those. (scikit-learn gives them to all x within 1e-7 of the extrema, whatever the unit of x.)
    - A constant feature becomes 0, or -5.1993, at and below the constant; 1, or 5.1993, above it.
    - A feature without a finite value is fitted as the constant 0.
    - NaN stays NaN; infinities become the ends.
    - Where the distribution is not known exactly, every quantile is within a relative error of the exact one (at most 0.4 %,
      in practice far less; `Distribution.relative_error`), but for the extrema, which are exact; and p is off by at most the
      part of the values that one bucket holds (`Distribution.rank_error`; in practice far less, too).
    - Raises DataError where that is more than a tenth, so that the order of the values is lost; and where maximum - minimum
      overflows float64.

    The parameters take 8 bytes a quantile and feature; where no feature has `n_quantiles` values, one quantile a value.

    Inverse: x interpolated between the quantiles at the fraction ``p = y``, or ``Phi(y)``. Between the extrema it gives x back
    to about 1e-12 of maximum - minimum; for normal, x within the outermost 1e-7 of the fractions become the extremum.

    Parameters
    ----------
    per : tuple of str
        The dims that keep quantiles of their own.
    output : {"uniform", "normal"}
    n_quantiles : int
        At least 2.

    Examples
    --------
    >>> fitted = Quantile().restore({"quantiles": np.array([0.0, 0.0, 0.0, 2.0, 10.0])})
    >>> fitted(np.array([-1.0, 0.1, 1.0, 2.0, 6.0, 11.0]), ("sample",)).tolist()
    [0.0, 0.5125, 0.625, 0.75, 0.875, 1.0]
    """

    name: ClassVar[str] = "quantile"
    summary: ClassVar[str] = "Map each feature onto a uniform or a normal distribution by its quantiles."
    formula: ClassVar[str] = "y = p, the fraction of fitted values below x, or y = Phi^-1(p)"
    reference: ClassVar[str] = "scikit-learn, QuantileTransformer"
    inverse_note: ClassVar[str] = "to 1e-12 of the fitted range; what was beyond it becomes its ends"

    output: Literal["uniform", "normal"] = Field(default="uniform", description="uniform or normal")
    n_quantiles: Count = Field(default=1000, ge=2, description="a whole number from 2 on")

    def parameter_count(self, features: int, values: int) -> int:
        return features * max(2, min(self.n_quantiles, values))

    def fit(self, statistics: Statistics | None) -> FittedQuantile:
        checked, distribution = checked_distribution(self, statistics)
        self._check_resolved(distribution)
        count = max(2, min(self.n_quantiles, checked.observations()))
        percents = np.linspace(0, 1, count) * 100  # scikit-learn's, rounded as there, since rounding decides what ties
        quantiles = fitted_quantiles(checked, distribution, percents / 100)
        with np.errstate(over="ignore"):
            finite_spread(self, quantiles[-1] - quantiles[0])
        ascending = np.maximum.accumulate(np.moveaxis(quantiles, 0, -1), axis=-1)
        return FittedQuantile(self, self.per, frozen_parameters(quantiles=ascending))

    def _check_resolved(self, distribution: Distribution) -> None:
        """Raise DataError where one bucket of a histogram holds so many values that their order is not known."""
        coarse = distribution.rank_errors > LARGEST_RANK_ERROR
        if coarse.any():
            raise DataError(
                "values too close together, beside the others, for the counted buckets to tell their order",
                where=self.name,
                found=f"{int(coarse.sum())} of {coarse.size} features with more than a tenth of their values in one bucket",
                expected="values that spread over several buckets",
                remedy="put an affine step before it that subtracts what most values have in common",
            )

    def restore(self, parameters: Parameters) -> FittedQuantile:
        stored = stored_parameters(self, self.per, parameters, tuple(OWN_DIMS), OWN_DIMS)
        quantiles = _without_padding(stored["quantiles"])
        if quantiles.shape[-1] < 2 or not (np.isnan(quantiles).all(axis=-1) | (np.diff(quantiles) >= 0).all(axis=-1)).all():
            raise ManifestError("stored quantiles that do not ascend", where=self.name, expected="two or more, ascending")
        return FittedQuantile(self, self.per, frozen_parameters(quantiles=quantiles))


def _without_padding(quantiles: Floats) -> Floats:
    """`quantiles` without columns at the end that are NaN in every feature that is not NaN as a whole."""
    given = np.flatnonzero(~np.isnan(quantiles.reshape(-1, quantiles.shape[-1])).all(axis=0))
    return quantiles[..., : given[-1] + 1] if len(given) else quantiles


@dataclass(frozen=True, eq=False)
class FittedQuantile(FittedStep):
    """`Quantile` with the parameter quantiles, ascending along its last axis."""

    own_dims: ClassVar[Mapping[str, tuple[str, ...]]] = OWN_DIMS

    step: Quantile

    @cached_property
    def _tables(self) -> Tables:
        return Tables(self.parameters["quantiles"].reshape(-1), self.parameters["quantiles"].shape[-1])

    def _starts(self, dims: tuple[str, ...]) -> NDArray[np.intp]:
        """Where the quantiles of each value's feature start, broadcastable to values whose axes are `dims`."""
        shape = self.parameters["quantiles"].shape[:-1]
        starts = np.arange(prod(shape), dtype=np.float64).reshape(shape) * self._tables.count
        return self.along(starts, dims).astype(np.intp)

    def __call__(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        values = np.require(values, np.float64, ["C", "A"])
        fractions = self._tables.fractions(values, self._starts(dims))
        if self.step.output == "normal":
            return normal_quantile(np.clip(fractions, OUTERMOST, 1 - OUTERMOST, out=fractions))
        return fractions

    def inverse(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        values = fractions = np.require(values, np.float64, ["C", "A"])
        if self.step.output == "normal":
            fractions = normal_probability(values)
            fractions = np.where(fractions < 1e-7, 0.0, np.where(fractions > 1 - 1e-7, 1.0, fractions))
        return self._tables.values(np.clip(fractions, 0.0, 1.0), self._starts(dims))


@dataclass(frozen=True, eq=False)
class Tables:
    """Ascending tables of `count` numbers each, one after the other in `numbers`, at equal steps of a fraction from 0 to 1."""

    numbers: Floats
    count: int

    def fractions(self, values: Floats, starts: NDArray[np.intp]) -> Floats:
        """Which fraction of the table that starts at `starts`, broadcastable to `values`, is below `values`."""
        last = self.count - 1
        starts = np.array(np.broadcast_to(starts, values.shape))
        inside, low, high = (np.empty(values.shape) for _ in range(3))
        np.clip(values, self._take(starts, low), self._take(starts + last, high), out=inside)
        lowest, highest = np.asarray(values <= low), np.asarray(values >= high)
        above = self._positions(inside, starts, np.less_equal)
        before = np.subtract(above, 1, out=np.empty_like(above))
        np.clip(before, starts, starts + (last - 1), out=before)
        left, width = self._take(before, low), self._take(np.add(before, 1, out=before), high)
        np.subtract(width, left, out=width)
        np.copyto(width, 1.0, where=~(width > 0))
        tied = (left == inside) & ~lowest & ~highest
        ranks = np.subtract(inside, left, out=left)
        np.divide(ranks, width, out=ranks)
        np.minimum(ranks, 1.0, out=ranks)
        np.copyto(width, np.subtract(before, starts + 1, out=before))
        np.add(width, ranks, out=ranks)
        if tied.any():
            own = starts[tied]
            below = self._positions(inside[tied], own, np.less) - own
            ranks[tied] = 0.5 * (below + (above[tied] - own - 1))
        np.copyto(ranks, last, where=highest)
        np.copyto(ranks, 0.0, where=lowest)
        return np.divide(ranks, last, out=ranks)

    def _positions(self, values: Floats, starts: NDArray[np.intp], compare: np.ufunc) -> NDArray[np.intp]:
        """Where in `numbers` the first is of each table that does not `compare` to the value, or the table's end.

        A binary search in all tables at once, in which every value takes the same steps.
        """
        position = starts.copy()
        place, number, found = np.empty_like(position), np.empty(values.shape), np.empty(values.shape, np.bool_)
        size = self.count
        while size:
            half = max(1, size // 2)
            self._take(np.add(position, half - 1, out=place), number)
            compare(number, values, out=found)
            np.multiply(found, half, out=place)
            np.add(position, place, out=position)
            size = size - half if size > 1 else 0
        return position

    def _take(self, places: NDArray[np.intp], out: Floats) -> Floats:
        """`out` with the numbers at `places`, of which none is out of range; the mode that wraps those is the fastest."""
        return np.take(self.numbers, places, out=out, mode="wrap")

    def values(self, fractions: Floats, starts: NDArray[np.intp]) -> Floats:
        """What lies at `fractions` of the tables that start at `starts`."""
        last = self.count - 1
        steps = np.arange(self.count) / last
        before = np.clip(np.searchsorted(steps, fractions, side="right") - 1, 0, last - 1)
        left, right = self.numbers[starts + before], self.numbers[starts + before + 1]
        between = np.asarray(left + (fractions - steps[before]) * last * (right - left))
        return np.asarray(np.where(fractions == 1, right, np.minimum(between, right)))
