"""The summary from which quantiles follow: how often values occur in buckets that are cut from their bit patterns.

Not here: the compiled sweeps (`kernel_buckets.py`), exact histograms of small integers (`histogram.py`), and quantiles
(`distribution.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.block import Block, tile
from pipeline.errors import DataError, ManifestError
from pipeline.statistics.arrays import take
from pipeline.statistics.distribution import Distribution
from pipeline.statistics.tiles import collapse

Integers: TypeAlias = NDArray[np.int64]
Lists: TypeAlias = tuple[Integers, Integers, Integers, Integers]

FULL_BITS = 52
LEAST_BITS = 7
ENTRIES = 2**22
ENTRIES_PER_FEATURE = (1024, 65536)
ENTRY_BYTES = 16
TILE_SIZE = 2**17
NEIGHBOURS = 16
LONG_STRIP = 2**20
SHORT_STRIP = 2**17
SINGLES = tuple(np.dtype(name) for name in ("float32", "float16", "bool", "int8", "uint8", "int16", "uint16"))


@dataclass(frozen=True, eq=False)
class FloatHistogram:
    """Counts of the finite values of any real dtype in buckets of a relative width; see `Summary` for the laws it obeys.

    A bucket holds the numbers that have their sign, exponent and first `bits` mantissa bits in common (of subnormal
    numbers: as many significant bits), zeros one of their own; −0.0 is 0. For every feature `bits` is the finest level, of
    52 at most, at which no more than `entries_at_most(features)` buckets are occupied, but never less than 7. Buckets nest,
    so that level is a function of the multiset of values and merging is exact: the union at the coarser of two levels,
    made coarser while it is too long. A feature with few different values is therefore kept exactly, and one whose values
    lie close together, as at mean 1e8 with unit variance, in buckets as narrow as there is room for.

    The middle of a bucket is off by at most 2^−(bits + 1) of the value, 0.39 % at the coarsest. NaN and infinities are left
    out; integers of 64 bits are rounded to float64.

    Parameters
    ----------
    keys : ndarray of int64
        Shape (entries,): the bit pattern of the number of the bucket that is nearest to zero, with the magnitude bits of
        negative ones flipped, so that keys order as numbers do; ascending within a feature.
    counts : ndarray of int64
        Shape (entries,): at least 1.
    ends : ndarray of int64
        Of the feature shape: where the list of a feature, in C order, ends.
    bits : ndarray of int64
        Of the feature shape: how many mantissa bits the keys are cut to.

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
    counts: Integers
    ends: Integers
    bits: Integers

    @property
    def feature_shape(self) -> tuple[int, ...]:
        return self.ends.shape

    @classmethod
    def empty(cls, feature_shape: tuple[int, ...], dtype: np.dtype[Any]) -> FloatHistogram:
        """The summary of no values of `dtype`; raises DataError where that is not real or has more than 64 bits."""
        if dtype.kind not in "biuf" or dtype.itemsize > 8:
            raise DataError("no histogram of this dtype", found=dtype, expected="a real dtype of at most 64 bits")
        nothing = np.zeros(0, np.int64)
        return cls(nothing, nothing, np.zeros(feature_shape, np.int64), np.full(feature_shape, FULL_BITS, np.int64))

    def update(self, values: NDArray[Any], feature_axes: tuple[int, ...]) -> FloatHistogram:
        """This summary merged with that of `values`, whose `feature_axes` (ascending) are kept and others reduced."""
        view = collapse(values, feature_axes)
        limit = entries_at_most(view.shape[1])
        slices = _feature_groups(view.shape)
        groups = [_count_group(view[:, features], self.bits.ravel()[features], limit) for features in slices]
        shape = tuple(values.shape[axis] for axis in feature_axes)
        return self.merge(_of(_concatenate(groups), shape))

    def merge(self, other: FloatHistogram) -> FloatHistogram:
        """The summary of the values of both; raises DataError where they are of different features."""
        if self.feature_shape != other.feature_shape:
            raise DataError("summaries of different features", found=other.feature_shape, expected=self.feature_shape)
        for one, two in ((self, other), (other, self)):
            if not len(one.keys) and (one.bits == FULL_BITS).all():
                return two
        limit = entries_at_most(self.ends.size)
        return _of(_merge(self._lists(), other._lists(), limit), self.feature_shape)

    def sum_features(self, axes: tuple[int, ...]) -> FloatHistogram:
        """The summary of all values without the feature axes `axes`.

        It is the one that would have been kept where the lists that are put together are exact; else their level is the
        coarsest of theirs, while alone it might have been finer. The bound on the relative error is the same.
        """
        left = tuple(size for axis, size in enumerate(self.feature_shape) if axis not in axes)
        kept = [1 if axis in axes else size for axis, size in enumerate(self.feature_shape)]
        target = np.broadcast_to(np.arange(prod(left)).reshape(kept), self.feature_shape).ravel()
        features = np.repeat(target, _lengths(self.ends))
        order = np.lexsort((self.keys, features))
        ends = np.cumsum(np.bincount(features, minlength=prod(left)), dtype=np.int64)
        bits = np.asarray(self.bits.min(axis=axes, initial=FULL_BITS))
        lists = (self.keys[order], self.counts[order], ends, np.full(prod(left), FULL_BITS))
        return _of(_merge(lists, _nothing(bits.ravel()), entries_at_most(prod(left))), left)

    @classmethod
    def join(cls, parts: Sequence[tuple[Block, FloatHistogram]], feature_shape: tuple[int, ...]) -> FloatHistogram:
        """One summary from those of disjoint boxes of features that tile `feature_shape`; at least one part."""
        if len(parts) == 1:
            return parts[0][1]
        index = np.arange(prod(feature_shape)).reshape(feature_shape)
        order = np.argsort(np.concatenate([index[box.slices].ravel() for box, _ in parts]))
        keys, counts, ends, bits = _concatenate([part._lists() for _, part in parts])
        lengths = _lengths(ends)[order]
        new_ends = np.cumsum(lengths)
        entries = np.arange(len(keys)) + np.repeat(ends[order] - new_ends, lengths)
        lists = (keys[entries], counts[entries], new_ends, bits[order])
        return _of(_merge(lists, _nothing(lists[3]), entries_at_most(prod(feature_shape))), feature_shape)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The whole state: `keys`, `counts`, `ends` and `bits`."""
        return {"keys": self.keys, "counts": self.counts, "ends": self.ends, "bits": self.bits}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> FloatHistogram:
        """The summary that gave `arrays`; raises ManifestError where they do not fit together."""
        ends = take(arrays, "ends", np.int64)
        bits = take(arrays, "bits", np.int64, ends.shape)
        entries = int(ends.ravel()[-1]) if ends.size else 0
        keys, counts = (take(arrays, name, np.int64, (entries,)) for name in ("keys", "counts"))
        if (_lengths(ends) < 0).any() or ((bits < LEAST_BITS) | (bits > FULL_BITS)).any() or (counts < 1).any():
            raise ManifestError("lists of buckets that do not fit together", where="ends, bits, counts")
        return cls(keys, counts, ends, bits)

    def _lists(self) -> Lists:
        return self.keys, self.counts, self.ends.ravel(), self.bits.ravel()

    def distribution(self) -> Distribution:
        """The middles of the buckets with their counts; the values themselves where no mantissa bit was dropped."""
        from pipeline.statistics.kernel_buckets import middles

        patterns = np.empty_like(self.keys)
        middles(self.keys, self.ends.ravel(), self.bits.ravel(), patterns)
        least = int(self.bits.min(initial=FULL_BITS))
        error = 0.0 if least == FULL_BITS else 2.0 ** -(least + 1)
        return Distribution(self.feature_shape, patterns.view(np.float64), self.counts, self.ends.ravel(), error)


def entries_at_most(features: int) -> int:
    """How many buckets each of so many features may have before they are made coarser: 1024 to 65536."""
    least, most = ENTRIES_PER_FEATURE
    return min(max(ENTRIES // max(1, features), least), most)


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
    return features * (entries + 1) * ENTRY_BYTES


def _lengths(ends: Integers) -> Integers:
    """How many entries each feature has, in C order."""
    return np.diff(ends.ravel(), prepend=0)


def _of(lists: Lists, feature_shape: tuple[int, ...]) -> FloatHistogram:
    keys, counts, ends, bits = lists
    return FloatHistogram(keys, counts, ends.reshape(feature_shape), bits.reshape(feature_shape))


def _nothing(bits: Integers) -> Lists:
    """Lists of no buckets at given levels."""
    nothing = np.zeros(0, np.int64)
    return nothing, nothing, np.zeros(len(bits), np.int64), bits


def _concatenate(parts: Sequence[Lists]) -> Lists:
    """The lists of all features of the parts, in their order."""
    nothing = np.zeros(0, np.int64)
    keys, counts, bits = (np.concatenate([nothing, *(part[at].ravel() for part in parts)]) for at in (0, 1, 3))
    return keys, counts, np.cumsum(np.concatenate([nothing, *(_lengths(part[2]) for part in parts)])), bits


def _merge(one: Lists, other: Lists, limit: int) -> Lists:
    """The buckets of both, feature by feature, no more than `limit` of each where the level allows it."""
    from pipeline.statistics.kernel_buckets import merge_lists

    most = len(one[0]) + len(other[0])
    merged = np.empty(most, np.int64), np.empty(most, np.int64), np.empty_like(one[2]), np.empty_like(one[3])
    end = merge_lists(one, other, limit, merged)
    for array in merged[:2]:
        array.resize(end, refcheck=False)  # gives the memory back that turned out to be too much, without a copy
    return merged


def _count_group(view: NDArray[Any], bits: Integers, limit: int) -> Lists:
    """The buckets, at `bits` or coarser, of some features of a block (outer, feature, inner)."""
    from pipeline.statistics.kernel_buckets import count_runs

    features = view.shape[1]
    single = view.dtype.newbyteorder("=") in SINGLES
    lists = _nothing(bits)
    for box in tile(view.shape, _strip_step(view.shape)):
        piece = view[box.slices].transpose(1, 0, 2)
        strips = piece.astype(np.float32 if single else np.float64, order="C").reshape(features, -1)
        strips.sort(axis=1)
        keys, counts, ends = np.empty(strips.size, np.int64), np.empty(strips.size, np.int64), np.empty_like(bits)
        end = count_runs(strips.view(np.int32 if single else np.int64), lists[3], keys, counts, ends)
        lists = _merge(lists, (keys[:end], counts[:end], ends, lists[3]), limit)
    return lists


def _feature_groups(shape: tuple[int, ...]) -> list[slice]:
    """Features that are counted together: as many as share cache lines, and more where their strips are short."""
    outer, features, inner = shape
    if 0 in shape:
        return [slice(0, features)]
    together = max(TILE_SIZE // (outer * inner), NEIGHBOURS // inner, 1)
    return [slice(start, min(start + together, features)) for start in range(0, features, together)]


def _strip_step(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Strips that are long beside the lists they are merged into, without too many values at once."""
    outer, features, inner = (max(1, size) for size in shape)
    strip = max(SHORT_STRIP, LONG_STRIP // features)
    along = min(inner, strip)
    return min(outer, max(1, strip // along)), features, along
