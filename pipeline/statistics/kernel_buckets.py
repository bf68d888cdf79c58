"""Compiled sweeps over lists of buckets of float64 bit patterns: merged, and made coarser.

A *key* is a finite number's pattern with the magnitude bits of negative ones flipped, as an int64 that orders as the
numbers do; both zeros have key 0. A *bucket* is one key, of size 0, or the 2^size keys from a multiple of 2^size on.
Lists of disjoint buckets (keys ascending, sizes, counts) lie one after the other, one for every feature.

At a level of `bits`, two keys are apart that differ in the sign or in the first `bits + 1` significant bits, those of
subnormal numbers too. Seen as a binary tree in which a key's bits, highest first, are the turns, two keys part at a *fork*;
they are apart as well where fewer than so many forks, of any keys of the list, lie above that.

Not here: who calls them (`float_histogram.py`), and buckets made of values (`kernel_strips.py`).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.statistics.kernels import SMALLEST, Integers, compiled

Sizes: TypeAlias = NDArray[np.uint8]
Masks: TypeAlias = NDArray[np.uint64]
Column: TypeAlias = tuple[Integers, Sizes, Integers]
Scratch: TypeAlias = tuple[Integers, Masks, NDArray[np.bool_]]
Buckets: TypeAlias = Any

FULL_BITS = np.int64(52)
LEAST_BITS = np.int64(7)
IMPLICIT = np.int64(1 << 52)


@compiled
def bit_length(pattern: Any) -> Any:
    """How many bits there are up to the highest that is set; the compiler makes one instruction of it, as of `ones`."""
    bits, count = np.uint64(pattern), np.uint64(0)
    while bits:
        bits >>= np.uint64(1)
        count += np.uint64(1)
    return count


@compiled
def top_bit(pattern: Any) -> Any:
    """The highest bit that is set, of a pattern that is not 0."""
    return np.uint64(1) << (bit_length(pattern) - np.uint64(1))


@compiled
def ones(pattern: Any) -> Any:
    """How many bits are set."""
    bits, count = np.uint64(pattern), np.int64(0)
    while bits:
        bits &= bits - np.uint64(1)
        count += 1
    return count


@compiled
def merge_lists(one: Buckets, other: Buckets, limit: Any, forks: Any, merged: Buckets) -> Any:
    """Merge lists of buckets, each (keys, sizes, counts, ends, bits), feature by feature, and join what is not apart.

    The level of a merged list is the finest one that both have and at which no more than `limit` are apart, but never
    coarser than LEAST_BITS. Fills `merged`; returns how many buckets there are.
    """
    own_ends, other_ends, ends, levels = one[3], other[3], merged[3], merged[4]
    begin, room = np.int64(0), np.int64(0)
    for feature in range(len(ends)):
        end = own_ends[feature] + other_ends[feature]
        begin, room = end, max(room, end - begin)
    both = np.empty(room, np.int64), np.empty(room, np.uint8), np.empty(room, np.int64)
    scratch = np.empty(room, np.int64), np.empty(room, np.uint64), np.empty(room, np.bool_)
    into = merged[:3]
    begin, other_begin, end = np.int64(0), np.int64(0), np.int64(0)
    for feature in range(len(ends)):
        length = interleave(part(one, begin, own_ends[feature]), part(other, other_begin, other_ends[feature]), both)
        level = min(one[4][feature], other[4][feature])
        end, level = settle(part(both, 0, length), level, limit, forks, scratch, into, end)
        ends[feature], levels[feature] = end, level
        begin, other_begin = own_ends[feature], other_ends[feature]
    return end


@compiled
def part(lists: Any, begin: Any, end: Any) -> Column:
    """The keys, sizes and counts of one feature."""
    return lists[0][begin:end], lists[1][begin:end], lists[2][begin:end]


@compiled
def interleave(one: Column, other: Column, both: Column) -> Any:
    """Put two lists of one feature into `both`, a bucket that lies in another one into that; returns how many there are.

    Which list is next, and whether a bucket lies in the last one, cannot be foreseen: no branch depends on it.
    """
    own_keys, own_sizes, own_counts = one
    other_keys, other_sizes, other_counts = other
    keys, sizes, counts = both
    at, other_at, to, last = np.int64(0), np.int64(0), np.int64(-1), SMALLEST
    into_key, into_size, into_count = SMALLEST, np.int64(0), np.int64(0)
    while at < len(own_keys) and other_at < len(other_keys):
        key, other_key = own_keys[at], other_keys[other_at]
        own, others = np.int64(key <= other_key), np.int64(other_key <= key)
        size = max(np.int64(own_sizes[at]) * own, np.int64(other_sizes[other_at]) * others)
        count = own_counts[at] * own + other_counts[other_at] * others
        key = min(key, other_key)
        at += own
        other_at += others
        inside = np.int64(key <= last)
        to += 1 - inside
        into_key = into_key if inside else key
        into_size = max(into_size * inside, size)
        into_count = count + into_count * inside
        last = max(last, end_of(key, size))
        keys[to], sizes[to], counts[to] = into_key, into_size, into_count
    length = to + 1
    for rest in range(at, len(own_keys)):
        length, last = put(own_keys[rest], own_sizes[rest], own_counts[rest], both, length, last)
    for rest in range(other_at, len(other_keys)):
        length, last = put(other_keys[rest], other_sizes[rest], other_counts[rest], both, length, last)
    return length


@compiled
def put(key: Any, size: Any, count: Any, into: Column, length: Any, last: Any) -> tuple[Any, Any]:
    """Put a bucket behind others, or into the last of them, which ends at `last`; returns how many there are, and their end."""
    keys, sizes, counts = into
    if key <= last:
        counts[length - 1] += count
        return length, last
    keys[length], sizes[length], counts[length] = key, size, count
    return length + 1, end_of(key, size)


@compiled
def end_of(key: Any, size: Any) -> Any:
    """The last key of a bucket."""
    return key + ((np.int64(1) << np.int64(size)) - 1)


@compiled
def settle(items: Column, bits: Any, limit: Any, forks: Any, scratch: Scratch, into: Column, end: Any) -> tuple[Any, Any]:
    """Put the ascending disjoint buckets of a feature behind the first `end` of others, those joined that are not apart.

    Returns where they end and their level, which is `bits` or coarser.
    """
    keys = items[0]
    differing, masks, apart = scratch
    length = len(keys)
    apart[:length] = True
    if length > limit or bits < FULL_BITS:
        differ(keys, differing)
        bits = finest_level(differing[:length], bits, limit)
        if parted(differing[:length], bits) < length:
            fork_masks(keys, masks)
            find_apart(keys, masks, forks, apart)
            shift = FULL_BITS - bits
            for at in range(1, length):
                apart[at] |= differing[at] >> shift != 0
    return join(items, apart, into, end), bits


@compiled
def join(items: Column, apart: NDArray[np.bool_], into: Column, end: Any) -> Any:
    """Put buckets behind the first `end` of others, in one those that are not apart; returns where they end."""
    keys, sizes, counts = items
    into_keys, into_sizes, into_counts = into
    for at in range(len(keys)):
        if at == 0 or apart[at]:
            into_keys[end], into_sizes[end], into_counts[end] = keys[at], sizes[at], counts[at]
            end += 1
        else:
            size = np.int64(bit_length(into_keys[end - 1] ^ end_of(keys[at], sizes[at])))
            into_keys[end - 1], into_sizes[end - 1] = keys[at] >> size << size, size
            into_counts[end - 1] += counts[at]
    return end


@compiled
def find_apart(keys: Integers, masks: Masks, forks: Any, apart: NDArray[np.bool_]) -> None:
    """Fill `apart` with whether a key and the one before it part where fewer than `forks` forks lie above."""
    for at in range(1, len(keys)):
        apart[at] = ones(masks[at] & -top_bit(keys[at] ^ keys[at - 1])) <= forks


@compiled
def fork_masks(keys: Integers, masks: Masks) -> None:
    """Fill `masks` with the bits of each key at which other keys went the other way: the forks above it."""
    mask = np.uint64(0)
    masks[0] = mask
    for at in range(1, len(keys)):
        fork = top_bit(keys[at] ^ keys[at - 1])
        mask = (mask & -fork) | fork
        masks[at] = mask
    mask = np.uint64(0)
    for step in range(1, len(keys)):
        at = len(keys) - 1 - step
        fork = top_bit(keys[at] ^ keys[at + 1])
        mask = (mask & -fork) | fork
        masks[at] |= mask


@compiled
def differ(keys: Integers, differing: Integers) -> None:
    """Fill `differing` with the bits in which neighbours differ, the first bit of their significands at 52; or the sign bit."""
    for at in range(1, len(keys)):
        differing[at] = keys[at] ^ keys[at - 1]
        magnitude = keys[at] ^ (keys[at] >> 63)
        before = keys[at - 1] ^ (keys[at - 1] >> 63)
        if min(magnitude, before) < IMPLICIT and differing[at] >= 0:
            top, top_before = np.int64(bit_length(magnitude)), np.int64(bit_length(before))
            alike = top > 0 and top <= FULL_BITS and top == top_before
            differing[at] = differing[at] << (FULL_BITS + 1 - top) if alike else SMALLEST


@compiled
def finest_level(differing: Integers, bits: Any, limit: Any) -> Any:
    """The finest level, from LEAST_BITS to `bits`, at which at most `limit` neighbours are apart."""
    if parted(differing, bits) <= limit:
        return bits
    low, high = LEAST_BITS, bits - 1
    while low < high:
        middle = (low + high + 1) // 2
        if parted(differing, middle) <= limit:
            low = middle
        else:
            high = middle - 1
    return low


@compiled
def parted(differing: Integers, bits: Any) -> Any:
    """How many are apart at a level."""
    shift, count = FULL_BITS - bits, np.int64(1)
    for at in range(1, len(differing)):
        count += differing[at] >> shift != 0
    return count


@compiled
def find_middles(
    keys: Integers, sizes: Sizes, patterns: Integers, radius: NDArray[np.float64], even: NDArray[np.bool_]
) -> None:
    """What is in the middle of each bucket, as a float64 bit pattern, and how far the bucket extends from there.

    `even` becomes whether it is for more than one number, and narrower than buckets of the coarsest level. The radius, half as
    many units in the last place as a bucket has keys, is a power of two: an exponent alone, or a bit of a subnormal number.
    """
    radius_patterns = radius.view(np.int64)
    for at in range(len(keys)):
        size, sign = np.int64(sizes[at]), keys[at] >> 63
        half = np.int64(1) << size >> 1
        magnitude = (keys[at] + half - (half > 0) * (sign & 1)) ^ sign
        patterns[at] = magnitude | (sign & SMALLEST)
        exponent = max(magnitude >> 52, 1) + size - 1 - FULL_BITS
        pattern = exponent << 52 if exponent > 0 else np.int64(1) << (exponent + FULL_BITS - 1)
        radius_patterns[at] = pattern if half > 0 else 0
        top = min(np.int64(bit_length(magnitude)), FULL_BITS + 1)
        even[at] = (size > 0) & (size < top - 1 - LEAST_BITS)


@compiled
def ends_ascend(values: NDArray[np.float64], radius: NDArray[np.float64], ends: Integers) -> bool:
    """Whether neither `values − radius` nor `values + radius` falls within a feature."""
    falls, start = np.int64(0), 0
    for feature in range(len(ends)):
        middle, half = values[start : ends[feature]], radius[start : ends[feature]]
        next_middle, next_half = middle[1:], half[1:]
        for at in range(len(next_half)):
            falls += np.int64(next_middle[at] - next_half[at] < middle[at] - half[at])
            falls += np.int64(next_middle[at] + next_half[at] < middle[at] + half[at])
        start = ends[feature]
    return bool(falls == 0)


@compiled
def find_errors(
    values: NDArray[np.float64],
    counts: NDArray[Any],
    radius: NDArray[np.float64],
    even: NDArray[np.bool_],
    ends: Integers,
    origin: NDArray[np.float64],
    nobs: NDArray[Any],
    relative: NDArray[np.float64],
    rank: NDArray[np.float64],
) -> None:
    """Widen `relative` and `rank` to the errors of each feature's entries that have a radius."""
    start = 0
    for feature in range(len(ends)):
        for at in range(start, ends[feature]):
            if radius[at] != 0:
                least = abs(values[at] - origin[feature]) - radius[at]
                error = radius[at] * 2 if even[at] else radius[at]
                relative[feature] = max(relative[feature], error / least if least > 0 else np.inf)
                rank[feature] = max(rank[feature], counts[at] / nobs[feature])
        start = ends[feature]
