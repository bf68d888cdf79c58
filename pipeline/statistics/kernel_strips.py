"""Compiled sweeps that make buckets of values: strips of one feature each, as keys, sorted in between.

The keys of float32 values are int32, made as those of float64 ones are. Not here: buckets that are merged
(`kernel_buckets.py`, which says what keys and buckets are), and how strips are cut from a block (`float_histogram.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.statistics.kernel_buckets import (
    FULL_BITS,
    IMPLICIT,
    LEAST_BITS,
    Buckets,
    Column,
    Scratch,
    bit_length,
    find_apart,
    fork_masks,
    join,
    ones,
    part,
    settle,
)
from pipeline.statistics.kernels import INFINITY, MAGNITUDE, Integers, compiled

LARGEST = np.int64(2**63 - 1)
NO_GAP = (1, 1)

SINGLE_MAGNITUDE = np.int32(2**31 - 1)
SINGLE_INFINITY = np.int32(0xFF << 23)
SINGLE_IMPLICIT = np.int64(1 << 23)
SINGLE_SHIFT = np.int64(29)
SINGLE_BIAS = np.int64(896 << 52)
SINGLE_LEAST = np.int64(874)
SINGLE_BITS = np.int64(23)


@compiled
def order_singles(patterns: NDArray[np.int32]) -> None:
    """Make keys of float32 bit patterns, in place; the largest integer of what is not finite."""
    for feature in range(patterns.shape[0]):
        for at in range(patterns.shape[1]):
            pattern = patterns[feature, at]
            magnitude = np.int32(pattern & SINGLE_MAGNITUDE)
            key = np.int32(pattern ^ ((pattern >> np.int32(31)) & SINGLE_MAGNITUDE))
            key = key if magnitude != 0 else np.int32(0)
            patterns[feature, at] = key if magnitude < SINGLE_INFINITY else SINGLE_MAGNITUDE


@compiled
def order_doubles(patterns: Integers) -> None:
    """Make keys of float64 bit patterns, in place; the largest integer of what is not finite."""
    for feature in range(patterns.shape[0]):
        for at in range(patterns.shape[1]):
            pattern = patterns[feature, at]
            magnitude = pattern & MAGNITUDE
            key = pattern ^ ((pattern >> 63) & MAGNITUDE)
            key = key if magnitude != 0 else np.int64(0)
            patterns[feature, at] = key if magnitude < INFINITY else LARGEST


@compiled
def count_strips(strips: NDArray[Any], length: Any, bits: Integers, limit: Any, forks: Any, into: Buckets) -> Any:
    """Fill `into` with buckets of the sorted keys strips[:, :length], at the levels `bits` or coarser; returns how many."""
    items = np.empty(length, np.int64), np.empty(length, np.uint8), np.empty(length, np.int64)
    scratch = np.empty(length, np.int64), np.empty(2 * length, np.uint64), np.empty(length, np.bool_)
    firsts = np.empty(2 * length + 2, np.int64)  # of cells, and behind them of the runs in one of them
    lists, ends, levels = into[:3], into[3], into[4]
    own_bits = FULL_BITS if strips.itemsize == 8 else SINGLE_BITS
    near, end = own_bits, np.int64(0)
    for feature in range(strips.shape[0]):
        strip = finite_part(strips[feature, :length])
        level = bits[feature]
        if len(strip):
            gap = gap_of_zeros(strip)
            near = finest_level_of(strip, gap, min(level, own_bits), own_bits, limit, near)
            shift = np.int64(0) if has_subnormal(strip) else own_bits - near
            if shift:
                level, cells = near, find_cells(strip, gap, shift, firsts)
                end = count_cells(strip, cells, firsts, forks, (items, scratch), lists, end)
            else:
                begin, end = end, count_runs(strip, gap, firsts, lists, end)
                if end - begin > limit or level < FULL_BITS:
                    end, level = settle(part(lists, begin, end), level, limit, forks, scratch, lists, begin)
        ends[feature], levels[feature] = end, level
    return end


@compiled
def finite_part(strip: NDArray[Any]) -> NDArray[Any]:
    """Sorted keys without those of what is not finite."""
    last = LARGEST if strip.itemsize == 8 else np.int64(SINGLE_MAGNITUDE)
    if len(strip) and strip[-1] == last:
        return strip[: np.searchsorted(strip, last)]
    return strip


@compiled
def gap_of_zeros(strip: NDArray[Any]) -> tuple[Any, Any]:
    """From where to where keys of a sorted strip need not be looked at: they are 0, as the one before them is.

    Of counts, and of what a rectifier put out, that is most.
    """
    first = min(np.searchsorted(strip, 0) + 1, len(strip))
    return first, max(np.searchsorted(strip, 0, side="right"), first)


@compiled
def finest_level_of(strip: NDArray[Any], gap: tuple[Any, Any], bits: Any, own_bits: Any, limit: Any, near: Any) -> Any:
    """The finest level, from LEAST_BITS to `bits`, at which at most `limit` sorted keys are apart; it may be `near` by.

    Finer than it ought to be where there are subnormal numbers among them.
    """
    level = min(near, bits)
    while level < bits and parted(strip, gap, own_bits - level - 1) <= limit:
        level += 1
    while level > LEAST_BITS and parted(strip, gap, own_bits - level) > limit:
        level -= 1
    return level


@compiled
def parted(strip: NDArray[Any], gap: tuple[Any, Any], shift: Any) -> Any:
    """How many of the sorted keys differ but for the last `shift` bits; in the `gap` none does."""
    shift = alike(strip, shift)
    return 1 + parted_neighbours(strip[: gap[0]], shift) + parted_neighbours(strip[gap[1] - 1 :], shift)


@compiled
def parted_neighbours(strip: NDArray[Any], shift: Any) -> Any:
    """How many of the keys differ from the one before but for the last `shift` bits."""
    count = np.int64(0)
    for at in range(1, len(strip)):
        count += (strip[at] ^ strip[at - 1]) >> shift != 0
    return count


@compiled
def find_cells(strip: NDArray[Any], gap: tuple[Any, Any], shift: Any, firsts: Integers) -> Any:
    """Fill `firsts` with where keys begin that differ but for the last `shift` bits, and with the end; returns how many.

    In the `gap` none begins.
    """
    shift = alike(strip, shift)
    firsts[0] = 0
    count = add_firsts(strip[: gap[0]], 0, shift, firsts, np.uint64(1))
    count = add_firsts(strip[gap[1] - 1 :], gap[1] - 1, shift, firsts, count)
    firsts[count] = len(strip)
    return np.int64(count)


@compiled
def add_firsts(strip: NDArray[Any], begin: Any, shift: Any, firsts: Integers, count: Any) -> Any:
    """Put the places, counted from `begin`, of keys that differ from the one before behind `count` others.

    No branch depends on the values: it could not be foreseen. And `count` is unsigned, an index that cannot be from the end.
    """
    for at in range(1, len(strip)):
        firsts[count] = begin + at
        count += np.uint64((strip[at] ^ strip[at - 1]) >> shift != 0)
    return count


@compiled
def alike(strip: NDArray[Any], number: Any) -> Any:
    """`number` in the type of the keys, without which the loops above would take twice as wide ones."""
    one = np.empty(1, strip.dtype)
    one[0] = number
    return one[0]


@compiled
def count_runs(strip: NDArray[Any], gap: tuple[Any, Any], firsts: Integers, into: Column, end: Any) -> Any:
    """A bucket for each of the different keys, behind the first `end` of others, by way of `firsts`; returns where they end."""
    keys, sizes, counts = into
    runs = find_cells(strip, gap, np.int64(0), firsts)
    for run in range(runs):
        first = firsts[run]
        keys[end + run], sizes[end + run], counts[end + run] = wide_key(strip, first), 0, firsts[run + 1] - first
    return end + runs


@compiled
def count_cells(
    strip: NDArray[Any], cells: Any, firsts: Integers, forks: Any, room: tuple[Column, Scratch], into: Column, end: Any
) -> Any:
    """Buckets, behind the first `end` of others, of keys that are apart in any case where one of so many `cells` is first."""
    items, (starts, masks, apart) = room
    keys, sizes, counts = into
    for cell in range(cells):
        starts[cell] = wide_key(strip, firsts[cell])
    fork_masks(starts[:cells], masks)
    for cell in range(cells):
        first, stop, above = firsts[cell], firsts[cell + 1], ones(masks[cell])
        if above >= forks or strip[first] == strip[stop - 1]:
            size = np.int64(bit_length(starts[cell] ^ wide_key(strip, stop - 1)))
            keys[end], sizes[end], counts[end] = starts[cell] >> size << size, size, stop - first
            end += 1
        else:
            own = part(items, 0, count_runs(strip[first:stop], NO_GAP, firsts[cells + 1 :], items, 0))
            fork_masks(own[0], masks[cells:])
            find_apart(own[0], masks[cells:], forks - above, apart)
            end = join(own, apart, into, end)
    return end


@compiled
def has_subnormal(strip: NDArray[Any]) -> Any:
    """Whether sorted keys are of subnormal numbers, some of them."""
    implicit = IMPLICIT if strip.itemsize == 8 else SINGLE_IMPLICIT
    first, stop = np.searchsorted(strip, -implicit), np.searchsorted(strip, implicit)
    return stop > first and (strip[first] != 0 or strip[stop - 1] != 0)


@compiled
def wide_key(strip: NDArray[Any], at: Any) -> Any:
    """The key of a number as a float64."""
    key = np.int64(strip[at])
    if strip.itemsize == 8 or key == 0:
        return key
    sign = key >> 63
    magnitude = key ^ sign
    if magnitude >= SINGLE_IMPLICIT:
        return ((magnitude << SINGLE_SHIFT) + SINGLE_BIAS) ^ sign
    top = np.int64(bit_length(magnitude)) - 1
    return (((SINGLE_LEAST + top) << 52) + ((magnitude ^ (np.int64(1) << top)) << (52 - top))) ^ sign
