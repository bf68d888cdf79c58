"""Lists of buckets, one for every feature: made of a block's values, merged, put together and taken apart.

Not here: what the buckets are for (`float_histogram.py`), and the compiled sweeps (`kernel_buckets.py`, `kernel_strips.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.block import tile
from pipeline.statistics.distribution import Integers

FULL_BITS = 52
LEAST_BITS = 7
BITS_SHAPE = (4, FULL_BITS - LEAST_BITS + 1)
TILE_SIZE = 2**20
LONG_STRIP = 2**20
SHORT_STRIP = 2**17
NEIGHBOURS = 16
ROWS_AT_ONCE = 256
PADDING = 16  # without which strips as long as a power of two would share a few lines of the cache
SINGLES = tuple(np.dtype(name) for name in ("float32", "float16", "bool", "int8", "uint8", "int16", "uint16"))


class Limits(NamedTuple):
    """Up to where buckets are kept apart: `entries` of a feature at its level, and those with fewer than `forks` above them."""

    entries: int
    forks: int


class Buckets(NamedTuple):
    """Lists of buckets, those of the first feature first; `FloatHistogram` says what they are.

    Parameters
    ----------
    keys, sizes, counts : ndarray of int64, of uint8, of int64
        Shape (entries,).
    ends, bits : ndarray of int64
        Shape (features,).
    """

    keys: Integers
    sizes: NDArray[np.uint8]
    counts: Integers
    ends: Integers
    bits: Integers

    @classmethod
    def none(cls, bits: Integers) -> Buckets:
        """Lists of no buckets at given levels."""
        return cls.room_for(0, bits)

    @classmethod
    def room_for(cls, entries: int, bits: Integers) -> Buckets:
        """Lists that are to be filled."""
        keys, counts = np.empty(entries, np.int64), np.empty(entries, np.int64)
        return cls(keys, np.empty(entries, np.uint8), counts, np.zeros(len(bits), np.int64), bits.copy())

    @classmethod
    def concatenate(cls, parts: Sequence[Buckets]) -> Buckets:
        """The lists of all features of the parts, in their order; at least one part."""
        if len(parts) == 1:
            return parts[0]
        keys, sizes, counts = (np.concatenate([part[at] for part in parts]) for at in range(3))
        ends = np.cumsum(np.concatenate([lengths_of(part.ends) for part in parts]))
        return cls(keys, sizes, counts, ends, np.concatenate([part.bits for part in parts]))

    def take(self, features: NDArray[np.intp]) -> Buckets:
        """The lists of `features`, in that order."""
        if len(features) == len(self.ends) and (features[1:] > features[:-1]).all():
            return self
        lengths = lengths_of(self.ends)[features]
        ends = np.cumsum(lengths)
        entries = np.arange(lengths.sum()) + np.repeat(self.ends[features] - ends, lengths)
        return Buckets(self.keys[entries], self.sizes[entries], self.counts[entries], ends, self.bits[features])

    def copy(self) -> Buckets:
        """The same in arrays of their own."""
        keys, sizes, counts, ends, bits = self
        return Buckets(keys.copy(), sizes.copy(), counts.copy(), ends.copy(), bits.copy())

    def shortened(self, entries: int) -> Buckets:
        """The same with the first `entries` only; gives the memory of the others back, without a copy."""
        self.keys.resize(entries, refcheck=False)
        self.sizes.resize(entries, refcheck=False)
        self.counts.resize(entries, refcheck=False)
        return self


def lengths_of(ends: Integers) -> Integers:
    """How many buckets each feature has, in C order."""
    return np.diff(ends.ravel(), prepend=0)


def merge_buckets(one: Buckets, other: Buckets, limits: Limits) -> Buckets:
    """The buckets of both, feature by feature, those in one that are not apart."""
    from pipeline.statistics.kernel_buckets import merge_lists

    merged = Buckets.room_for(len(one.keys) + len(other.keys), one.bits)
    return merged.shortened(int(merge_lists(tuple(one), tuple(other), *limits, tuple(merged))))


def count_block(view: NDArray[Any], bits: Integers, limits: Limits) -> tuple[Buckets, Integers]:
    """The buckets, at the levels `bits` or coarser, of the finite values of a block (outer, feature, inner).

    And how often each of the last bits is set in them, as `ties.py` has it.
    """
    counted, end = Buckets.room_for(view.size, bits), 0
    set_bits = np.zeros((len(bits), *BITS_SHAPE), np.int64)
    if not view.size:
        return counted, set_bits
    step = _step(view.shape)
    strips = _Strips(step, view.dtype)
    for start in range(0, view.shape[1], step[1]):
        its = slice(start, start + step[1])
        group = _count_group(view[:, its], bits[its], limits, strips, set_bits[its])
        begin, end = end, end + len(group.keys)
        counted.keys[begin:end], counted.sizes[begin:end], counted.counts[begin:end] = group[:3]
        counted.ends[its], counted.bits[its] = group.ends + begin, group.bits
    return counted.shortened(end), set_bits


class _Strips:
    """Room for strips of some features, and for their buckets, that is used again and again."""

    def __init__(self, step: tuple[int, int, int], dtype: np.dtype[Any]) -> None:
        single = dtype.newbyteorder("=") in SINGLES
        outer, features, inner = self.step = step
        self.values = np.empty((features, outer * inner + PADDING), np.float32 if single else np.float64)
        self.buckets = Buckets.room_for(features * outer * inner, np.zeros(features, np.int64))

    def count(self, piece: NDArray[Any], bits: Integers, limits: Limits, set_bits: Integers) -> Buckets:
        """The buckets of a part of a block (outer, feature, inner), good until the next one is counted; adds to `set_bits`."""
        from pipeline.statistics.kernel_strips import count_strips, order_doubles, order_singles
        from pipeline.statistics.kernel_ties import count_bits

        outer, features, inner = piece.shape
        values, length = self.values[:features], outer * inner
        shaped = values[:, :length].reshape(features, outer, inner)
        together = max(ROWS_AT_ONCE, ROWS_AT_ONCE * NEIGHBOURS // features)
        for start in range(0, outer, together):
            rows = slice(start, start + together)
            np.copyto(shaped[:, rows], piece[rows].transpose(1, 0, 2))
        keys = values.view(f"i{values.itemsize}")
        (order_singles if values.itemsize == 4 else order_doubles)(keys)
        keys[:, :length].sort(axis=1)
        count_bits(keys, length, set_bits)
        end = count_strips(keys, length, bits, *limits, tuple(self.buckets))
        all_keys, sizes, counts, ends, levels = self.buckets
        return Buckets(all_keys[:end], sizes[:end], counts[:end], ends[:features], levels[:features])


def _count_group(view: NDArray[Any], bits: Integers, limits: Limits, strips: _Strips, set_bits: Integers) -> Buckets:
    """The buckets of some features of a block, good until strips are counted again; adds to `set_bits`."""
    first, *others = tile(view.shape, strips.step)
    group = strips.count(view[first.slices], bits, limits, set_bits)
    for box in others:
        group = group.copy() if box is others[0] else group
        group = merge_buckets(group, strips.count(view[box.slices], group.bits, limits, set_bits), limits)
    return group


def _step(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Long strips, of as many features as share cache lines, and of more where they are short."""
    outer, features, inner = (max(1, size) for size in shape)
    strip = min(LONG_STRIP, max(SHORT_STRIP, 4 * LONG_STRIP // features))
    along = min(inner, strip)
    rows = min(outer, max(1, strip // along))
    return rows, min(features, max(TILE_SIZE // (rows * along), NEIGHBOURS // inner, 1)), along
