"""Compiled sweeps that find the value that most of a bucket's values are, if there is one, from counts of set bits.

Every value is of one of four classes, by a hash of its bits; of each class it is known how many values have each bit set. All
occurrences of a value are of one class: its bits are what that class has more than the others, to whose counts many values that
differ contribute alike.

Not here: what follows for quantiles (`ties.py`), and buckets (`kernel_buckets.py`, which says what keys are).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.statistics.kernel_buckets import IMPLICIT, Sizes
from pipeline.statistics.kernel_strips import SINGLE_BIAS, SINGLE_IMPLICIT, SINGLE_SHIFT, finite_part, wide_key
from pipeline.statistics.kernels import Integers, compiled

Words: TypeAlias = NDArray[np.uint64]

BITS = 45
CLASSES = 4
IN_BYTES = 255
THIRD = 3 * IN_BYTES
AT_ONCE = 3 * THIRD
LAST_OF_BYTES = np.uint64(0x0101010101010101)
BYTE = np.uint64(255)
SINGLE_TAIL = np.uint64(0xFFFF)
LOW = np.uint64(0xFFFFFFFF)
TAIL = np.uint64((1 << 29) - 1)
MIX, MIX_TAIL = np.uint64(0x9E3779B1), np.uint64(0x85EBCA77)

LEAST_PART = 0.01
ABOVE_NOISE = 64.0
LEAST_CERTAIN = 8.0


@compiled
def class_of(magnitude: Any) -> Any:
    """The class, 0 to 3, of a number with these magnitude bits as a float64."""
    bits = np.uint64(magnitude)
    mixed = ((bits >> np.uint64(29)) & LOW) * MIX + (bits & TAIL) * MIX_TAIL
    return (mixed >> np.uint64(30)) & np.uint64(3)


@compiled
def count_bits(strips: NDArray[Any], length: Any, set_bits: Integers) -> None:
    """Add the bits of sorted keys strips[:, :length] to `set_bits` (features, CLASSES, BITS + 1).

    Counted are the values of each class whose magnitude has a bit set, from the last of a float64 on, and at the end all.
    """
    implicit = IMPLICIT if strips.itemsize == 8 else SINGLE_IMPLICIT
    for feature in range(strips.shape[0]):
        strip, counts = finite_part(strips[feature, :length]), set_bits[feature]
        edges = np.searchsorted(strip, -implicit), np.searchsorted(strip, 0), np.searchsorted(strip, implicit)
        zeros = np.searchsorted(strip, 0, side="right") - edges[1]
        counts[class_of(0), BITS] += zeros
        for at in range(edges[0], edges[2]):
            if at < edges[1] or at >= edges[1] + zeros:
                add_bits(wide_key(strip, at), 1, counts)
        if strips.itemsize == 8:
            count_doubles(strip[: edges[0]], True, counts)
            count_doubles(strip[edges[2] :], False, counts)
        else:
            count_singles(strip[: edges[0]], True, counts)
            count_singles(strip[edges[2] :], False, counts)


@compiled
def add_bits(key: Any, count: Any, counts: NDArray[Any]) -> None:
    """Add the bits of a key that occurs `count` times."""
    magnitude = key ^ (key >> 63)
    own = counts[np.int64(class_of(magnitude))]
    for bit in range(BITS):
        own[bit] += count * ((magnitude >> bit) & 1)
    own[BITS] += count


@compiled
def count_singles(strip: NDArray[np.int32], negative: Any, counts: Integers) -> None:
    """Add the bits of float32 keys of one sign, none of them subnormal: the last 16 of each in the word's part of its class."""
    words, in_words = np.empty(AT_ONCE, np.uint64), np.empty(64, np.int64)
    flip, bits = np.int64(-1 if negative else 0), BITS - SINGLE_SHIFT
    for start in range(0, len(strip), AT_ONCE):
        some = strip[start : start + AT_ONCE]
        sizes = np.uint64(0)
        for at in range(len(some)):
            magnitude = np.int64(some[at]) ^ flip
            place = class_of((magnitude << SINGLE_SHIFT) + SINGLE_BIAS) << np.uint64(4)
            words[at] = (np.uint64(magnitude) & SINGLE_TAIL) << place
            sizes += np.uint64(1) << place
        count_words(words[: len(some)], in_words)
        for own in range(CLASSES):
            counts[own, SINGLE_SHIFT:BITS] += in_words[16 * own : 16 * own + bits]
            counts[own, BITS] += np.int64((sizes >> np.uint64(16 * own)) & SINGLE_TAIL)


@compiled
def count_doubles(strip: Integers, negative: Any, counts: Integers) -> None:
    """Add the bits of float64 keys of one sign."""
    words, in_words, classes = np.empty(AT_ONCE, np.uint64), np.empty(64, np.int64), np.empty(AT_ONCE, np.uint64)
    flip = np.int64(-1 if negative else 0)
    for start in range(0, len(strip), AT_ONCE):
        some = strip[start : start + AT_ONCE]
        for at in range(len(some)):
            classes[at] = class_of(some[at] ^ flip)
        for own in range(CLASSES):
            size = np.int64(0)
            for at in range(len(some)):
                its = classes[at] == np.uint64(own)
                words[at] = np.uint64(some[at] ^ flip) if its else np.uint64(0)
                size += its
            count_words(words[: len(some)], in_words)
            counts[own, :BITS] += in_words[:BITS]
            counts[own, BITS] += size


@compiled
def count_words(words: Words, counts: Integers) -> None:
    """Fill `counts` with how many words have each bit set; changes the words.

    Three words have as many bits as two: those that an odd number of them has, and twice those that two have.
    """
    counts[:] = 0
    if len(words) < AT_ONCE:
        for start in range(0, len(words), IN_BYTES):
            add_words(words[start : start + IN_BYTES], 1, counts)
        return
    once, twice, rest = words[:THIRD], words[THIRD : 2 * THIRD], words[2 * THIRD :]
    fold(once, twice, rest)
    for weight, part in ((1, once), (2, twice)):
        one, two, three = part[:IN_BYTES], part[IN_BYTES : 2 * IN_BYTES], part[2 * IN_BYTES :]
        fold(one, two, three)
        add_words(one, weight, counts)
        add_words(two, 2 * weight, counts)


@compiled
def fold(one: Words, two: Words, three: Words) -> None:
    """Put what three parts are together into the first, and into the second what counts twice."""
    for at in range(len(one)):
        either = one[at] ^ two[at]
        both = one[at] & two[at]
        one[at] = either ^ three[at]
        two[at] = both | (either & three[at])


@compiled
def add_words(words: Words, weight: Any, counts: Integers) -> None:
    """Add how many words have each bit set: eight bits at a time, in the eight bytes of one sum."""
    for shift in range(8):
        sums, own_shift = np.uint64(0), np.uint64(shift)
        for at in range(len(words)):
            sums += (words[at] >> own_shift) & LAST_OF_BYTES
        for byte in range(8):
            counts[shift + 8 * byte] += weight * np.int64((sums >> np.uint64(8 * byte)) & BYTE)


@compiled
def find_ties(
    buckets: tuple[Integers, Sizes, NDArray[Any], Integers],
    set_bits: NDArray[Any],
    ties: Integers,
    loose: NDArray[np.float64],
) -> None:
    """Find the key that most values of a bucket have, of those that hold a hundredth of a feature's values and more.

    Fills `ties` with the key, and `loose` with how many values of the bucket are others at most, or −1 if there is no such key.
    """
    keys, sizes, counts, ends = buckets
    left = np.empty((CLASSES, BITS + 1))
    begin = np.int64(0)
    loose[:] = -1.0
    for feature in range(len(ends)):
        end = ends[feature]
        least = LEAST_PART * counts[begin:end].sum()
        at = heaviest(sizes[begin:end], counts[begin:end], loose[begin:end])
        if at >= 0 and counts[begin + at] >= least:
            left[:] = set_bits[feature]
            among = leave_over(keys[begin:end], sizes[begin:end], counts[begin:end], left)
        while at >= 0 and counts[begin + at] >= least:
            key, size, count = keys[begin + at], np.int64(sizes[begin + at]), float(counts[begin + at])
            ties[begin + at], loose[begin + at] = explain(key, size, count, among, left)
            at = heaviest(sizes[begin:end], counts[begin:end], loose[begin:end])
        begin = end
    for at in range(len(loose)):
        loose[at] = -1.0 if loose[at] == np.inf else loose[at]


@compiled
def heaviest(sizes: Sizes, counts: NDArray[Any], loose: NDArray[np.float64]) -> Any:
    """Where the most values are in a bucket that holds several and was not looked at; −1 if there is none."""
    found = -1
    for at in range(len(sizes)):
        if sizes[at] > 0 and loose[at] == -1.0 and (found < 0 or counts[at] > counts[found]):
            found = at
    return found


@compiled
def leave_over(keys: Integers, sizes: Sizes, counts: NDArray[Any], left: NDArray[np.float64]) -> Any:
    """Take from `left` what values contribute to it that a bucket of their own tells; returns how many the others are."""
    among = 0.0
    for at in range(len(keys)):
        if sizes[at] == 0:
            add_bits(keys[at], -float(counts[at]), left)
        else:
            among += counts[at]
    return among


@compiled
def explain(key: Any, size: Any, count: Any, among: Any, left: NDArray[np.float64]) -> tuple[Any, Any]:
    """The key that most of the `count` values in a bucket have, and how many have another; infinitely many if none has.

    Takes the bits of that key from what is left over of `among` values.
    """
    sign = key >> 63
    magnitude = (key ^ sign) >> size << size
    own = np.int64(np.argmax(left[:, BITS]))
    worst = 0.0
    for bit in range(BITS + 1):
        least = np.inf
        for other in range(CLASSES):
            least = left[other, bit] if other != own and left[other, bit] < least else least
        more = left[own, bit] - least
        if bit < size:
            magnitude |= np.int64(more > count / 2) << bit
        is_set = (magnitude >> bit) & 1 if bit < BITS else 1
        worst = max(worst, abs(more - count * is_set))
    certain = worst * LEAST_CERTAIN <= count and count * count >= ABOVE_NOISE * (among - count)
    if not certain or np.int64(class_of(magnitude)) != own:
        return key, np.inf
    add_bits(magnitude ^ sign, -count, left)
    return magnitude ^ sign, 2 * worst
