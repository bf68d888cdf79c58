"""Compiled sweeps over buckets of float64 bit patterns: made of sorted values, merged, and made coarser.

A *key* is a finite number's pattern with the magnitude bits of negative ones flipped, as an int64 that orders as the
numbers do; both zeros have key 0. At a level of `bits`, numbers share a bucket that have the sign and the first
`bits + 1` significant bits in common, subnormal ones too; its key is that of the number nearest to zero. Lists of
buckets (keys ascending, counts, and the level that the keys are cut to) lie one after the other, one for every feature.

Not here: who calls them (`float_histogram.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.statistics.kernels import INFINITY, MAGNITUDE, SMALLEST, Integers, compiled

FULL_BITS = np.int64(52)
LEAST_BITS = np.int64(7)
IMPLICIT = np.int64(1 << 52)

SINGLE_MAGNITUDE = np.int64(2**31 - 1)
SINGLE_INFINITY = np.int64(0xFF << 23)
SINGLE_IMPLICIT = np.int64(1 << 23)
SINGLE_SHIFT = np.int64(29)
SINGLE_BIAS = np.int64(896 << 52)
SINGLE_LEAST = np.int64(874)


@compiled
def highest_bit(magnitude: Any) -> Any:
    """The position of the highest bit that is set."""
    position = np.int64(0)
    for step in (32, 16, 8, 4, 2, 1):
        if magnitude >> step:
            magnitude >>= step
            position += step
    return position


@compiled
def dropped_bits(magnitude: Any, bits: Any) -> Any:
    """How many of the last bits of a magnitude do not tell its bucket."""
    if magnitude >= IMPLICIT:
        return FULL_BITS - bits
    return max(np.int64(0), highest_bit(magnitude) - bits)


@compiled
def bucket_of(key: Any, bits: Any) -> Any:
    """The key of the bucket that the number of `key` falls into."""
    sign = key >> 63
    shift = dropped_bits(key ^ sign, bits)
    return ((key ^ sign) >> shift << shift) ^ sign


@compiled
def widened(magnitude: Any) -> Any:
    """The magnitude bits as float64 has them of a finite float32's magnitude bits."""
    if magnitude >= SINGLE_IMPLICIT:
        return (magnitude << SINGLE_SHIFT) + SINGLE_BIAS
    if magnitude == 0:
        return magnitude
    top = highest_bit(magnitude)
    return ((SINGLE_LEAST + top) << 52) + ((magnitude ^ (np.int64(1) << top)) << (52 - top))


@compiled
def count_runs(patterns: NDArray[Any], bits: Integers, keys: Integers, counts: Integers, ends: Integers) -> np.int64:
    """Buckets of the finite ones among sorted float64 or float32 values (features, strip), given as their bit patterns.

    Fills `keys`, `counts` (each as long as there are values) and `ends`; returns how many buckets there are.
    """
    single = patterns.itemsize == 4
    magnitude_bits = SINGLE_MAGNITUDE if single else MAGNITUDE
    infinity = SINGLE_INFINITY if single else INFINITY
    end = np.int64(0)
    for feature in range(patterns.shape[0]):
        last, level, wide = SMALLEST, bits[feature], FULL_BITS - bits[feature]
        for at in range(patterns.shape[1]):
            pattern = np.int64(patterns[feature, at])
            magnitude = pattern & magnitude_bits
            if magnitude >= infinity:
                continue
            if single:
                magnitude = widened(magnitude)
            sign = pattern >> 63 if magnitude else np.int64(0)
            shift = wide if magnitude >= IMPLICIT else dropped_bits(magnitude, level)
            key = (magnitude >> shift << shift) ^ sign
            if key == last:
                counts[end - 1] += 1
            else:
                keys[end], counts[end] = key, 1
                last = key
                end += 1
        ends[feature] = end
    return end


@compiled
def merge_lists(
    one: tuple[Integers, Integers, Integers, Integers],
    other: tuple[Integers, Integers, Integers, Integers],
    limit: Any,
    merged: tuple[Integers, Integers, Integers, Integers],
) -> np.int64:
    """Merge lists of buckets, each (keys, counts, ends, bits), feature by feature, and leave at most `limit` of each.

    The level of a merged list is the finest one that both have and at which it is not too long, but never coarser than
    LEAST_BITS. Fills `merged`; returns how many buckets there are.
    """
    keys, counts, ends, bits = merged
    begin, other_begin, end = np.int64(0), np.int64(0), np.int64(0)
    room = np.int64(0)
    for feature in range(ends.shape[0]):
        room = max(room, one[2][feature] - begin + other[2][feature] - other_begin)
        begin, other_begin = one[2][feature], other[2][feature]
    both, many, differing = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    begin, other_begin = np.int64(0), np.int64(0)
    for feature in range(ends.shape[0]):
        before = level = min(one[3][feature], other[3][feature])
        length = merge_list(
            one[0][begin : one[2][feature]],
            one[1][begin : one[2][feature]],
            other[0][other_begin : other[2][feature]],
            other[1][other_begin : other[2][feature]],
            level if level < max(one[3][feature], other[3][feature]) else FULL_BITS,
            both,
            many,
        )
        begin, other_begin = one[2][feature], other[2][feature]
        if length > limit:
            level = finest_level(both[:length], level, limit, differing)
        if level < before:
            end = append_list(both[:length], many, level, keys, counts, end)
        else:
            keys[end : end + length], counts[end : end + length] = both[:length], many[:length]
            end += length
        ends[feature], bits[feature] = end, level
    return end


@compiled
def merge_list(
    keys: Integers, counts: Integers, other_keys: Integers, other_counts: Integers, bits: Any, both: Integers, many: Integers
) -> np.int64:
    """Merge two ascending lists into `both` and `many`, keys cut to `bits`; returns how long the list is."""
    length, at, other_at = np.int64(0), 0, 0
    last = SMALLEST
    while at < len(keys) or other_at < len(other_keys):
        if other_at == len(other_keys) or (at < len(keys) and keys[at] <= other_keys[other_at]):
            key, count = keys[at], counts[at]
            at += 1
        else:
            key, count = other_keys[other_at], other_counts[other_at]
            other_at += 1
        if bits < FULL_BITS:
            key = bucket_of(key, bits)
        if key == last:
            many[length - 1] += count
        else:
            both[length], many[length] = key, count
            last = key
            length += 1
    return length


@compiled
def finest_level(keys: Integers, bits: Any, limit: Any, differing: Integers) -> Any:
    """The finest level, from LEAST_BITS to `bits`, at which distinct ascending keys are in at most `limit` buckets."""
    for at in range(1, len(keys)):  # the bits that two neighbours differ in, with a significand's first bit at 52
        differing[at] = keys[at] ^ keys[at - 1]
        magnitude = keys[at] ^ (keys[at] >> 63)
        before = keys[at - 1] ^ (keys[at - 1] >> 63)
        if min(magnitude, before) < IMPLICIT and differing[at] >= 0:
            top, top_before = highest_bit(magnitude), highest_bit(before)
            alike = min(magnitude, before) > 0 and max(magnitude, before) < IMPLICIT and top == top_before
            differing[at] = differing[at] << (52 - top) if alike else SMALLEST
    low, high = LEAST_BITS, bits
    while low < high:
        middle = (low + high + 1) // 2
        shift = FULL_BITS - middle
        occupied = np.int64(1)
        for at in range(1, len(keys)):
            occupied += differing[at] >> shift != 0
        if occupied <= limit:
            low = middle
        else:
            high = middle - 1
    return low


@compiled
def append_list(keys: Integers, counts: Integers, bits: Any, into: Integers, counts_into: Integers, end: Any) -> Any:
    """Put a list, cut to `bits`, behind the first `end` buckets of others; returns where it ends."""
    last = SMALLEST
    for at in range(len(keys)):
        key = bucket_of(keys[at], bits)
        if key == last:
            counts_into[end - 1] += counts[at]
        else:
            into[end], counts_into[end] = key, counts[at]
            last = key
            end += 1
    return end


@compiled
def middles(keys: Integers, ends: Integers, bits: Integers, patterns: Integers) -> None:
    """The float64 bit patterns of the middles of buckets; of the number itself where a bucket holds but one."""
    begin = np.int64(0)
    for feature in range(ends.shape[0]):
        for at in range(begin, ends[feature]):
            sign = keys[at] >> 63
            magnitude = keys[at] ^ sign
            shift = dropped_bits(magnitude, bits[feature])
            patterns[at] = (magnitude + (np.int64(1) << shift >> 1)) | (sign & SMALLEST)
        begin = ends[feature]
