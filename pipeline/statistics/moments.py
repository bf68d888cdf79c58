"""The summary that suits any real dtype: counts, extrema and exact power sums.

Not here: adding up a block (`accumulate.py`) and what follows from the sums (`describe.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.block import Block
from pipeline.dtypes import is_supported
from pipeline.errors import DataError
from pipeline.statistics.arrays import take
from pipeline.statistics.describe import EXTREMA_DTYPES, Counts, Statistics, extrema_dtype, extrema_identities
from pipeline.statistics.exact import PowerSums


@dataclass(frozen=True, eq=False)
class Moments:
    """Counts, extrema and Σx, Σx², Σx³, Σx⁴ of finite values, all exact; see `Summary` for the laws it obeys.

    Parameters
    ----------
    counts : ndarray of int64
        Shape (5,) + feature shape: how many values are finite, NaN, +inf, −inf and zero.
    min, max : ndarray of float64, int64 or uint64
        Extrema of the finite values; +inf and −inf, or the dtype's largest and smallest integer, where there are none.
    sums : PowerSums

    Examples
    --------
    >>> values = np.array([[1.0, np.nan], [2.0, 1e300]])
    >>> moments = Moments.empty((2,), values.dtype).update(values, (1,))
    >>> moments.statistics().mean().tolist()
    [1.5, 1e+300]
    """

    name: ClassVar[str] = "moments"
    bitwise: ClassVar[bool] = True
    whole_features: ClassVar[bool] = False

    counts: Counts
    min: NDArray[Any]
    max: NDArray[Any]
    sums: PowerSums

    @property
    def feature_shape(self) -> tuple[int, ...]:
        return self.counts.shape[1:]

    @classmethod
    def empty(cls, feature_shape: tuple[int, ...], dtype: np.dtype[Any], among: int | None = None) -> Moments:
        """The summary of no values of `dtype`, which is bool, an integer or a float of at most 64 bits.

        Raises
        ------
        DataError
            Where `dtype` is something else.
        """
        if not is_supported(dtype):
            raise DataError("no moments of this dtype", found=dtype, expected="a real dtype of at most 64 bits")
        least, greatest = extrema_identities(extrema_dtype(dtype))
        counts = np.zeros((5, *feature_shape), np.int64)
        return cls(counts, np.full(feature_shape, least), np.full(feature_shape, greatest), PowerSums.zero(feature_shape))

    def update(self, values: NDArray[Any], feature_axes: tuple[int, ...]) -> Moments:
        """This summary merged with that of `values`, whose `feature_axes` (ascending) are kept and others reduced."""
        from pipeline.statistics.accumulate import accumulate

        shape = tuple(values.shape[axis] for axis in feature_axes)
        block = accumulate(values, feature_axes)
        added = Moments(block.counts.reshape(5, *shape), block.min.reshape(shape), block.max.reshape(shape), block.sums(shape))
        return self.merge(added)

    def merge(self, other: Moments) -> Moments:
        """The summary of the values of both, which have the same feature shape and the same kind of dtype.

        Raises
        ------
        DataError
            Where they have not.
        """
        mine, theirs = (self.feature_shape, self.min.dtype), (other.feature_shape, other.min.dtype)
        if mine != theirs:
            raise DataError("summaries of different features or dtypes", found=theirs, expected=mine)
        counts = self.counts + other.counts
        low, high = np.minimum(self.min, other.min), np.maximum(self.max, other.max)
        return Moments(counts, np.asarray(low), np.asarray(high), self.sums + other.sums)

    def sum_features(self, axes: tuple[int, ...]) -> Moments:
        """The summary that would have been kept without the feature axes `axes`."""
        least, greatest = extrema_identities(self.min.dtype)
        return Moments(
            self.counts.sum(axis=tuple(axis + 1 for axis in axes)),
            np.asarray(self.min.min(axis=axes, initial=least)),
            np.asarray(self.max.max(axis=axes, initial=greatest)),
            self.sums.sum_features(axes),
        )

    @classmethod
    def join(cls, parts: Sequence[tuple[Block, Moments]], feature_shape: tuple[int, ...]) -> Moments:
        """One summary from those of disjoint boxes of features that tile `feature_shape`; at least one part."""
        counts = np.zeros((5, *feature_shape), np.int64)
        low = np.empty(feature_shape, parts[0][1].min.dtype)
        high = np.empty_like(low)
        for box, part in parts:
            counts[(slice(None), *box.slices)] = part.counts
            low[box.slices] = part.min
            high[box.slices] = part.max
        return cls(counts, low, high, PowerSums.join([(box, part.sums) for box, part in parts], feature_shape))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The whole state, canonical: `counts`, `min`, `max` and the arrays of `PowerSums`."""
        return {"counts": self.counts, "min": self.min, "max": self.max, **self.sums.arrays()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Moments:
        """The summary that gave `arrays`; raises ManifestError where they do not fit together."""
        low = take(arrays, "min", EXTREMA_DTYPES)
        high = take(arrays, "max", low.dtype, low.shape)
        counts = take(arrays, "counts", np.int64, (5, *low.shape))
        return cls(counts, low, high, PowerSums.from_arrays(arrays, low.shape))

    def statistics(self, nan_policy: str = "skip") -> Statistics:
        """What follows from this summary."""
        nobs, nan, posinf, neginf, zeros = (np.asarray(count) for count in self.counts)
        return Statistics(nobs, nan, posinf, neginf, zeros, self.min, self.max, self.sums, nan_policy)
