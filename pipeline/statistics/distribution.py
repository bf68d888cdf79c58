"""How finite values are distributed: sorted values with counts, a list for every feature, and what follows from them.

Not here: reading the values (`float_histogram.py`, `histogram.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import DataError

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Frequencies: TypeAlias = Integers | Floats


@dataclass(frozen=True, eq=False)
class Distribution:
    """Sorted finite values with their counts, one list per feature, the lists one after the other in C order.

    Where there were more different values than a summary keeps, neighbours share an entry, none of them further from its
    value than its `radius`. Where it is `even`, the observation of a rank is taken from between `value − radius` and
    `value + radius`, as if they lay there evenly; else it is the value.

    Parameters
    ----------
    feature_shape : tuple of int
        `()` where one list is kept for everything.
    values : ndarray of float64
        Shape (entries,), ascending within a feature.
    counts : ndarray of int64, or of float64
        Shape (entries,): how often each occurs, at least once; or the sum of its observations' weights, where these are not
        whole numbers.
    ends : ndarray of int64
        Shape (features,): where the list of each feature ends; it begins where that of the feature before it ends.
    radius : ndarray of float64, optional
        Shape (entries,): how far the observations of an entry may be from its value. Without it they are the values.
    even : ndarray of bool, optional
        Shape (entries,). Without it none is.
    origin : ndarray of float64, optional
        Of the feature shape: what errors are relative to the distance from. Without it 0; `affine` moves it.

    Examples
    --------
    >>> one = Distribution((), np.array([1.0, 2.0, 10.0]), np.array([1, 1, 2]), np.array([3]))
    >>> one.quantile([0.0, 0.5, 1.0]).tolist(), float(one.median_absolute_deviation())
    ([1.0, 6.0, 10.0], 4.0)
    """

    feature_shape: tuple[int, ...]
    values: Floats
    counts: Frequencies
    ends: Integers
    radius: Floats | None = None
    even: NDArray[np.bool_] | None = None
    origin: Floats | None = None

    @property
    def weighted(self) -> bool:
        """Whether `counts` are sums of weights that are not whole numbers."""
        return self.counts.dtype.kind == "f"

    @property
    def relative_error(self) -> float:
        """How far an order statistic may be off, relative to its distance from `origin`; 0.0 where all are exact.

        For every observation `|value − true value| ≤ relative_error · |true value − origin|`, and a quantile between order
        statistics `a` and `b` is off by at most `relative_error · max(|a − origin|, |b − origin|)`. Infinite where a value
        cannot be told from the origin.
        """
        return float(np.max(self._errors[0], initial=0.0))

    @property
    def rank_errors(self) -> Floats:
        """The largest part of each feature's observations that share an entry and are not known to be equal.

        Which part of the observations is below a value is off by no more than that.
        """
        return self._errors[1].reshape(self.feature_shape)

    @cached_property
    def _errors(self) -> tuple[Floats, Floats]:
        """The relative error and the rank error of each feature."""
        relative, rank = np.zeros(len(self.ends)), np.zeros(len(self.ends))
        if self.radius is not None:
            from pipeline.statistics.kernel_buckets import find_errors

            even = np.zeros(len(self.values), np.bool_) if self.even is None else self.even
            nobs = self.nobs().ravel()
            find_errors(self.values, self.counts, self.radius, even, self.ends, self._origin(), nobs, relative, rank)
        return relative, rank

    @property
    def rank_error(self) -> float:
        """The largest of `rank_errors`."""
        return float(np.max(self.rank_errors, initial=0.0))

    def nobs(self) -> Frequencies:
        """How many observations each feature has, or how much they weigh, of the feature shape."""
        if self.weighted:
            return np.bincount(self._features, weights=self.counts, minlength=len(self.ends)).reshape(self.feature_shape)
        if not len(self.counts):
            return np.zeros(self.feature_shape, np.int64)
        up_to = np.where(self.ends > 0, self._cumulative[self.ends - 1], 0)
        return np.diff(up_to, prepend=0).reshape(self.feature_shape)

    def quantile(self, probabilities: ArrayLike) -> Floats:
        """The values below which given parts of the observations are, by linear interpolation between order statistics.

        As `numpy.quantile` has it with its default method, and equal to it bit for bit where `relative_error` is 0: with
        the virtual index `i = p·(n − 1)`, `x[⌊i⌋] + (i − ⌊i⌋)·(x[⌊i⌋ + 1] − x[⌊i⌋])`. Where observations have weights that are
        not whole numbers: the smallest value up to which the weights come to p of their sum, as `numpy.quantile` has it with
        `weights` and the method "inverted_cdf", where p may be off by the rounding of that sum.

        Parameters
        ----------
        probabilities : array_like of float
            From 0 to 1.

        Returns
        -------
        ndarray of float64
            Shape of `probabilities` + feature shape; NaN for a feature without observations.

        Raises
        ------
        DataError
            Where a probability is not between 0 and 1.
        """
        wanted = _checked(probabilities)
        if self.weighted:
            return self._weighted_quantile(wanted.ravel()).reshape(wanted.shape + self.feature_shape)
        return self._quantile(wanted)

    def _quantile(self, wanted: Floats, end: int = 0) -> Floats:
        """What `quantile` says, were all values of an entry its lower `end` (−1) or its upper one (1)."""
        nobs = self.nobs().ravel().astype(np.int64)
        last = np.maximum(nobs - 1, 0)
        virtual = wanted.reshape(-1, 1) * last
        rank = np.floor(virtual).astype(np.int64)
        low, high = self._order_statistics(np.stack([rank, np.minimum(rank + 1, last)]), nobs, end)
        result = np.where(nobs > 0, _interpolate(low, high, virtual - rank), np.nan)
        return result.reshape(wanted.shape + self.feature_shape)

    def _weighted_quantile(self, wanted: Floats) -> Floats:
        """Of shape (wanted, features): each feature by itself, so that its bits are its own."""
        result = np.full((len(wanted), len(self.ends)), np.nan)
        for feature, values, weights in self.each():
            if len(values):
                cumulative = np.cumsum(weights)
                result[:, feature] = values[np.searchsorted(cumulative / cumulative[-1], wanted, side="left")]
        return result

    def bounds(self, probabilities: ArrayLike) -> tuple[Floats, Floats]:
        """Between which values the exact quantiles are: (lowest, highest), each as `quantile` has them."""
        if self.radius is None:
            exact = self.quantile(probabilities)
            return exact, exact
        if not self.weighted and self._ends_ascend():
            wanted = _checked(probabilities)
            return self._quantile(wanted, -1), self._quantile(wanted, 1)
        low, high = (
            from_entries(self.feature_shape, self._features, _end(self.values, self.radius, end), self.counts)
            for end in (-1, 1)
        )
        return low.quantile(probabilities), high.quantile(probabilities)

    def _ends_ascend(self) -> bool:
        """Whether the entries of each feature are in the order of their lower ends, and of their upper ones."""
        from pipeline.statistics.kernel_buckets import ends_ascend

        assert self.radius is not None
        return bool(ends_ascend(self.values, self.radius, self.ends))

    def deviations(self, center: ArrayLike) -> Distribution:
        """The distribution of |x − center|, where `center` is broadcastable to the feature shape."""
        deviations = self._deviations(center)
        even = None if self.even is None or self.radius is None else self.even & (self.radius <= deviations)
        return from_entries(self.feature_shape, self._features, deviations, self.counts, self.radius, even)

    def median_absolute_deviation(self, center: ArrayLike | None = None) -> Floats:
        """The median of |x − center|, where `center` (broadcastable to the feature shape) is the median if not given.

        Returns
        -------
        ndarray of float64
            Of the feature shape, not scaled to a normal distribution's standard deviation; NaN for a feature without
            observations.
        """
        return self.deviations(self.quantile(0.5) if center is None else center).quantile(0.5)

    def mean_absolute_deviation(self, center: ArrayLike) -> Floats:
        """Σ|x − center| / n, where `center` is broadcastable to the feature shape; NaN for a feature without observations."""
        features, nobs = self._features, self.nobs().ravel()
        parts = self._deviations(center) * (self.counts / nobs[features])
        means = np.bincount(features, weights=parts, minlength=len(nobs))
        return np.where(nobs > 0, means, np.nan).reshape(self.feature_shape)

    def each(self) -> Iterator[tuple[int, Floats, Frequencies]]:
        """(flat index of the feature, its values ascending, their counts) for every feature, also those without any."""
        start = 0
        for feature, end in enumerate(self.ends.tolist()):
            yield feature, self.values[start:end], self.counts[start:end]
            start = end

    def affine(self, center: ArrayLike, scale: ArrayLike, offset: ArrayLike, values: Floats) -> Distribution:
        """The distribution of `(x − center)·scale + offset`, with parameters that are broadcastable to the feature shape.

        A feature whose parameters make values that are not finite loses those. `origin` becomes what the step makes of it, but
        for rounding; `values` are what it makes of the values, to the last bit, since ties are found by equality.
        """
        features = self._features
        c, s, o = (self._parameter(each) for each in (center, scale, offset))
        with np.errstate(over="ignore", invalid="ignore"):
            origin = ((self._origin() - c) * s + o).reshape(self.feature_shape)
            radius = None if self.radius is None else self.radius * np.abs(s[features])
        kept = np.isfinite(values)
        moved = replace(self, values=values, radius=radius)._where(kept)
        result = from_entries(self.feature_shape, features[kept], moved.values, moved.counts, moved.radius, moved.even)
        return replace(result, origin=origin)

    def sum_features(self, axes: tuple[int, ...]) -> Distribution:
        """The distribution that would have been kept without the feature axes `axes`, the observations being the same.

        Where origins differ, errors are relative to 0.
        """
        left = tuple(size for axis, size in enumerate(self.feature_shape) if axis not in axes)
        index = np.arange(prod(left)).reshape([1 if axis in axes else size for axis, size in enumerate(self.feature_shape)])
        features = np.broadcast_to(index, self.feature_shape).ravel()[self._features]
        return from_entries(left, features, self.values, self.counts, self.radius, self.even)

    def take_features(self, axis: int, positions: NDArray[np.intp]) -> Distribution:
        """The distribution of the features at `positions`, ascending, along one feature axis."""
        index = np.arange(prod(self.feature_shape)).reshape(self.feature_shape).take(positions, axis=axis)
        taken = self._where(np.isin(self._features, index))
        ends = np.cumsum(np.diff(self.ends, prepend=0).take(index.ravel()), dtype=np.int64)
        origin = None if self.origin is None else self._origin().take(index)
        return replace(taken, feature_shape=index.shape, ends=ends, origin=origin)

    def above(self, bound: float) -> Distribution:
        """The distribution of the values above `bound`."""
        kept = self.values > bound
        ends = np.cumsum(np.bincount(self._features[kept], minlength=len(self.ends)), dtype=np.int64)
        return replace(self._where(kept), ends=ends)

    def _where(self, kept: NDArray[np.bool_]) -> Distribution:
        """The entries at `kept`, with ends that are wrong."""
        radius = None if self.radius is None else self.radius[kept]
        even = None if self.even is None else self.even[kept]
        return replace(self, values=self.values[kept], counts=self.counts[kept], radius=radius, even=even)

    @cached_property
    def _features(self) -> Integers:
        """The flat index of the feature of every entry."""
        return np.repeat(np.arange(len(self.ends)), np.diff(self.ends, prepend=0))

    @cached_property
    def _cumulative(self) -> Integers:
        """How many observations there are up to each entry, those of the features before it too."""
        return np.cumsum(self.counts, dtype=np.int64)

    def _parameter(self, parameter: ArrayLike) -> Floats:
        return np.broadcast_to(np.asarray(parameter, np.float64), self.feature_shape).ravel()

    def _origin(self) -> Floats:
        return self._parameter(0.0 if self.origin is None else self.origin)

    def _deviations(self, center: ArrayLike) -> Floats:
        with np.errstate(over="ignore"):
            return np.abs(self.values - self._parameter(center)[self._features])

    def _order_statistics(self, rank: Integers, nobs: Integers, end: int) -> Floats:
        """The observation of each `rank` (…, features), counted from 0; anything for a feature without observations.

        Where `end` is not 0, the lower (−1) or upper end (1) of the entry that it is in.
        """
        if not len(self.values):
            return np.zeros(rank.shape)
        overall = np.cumsum(nobs) - nobs + rank
        at = np.minimum(np.searchsorted(self._cumulative, overall, side="right"), len(self.values) - 1)
        values = self.values[at]
        if self.radius is None:
            return values
        if end:
            return _end(values, self.radius[at], end)
        if self.even is None:
            return values
        behind = self._cumulative[at] - overall
        part = 1 - (2 * behind - 1) / self.counts[at]
        return values + np.where(self.even[at], part * self.radius[at], 0.0)


def _end(values: Floats, radius: Floats, end: int) -> Floats:
    """The lower (−1) or upper end (1) of entries, the largest float64 where it is beyond."""
    largest = np.finfo(np.float64).max
    with np.errstate(over="ignore"):
        return np.clip(values + end * radius, -largest, largest)


def _checked(probabilities: ArrayLike) -> Floats:
    """`probabilities` as an array; raises DataError where one is not between 0 and 1."""
    wanted = np.asarray(probabilities, np.float64)
    if not ((wanted >= 0) & (wanted <= 1)).all():
        raise DataError("not a probability", found=wanted.tolist(), expected="numbers from 0 to 1")
    return wanted


def _interpolate(low: Floats, high: Floats, part: Floats) -> Floats:
    """low + part·(high − low), rounded as NumPy rounds it, and without overflow."""
    with np.errstate(over="ignore", invalid="ignore"):
        distance = high - low
        between = np.where(part < 0.5, low + distance * part, high - distance * (1 - part))
    return np.where(np.isfinite(distance), between, low * (1 - part) + high * part)


def from_entries(
    feature_shape: tuple[int, ...],
    features: Integers,
    values: Floats,
    counts: Frequencies,
    radius: Floats | None = None,
    even: NDArray[np.bool_] | None = None,
) -> Distribution:
    """The distribution of finite values in any order, each with its feature's flat index and its count.

    Equal values of a feature become one entry, zeros of either sign 0.
    """
    order = _ascending(features, values)
    features, values, counts = features[order], values[order], counts[order]
    first = np.ones(len(values), np.bool_)
    first[1:] = (features[1:] != features[:-1]) | (values[1:] != values[:-1])
    starts = np.flatnonzero(first)
    sums = np.add.reduceat(counts, starts) if len(starts) else counts
    ends = np.cumsum(np.bincount(features[starts], minlength=prod(feature_shape)), dtype=np.int64)
    if radius is not None and len(starts):
        radius = np.maximum.reduceat(radius[order], starts)
    if even is not None and len(starts):
        even = np.logical_and.reduceat(even[order], starts)
    return Distribution(feature_shape, values[starts] + 0.0, sums, ends, radius, even)


def _ascending(features: Integers, values: Floats) -> slice | Integers:
    """What puts the features in ascending order, and the values of each; stable."""
    if (features[1:] < features[:-1]).any():
        return np.lexsort((values, features))
    falls = (values[1:] < values[:-1]) & (features[1:] == features[:-1])
    if not falls.any():
        return slice(None)
    order = np.arange(len(values))
    for feature in np.unique(features[1:][falls]):
        its = slice(*np.searchsorted(features, [feature, feature + 1]))
        order[its] = its.start + np.argsort(values[its], kind="stable")
    return order
