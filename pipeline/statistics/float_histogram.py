"""The summary from which quantiles follow: how often values occur in buckets that are cut from their bit patterns.

Not here: the lists of buckets (`buckets.py`), exact histograms of small integers (`histogram.py`), and quantiles
(`distribution.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.block import Block
from pipeline.errors import DataError, ManifestError
from pipeline.statistics.arrays import take
from pipeline.statistics.buckets import (
    BITS_SHAPE,
    FULL_BITS,
    LEAST_BITS,
    Buckets,
    Limits,
    count_block,
    lengths_of,
    merge_buckets,
)
from pipeline.statistics.distribution import Distribution, Frequencies, Integers
from pipeline.statistics.ties import split_ties
from pipeline.statistics.tiles import collapse

ENTRIES = 2**22
ENTRIES_PER_FEATURE = (1024, 65536)
ENTRY_BYTES = 17
FEATURE_BYTES = 8 * (2 + prod(BITS_SHAPE))


@dataclass(frozen=True, eq=False)
class FloatHistogram:
    """Counts of the finite values of any real dtype in buckets of a relative width; see `Summary` for the laws it obeys.

    Two values are *apart*, in buckets of their own, where they differ in sign, exponent or the first `bits` mantissa bits (of
    subnormal numbers: as many significant bits). For every feature `bits` is the finest level, of 52 at most, at which no
    more than `entries_at_most(features)` buckets are occupied, but never less than 7.

    They are apart as well where little else lies around them. Numbers are the leaves of a binary tree, their bits the turns;
    where values of the feature went both ways is a *fork*. Values are apart whose ways part at a fork above which there are
    fewer than log₂ `entries_at_most(features)` others. So a mode that is narrow has that many buckets over, divided by two for
    every fork on the way to it, wherever it lies and whatever else there is: at mean 1e8 beside values near 0, too.

    Both rules only ever become coarser as values are added, and what they ask of the values the buckets tell. The summary
    is therefore a function of the multiset of values, and merging is exact. −0.0 is 0, a bucket of its own. A feature with few
    different values is kept exactly, and of the others every bucket in which all values are the same.

    The middle of a bucket is off by at most 2^−(bits + 1) of the value, 0.39 % at the coarsest. Of many values within
    2^−bits of each other, amid others as dense, the order is lost: `Distribution.rank_error` tells how many those are. NaN and
    infinities are left out; integers of 64 bits are rounded to float64.

    Parameters
    ----------
    keys : ndarray of int64
        Shape (entries,): the least bit pattern of a bucket, with the magnitude bits of negative numbers flipped, so that
        keys order as numbers do; ascending within a feature.
    sizes : ndarray of uint8
        Shape (entries,): the bucket is for 2^size bit patterns, the least that its values fit; 0 where they are all the same.
    counts : ndarray of int64
        Shape (entries,): at least 1.
    ends : ndarray of int64
        Of the feature shape: where the list of a feature, in C order, ends.
    bits : ndarray of int64
        Of the feature shape: the level.
    set_bits : ndarray of int64
        Of the feature shape and (4, 46): how many values of each of four classes, by a hash, have each of the last 45 mantissa
        bits set, the last one first; and how many there are. Where most values of a bucket are equal, that tells which value it
        is (`ties.py`).
    among : int
        How many features there are in all, of which these may be a part; `features` above.

    Examples
    --------
    >>> values = np.array([3.0, -0.0, 0.0, 1e8 + 1, 1e8 + 2, np.nan])
    >>> distribution = FloatHistogram.empty((), values.dtype).update(values, ()).distribution()
    >>> distribution.values.tolist(), distribution.counts.tolist(), distribution.relative_error
    ([0.0, 3.0, 100000001.0, 100000002.0], [2, 1, 1, 1], 0.0)
    """

    name: ClassVar[str] = "float_histogram"
    bitwise: ClassVar[bool] = True
    whole_features: ClassVar[bool] = False

    keys: Integers
    sizes: NDArray[np.uint8]
    counts: Integers
    ends: Integers
    bits: Integers
    set_bits: Integers
    among: int

    @property
    def feature_shape(self) -> tuple[int, ...]:
        return self.ends.shape

    @classmethod
    def empty(cls, feature_shape: tuple[int, ...], dtype: np.dtype[Any], among: int | None = None) -> FloatHistogram:
        """The summary of no values of `dtype`; raises DataError where that is not real or has more than 64 bits."""
        if dtype.kind not in "biuf" or dtype.itemsize > 8:
            raise DataError("no histogram of this dtype", found=dtype, expected="a real dtype of at most 64 bits")
        features = prod(feature_shape)
        nothing = Buckets.none(np.full(features, FULL_BITS))
        return _of(nothing, np.zeros((features, *BITS_SHAPE), np.int64), feature_shape, features if among is None else among)

    def update(self, values: NDArray[Any], feature_axes: tuple[int, ...]) -> FloatHistogram:
        """This summary merged with that of `values`, whose `feature_axes` (ascending) are kept and others reduced."""
        counted = count_block(collapse(values, feature_axes), self.bits.ravel(), limits_of(self.among))
        return self.merge(_of(*counted, tuple(values.shape[axis] for axis in feature_axes), self.among))

    def merge(self, other: FloatHistogram) -> FloatHistogram:
        """The summary of the values of both; raises DataError where they are of different features."""
        if self.feature_shape != other.feature_shape:
            raise DataError("summaries of different features", found=other.feature_shape, expected=self.feature_shape)
        if self.among != other.among:
            raise DataError("parts of wholes of different sizes", found=f"{other.among} features", expected=self.among)
        for one, two in ((self, other), (other, self)):
            if not len(one.keys) and (one.bits == FULL_BITS).all():
                return two
        merged = merge_buckets(self._buckets(), other._buckets(), limits_of(self.among))
        return _of(merged, self.set_bits + other.set_bits, self.feature_shape, self.among)

    def sum_features(self, axes: tuple[int, ...]) -> FloatHistogram:
        """The summary of all values without the feature axes `axes`.

        It is the one that would have been kept where the lists that are put together are exact; else their level is the
        coarsest of theirs, while alone it might have been finer. The bound on the relative error is the same.
        """
        left = tuple(size for axis, size in enumerate(self.feature_shape) if axis not in axes)
        kept = [1 if axis in axes else size for axis, size in enumerate(self.feature_shape)]
        target = np.broadcast_to(np.arange(prod(left)).reshape(kept), self.feature_shape).ravel()
        features = np.repeat(target, lengths_of(self.ends))
        order = np.lexsort((-self.sizes.astype(np.int64), self.keys, features))
        ends = np.cumsum(np.bincount(features, minlength=prod(left)), dtype=np.int64)
        bits = np.asarray(self.bits.min(axis=axes, initial=FULL_BITS)).ravel()
        together = Buckets(self.keys[order], self.sizes[order], self.counts[order], ends, bits)
        merged = merge_buckets(together, Buckets.none(bits), limits_of(prod(left)))
        return _of(merged, self.set_bits.sum(axis=axes), left, prod(left))

    @classmethod
    def join(cls, parts: Sequence[tuple[Block, FloatHistogram]], feature_shape: tuple[int, ...]) -> FloatHistogram:
        """One summary from those of disjoint boxes of features that tile `feature_shape`; at least one part."""
        among = prod(feature_shape)
        index = np.arange(among).reshape(feature_shape)
        order = np.argsort(np.concatenate([index[box.slices].ravel() for box, _ in parts]))
        joined = Buckets.concatenate([part._buckets() for _, part in parts]).take(order)
        set_bits = np.concatenate([part.set_bits.reshape(-1, *BITS_SHAPE) for _, part in parts])[order]
        if any(part.among != among for _, part in parts):
            joined = merge_buckets(joined, Buckets.none(joined.bits), limits_of(among))
        return _of(joined, set_bits, feature_shape, among)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The whole state, by the names of the parameters."""
        return {each.name: np.asarray(getattr(self, each.name)) for each in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> FloatHistogram:
        """The summary that gave `arrays`; raises ManifestError where they do not fit together."""
        ends = take(arrays, "ends", np.int64)
        bits = take(arrays, "bits", np.int64, ends.shape)
        entries = int(ends.ravel()[-1]) if ends.size else 0
        keys, counts = (take(arrays, name, np.int64, (entries,)) for name in ("keys", "counts"))
        sizes = take(arrays, "sizes", np.uint8, (entries,))
        set_bits = take(arrays, "set_bits", np.int64, (*ends.shape, *BITS_SHAPE))
        among = int(take(arrays, "among", np.int64, ()))
        wrong_bits = (bits < LEAST_BITS) | (bits > FULL_BITS)
        if (lengths_of(ends) < 0).any() or wrong_bits.any() or (counts < 1).any() or (sizes > FULL_BITS - LEAST_BITS).any():
            raise ManifestError("lists of buckets that do not fit together", where="ends, bits, counts, sizes")
        if among < ends.size:
            expected = f"{ends.size} or more"
            raise ManifestError("fewer features in all than in a part", where="among", found=among, expected=expected)
        return cls(keys, sizes, counts, ends, bits, set_bits, among)

    def _buckets(self) -> Buckets:
        return Buckets(self.keys, self.sizes, self.counts, self.ends.ravel(), self.bits.ravel())

    def distribution(self, counts: Frequencies | None = None, set_bits: Frequencies | None = None) -> Distribution:
        """The middles of the buckets with their counts; the values themselves where a bucket holds but one.

        `counts` and `set_bits` are other ones than its own, such as sums of weights.
        """
        from pipeline.statistics.kernel_buckets import find_middles

        counts, set_bits = self.counts if counts is None else counts, self.set_bits if set_bits is None else set_bits
        patterns, radius, even = np.empty_like(self.keys), np.empty(self.keys.shape), np.empty(self.keys.shape, np.bool_)
        find_middles(self.keys, self.sizes, patterns, radius, even)
        inexact = (radius, even) if self.sizes.any() else (None, None)
        middles = Distribution(self.feature_shape, patterns.view(np.float64), counts, self.ends.ravel(), *inexact)
        return split_ties(self._buckets(), counts, set_bits.reshape(-1, *BITS_SHAPE), middles)

    def counts_of(self, part: FloatHistogram) -> Integers:
        """How many values of each bucket are those of `part`, which is a summary of some of the values."""
        return self.merge(part).counts - self.counts


def entries_at_most(features: int) -> int:
    """How many buckets each of so many features may have before they are made coarser: 1024 to 65536."""
    least, most = ENTRIES_PER_FEATURE
    return min(max(ENTRIES // max(1, features), least), most)


def limits_of(features: int) -> Limits:
    """How far the buckets of each of so many features are made coarser."""
    entries = entries_at_most(features)
    return Limits(entries, entries.bit_length() - 1)


def float_histogram_bytes(features: int, values: int | None = None) -> int:
    """About the memory of one summary of so many features, each with so many values that all differ.

    A feature takes `entries_at_most(features)` buckets, or what it occupies at 7 bits, which is more where values spread
    over more than 8 octaves: at most 128 an octave and sign. The estimate is that of a density that is not 0 at zero on
    both sides, as a centred normal one has it: `256·(log₂ values − 4)`. Values spread evenly over many octaves take more.
    """
    entries = entries_at_most(features)
    if values is not None:
        near_zero = 2 * 2**LEAST_BITS * (values.bit_length() - 4)
        entries = min(max(entries, near_zero), values)
    return features * (entries * ENTRY_BYTES + FEATURE_BYTES)


def _of(buckets: Buckets, set_bits: Integers, feature_shape: tuple[int, ...], among: int) -> FloatHistogram:
    ends, bits = buckets.ends.reshape(feature_shape), buckets.bits.reshape(feature_shape)
    return FloatHistogram(*buckets[:3], ends, bits, set_bits.reshape(*feature_shape, *BITS_SHAPE), among)
