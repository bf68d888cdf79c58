"""How finite values are distributed: sorted values with counts, a list for every feature, and what follows from them.

Not here: reading the values (`float_histogram.py`, `histogram.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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

    Where there were more different values than a summary keeps, neighbours share a representative that is near them all:
    for every observation `|value − true value| ≤ relative_error · |true value − origin|`. The bound holds for every order
    statistic too, and a quantile between order statistics `a` and `b` is off by at most
    `relative_error · max(|a − origin|, |b − origin|)`.

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
    relative_error : float
        0.0 where the values are the observations themselves.
    origin : ndarray of float64, optional
        Of the feature shape: what `relative_error` is relative to the distance from. Without it 0; what an affine step makes of
        values it makes of this as well.

    Examples
    --------
    >>> one = Distribution((), np.array([1.0, 2.0, 10.0]), np.array([1, 1, 2]), np.array([3]), 0.0)
    >>> one.quantile([0.0, 0.5, 1.0]).tolist(), float(one.median_absolute_deviation())
    ([1.0, 6.0, 10.0], 4.0)
    """

    feature_shape: tuple[int, ...]
    values: Floats
    counts: Frequencies
    ends: Integers
    relative_error: float
    origin: Floats | None = None

    @property
    def weighted(self) -> bool:
        """Whether `counts` are sums of weights that are not whole numbers."""
        return self.counts.dtype.kind == "f"

    def nobs(self) -> Frequencies:
        """How many observations each feature has, or how much they weigh, of the feature shape."""
        if self.weighted:
            return np.bincount(self._features(), weights=self.counts, minlength=len(self.ends)).reshape(self.feature_shape)
        cumulative = np.concatenate([[0], np.cumsum(self.counts)])
        return np.diff(cumulative[self.ends], prepend=0).astype(np.int64).reshape(self.feature_shape)

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
        wanted = np.asarray(probabilities, np.float64)
        if not ((wanted >= 0) & (wanted <= 1)).all():
            raise DataError("not a probability", found=wanted.tolist(), expected="numbers from 0 to 1")
        if self.weighted:
            return self._weighted_quantile(wanted.ravel()).reshape(wanted.shape + self.feature_shape)
        nobs = self.nobs().ravel().astype(np.int64)
        last = np.maximum(nobs - 1, 0)
        virtual = wanted.reshape(-1, 1) * last
        rank = np.floor(virtual).astype(np.int64)
        low, high = self._order_statistics(np.stack([rank, np.minimum(rank + 1, last)]), nobs)
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

    def median_absolute_deviation(self, center: ArrayLike | None = None) -> Floats:
        """The median of |x − center|, where `center` (broadcastable to the feature shape) is the median if not given.

        Returns
        -------
        ndarray of float64
            Of the feature shape, not scaled to a normal distribution's standard deviation; NaN for a feature without
            observations.
        """
        deviations = self._deviations(self.quantile(0.5) if center is None else center)
        return from_entries(self.feature_shape, self._features(), deviations, self.counts, 0.0).quantile(0.5)

    def mean_absolute_deviation(self, center: ArrayLike) -> Floats:
        """Σ|x − center| / n, where `center` is broadcastable to the feature shape; NaN for a feature without observations."""
        features, nobs = self._features(), self.nobs().ravel()
        parts = self._deviations(center) * (self.counts / nobs[features])
        means = np.bincount(features, weights=parts, minlength=len(nobs))
        return np.where(nobs > 0, means, np.nan).reshape(self.feature_shape)

    def each(self) -> Iterator[tuple[int, Floats, Frequencies]]:
        """(flat index of the feature, its values ascending, their counts) for every feature, also those without any."""
        start = 0
        for feature, end in enumerate(self.ends.tolist()):
            yield feature, self.values[start:end], self.counts[start:end]
            start = end

    def sum_features(self, axes: tuple[int, ...]) -> Distribution:
        """The distribution that would have been kept without the feature axes `axes`, the observations being the same.

        Where origins differ the error is given relative to 0, and infinite where a value cannot be told from 0.
        """
        left = tuple(size for axis, size in enumerate(self.feature_shape) if axis not in axes)
        index = np.arange(prod(left)).reshape([1 if axis in axes else size for axis, size in enumerate(self.feature_shape)])
        features = np.broadcast_to(index, self.feature_shape).ravel()[self._features()]
        return from_entries(left, features, self.values, self.counts, self._error_relative_to_zero())

    def take_features(self, axis: int, positions: NDArray[np.intp]) -> Distribution:
        """The distribution of the features at `positions`, ascending, along one feature axis."""
        index = np.arange(prod(self.feature_shape)).reshape(self.feature_shape).take(positions, axis=axis)
        lengths = np.diff(self.ends, prepend=0)
        entries = np.isin(self._features(), index)
        origin = None if self.origin is None else self._origin().take(index)
        ends = np.cumsum(lengths.take(index.ravel()), dtype=np.int64)
        return Distribution(index.shape, self.values[entries], self.counts[entries], ends, self.relative_error, origin)

    def _features(self) -> Integers:
        """The flat index of the feature of every entry."""
        return np.repeat(np.arange(len(self.ends)), np.diff(self.ends, prepend=0))

    def _parameter(self, parameter: ArrayLike) -> Floats:
        return np.broadcast_to(np.asarray(parameter, np.float64), self.feature_shape).ravel()

    def _origin(self) -> Floats:
        return self._parameter(0.0 if self.origin is None else self.origin)

    def _deviations(self, center: ArrayLike) -> Floats:
        with np.errstate(over="ignore"):
            return np.abs(self.values - self._parameter(center)[self._features()])

    def _order_statistics(self, rank: Integers, nobs: Integers) -> Floats:
        """The observation of each `rank` (…, features), counted from 0; anything for a feature without observations."""
        if not len(self.values):
            return np.zeros(rank.shape)
        before = np.cumsum(nobs) - nobs
        at = np.searchsorted(np.cumsum(self.counts), before + rank, side="right")
        return self.values[np.minimum(at, len(self.values) - 1)]

    def _error_relative_to_zero(self) -> float:
        if self.relative_error == 0.0 or not self._origin().any():
            return self.relative_error
        distance = np.abs(self.values - self._origin()[self._features()])
        error = self.relative_error / (1 - self.relative_error) * distance
        least = np.abs(self.values) - error
        return float(np.max(error / np.where(least > 0, least, 1.0), initial=0.0)) if (least > 0).all() else np.inf


def _interpolate(low: Floats, high: Floats, part: Floats) -> Floats:
    """low + part·(high − low), rounded as NumPy rounds it, and without overflow."""
    with np.errstate(over="ignore", invalid="ignore"):
        distance = high - low
        between = np.where(part < 0.5, low + distance * part, high - distance * (1 - part))
    return np.where(np.isfinite(distance), between, low * (1 - part) + high * part)


def from_entries(
    feature_shape: tuple[int, ...], features: Integers, values: Floats, counts: Frequencies, relative_error: float
) -> Distribution:
    """The distribution of finite values in any order, each with its feature's flat index and its count.

    Equal values of a feature become one entry, zeros of either sign 0.
    """
    if (features[1:] < features[:-1]).any():
        order = np.argsort(features, kind="stable")
        features, values, counts = features[order], values[order], counts[order]
    values, counts = _ascending(features, values, counts)
    first = np.ones(len(values), np.bool_)
    first[1:] = (features[1:] != features[:-1]) | (values[1:] != values[:-1])
    starts = np.flatnonzero(first)
    sums = np.add.reduceat(counts, starts) if len(starts) else counts
    ends = np.cumsum(np.bincount(features[starts], minlength=prod(feature_shape)), dtype=np.int64)
    return Distribution(feature_shape, values[starts] + 0.0, sums, ends, relative_error)


def _ascending(features: Integers, values: Floats, counts: Frequencies) -> tuple[Floats, Frequencies]:
    """`values` and `counts` with each feature's values in ascending order, the features being ascending."""
    falls = (values[1:] < values[:-1]) & (features[1:] == features[:-1])
    if falls.any():
        values, counts = values.copy(), counts.copy()
    for feature in np.unique(features[1:][falls]):
        its = slice(*np.searchsorted(features, [feature, feature + 1]))
        order = np.argsort(values[its], kind="stable")
        values[its], counts[its] = values[its][order], counts[its][order]
    return values, counts
