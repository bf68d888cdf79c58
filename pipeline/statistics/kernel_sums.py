"""Compiled sums of powers: whatever a strip of numbers is, its Σx … Σx⁴ enter fixed-point limbs exactly.

Not here: how strips are cut from a block (`tiles.py`) and what limbs are (`exact.py`).

A float64 is m·2^e with an integer m of 53 bits. Numbers of equal e are added up as integers, in one row of a small table
for each e; a row holds the digit products of m, m², m³ and m⁴, so nothing but 64-bit integer arithmetic is needed and
nothing is rounded. A row goes into the feature's limbs before it could overflow.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.statistics.kernels import NARROW_BITS, NARROW_SHIFT, Integers, compiled

FRACTION = np.int64(2**52 - 1)
NON_FINITE = 2047
EXPONENT_ROWS = 2048
LEAST_EXPONENT = -1075

WORD_MASK = np.int64(2**32 - 1)

NARROW_MASK = np.int64(2**NARROW_BITS - 1)
NARROW_COLUMNS = 8

WIDE_BITS = 27
WIDE_MASK = np.int64(2**WIDE_BITS - 1)
WIDE_COLUMNS = 20
WIDE_ROOM = 128

DIGIT_BITS = 22
DIGIT_MASK = np.uint64(2**DIGIT_BITS - 1)


@compiled
def add_term(limbs: Integers, start: int, bit: int, value: int | np.int64) -> None:
    """Add `value · 2^bit` to the number whose 32-bit limbs begin at `start`; `value` is any int64."""
    at = start + (bit >> 5)
    shift = bit & 31
    low = (value & WORD_MASK) << shift
    high = (value >> 32) << shift
    limbs[at] += low & WORD_MASK
    limbs[at + 1] += (low >> 32) + (high & WORD_MASK)
    limbs[at + 2] += high >> 32


@compiled
def carry(limbs: Integers, starts: Integers) -> None:
    """Bring the limbs of every power back into [0, 2^32), all but the topmost of each."""
    for power in range(4):
        for at in range(starts[power], starts[power + 1] - 1):
            limbs[at + 1] += limbs[at] >> 32
            limbs[at] &= WORD_MASK


@compiled
def flush_narrow(row: Integers, exponent: int, limbs: Integers, starts: Integers, lows: Integers) -> None:
    """Move a row of `add_narrow`, whose m stand for m·2^exponent, into the limbs."""
    add_term(limbs, starts[0], exponent - lows[0], row[0])
    add_term(limbs, starts[1], 2 * exponent - lows[1], row[1])
    bit = 3 * exponent - lows[2]
    add_term(limbs, starts[2], bit + NARROW_BITS, row[2])
    add_term(limbs, starts[2], bit, row[3])
    bit = 4 * exponent - lows[3]
    add_term(limbs, starts[3], bit + 2 * NARROW_BITS, row[4])
    add_term(limbs, starts[3], bit + NARROW_BITS + 1, row[5])
    add_term(limbs, starts[3], bit, row[6])
    row[:] = 0


@compiled
def add_narrow(
    strip: Integers, least: int, rows: Integers, used: Integers, limbs: Integers, starts: Integers, lows: Integers
) -> None:
    """Add the powers of a strip of float64 bit patterns whose m all fit 24 bits, as every float32 does.

    With m² = a·2²⁴ + b the terms are m, m², m·a, m·b, a², a·b and b², all below 2⁴⁸: a strip may hold 2¹⁵ numbers.
    """
    count = 0
    for pattern in strip:
        biased = (pattern >> 52) & 2047
        m = ((pattern & FRACTION) | (np.int64(biased != 0) << 52)) >> NARROW_SHIFT
        square = m * m
        a = square >> NARROW_BITS
        b = square & NARROW_MASK
        m = -m if pattern < 0 else m
        at = max(biased, least)
        row = rows[at]
        if row[7] == 0:
            row[7] = 1
            used[count] = at
            count += 1
        row[0] += m
        row[1] += square
        row[2] += m * a
        row[3] += m * b
        row[4] += a * a
        row[5] += a * b
        row[6] += b * b
    for which in range(count):
        at = used[which]
        if at == NON_FINITE:
            rows[at, :] = 0
        else:
            flush_narrow(rows[at], at + LEAST_EXPONENT + NARROW_SHIFT, limbs, starts, lows)


@compiled
def flush_wide(row: Integers, exponent: int, limbs: Integers, starts: Integers, lows: Integers) -> None:
    """Move a row of `add_wide`, whose m stand for m·2^exponent, into the limbs."""
    bit = exponent - lows[0]
    for digit in range(2):
        add_term(limbs, starts[0], bit + WIDE_BITS * digit, row[digit])
    bit = 2 * exponent - lows[1]
    for digit in range(4):
        add_term(limbs, starts[1], bit + WIDE_BITS * digit, row[2 + digit])
    bit = 3 * exponent - lows[2]
    for digit in range(5):
        add_term(limbs, starts[2], bit + WIDE_BITS * digit, row[6 + digit])
    bit = 4 * exponent - lows[3]
    for digit in range(7):
        add_term(limbs, starts[3], bit + WIDE_BITS * digit + (digit & 1), row[11 + digit])
    row[:] = 0


@compiled
def add_wide(
    strip: Integers, least: int, rows: Integers, used: Integers, limbs: Integers, starts: Integers, lows: Integers
) -> None:
    """Add the powers of a strip of any float64 bit patterns.

    m has two digits of 27 bits and m² four; m³ and m⁴ are sums of products of those digits, below 3·2⁵⁴ each, so a row
    takes 128 numbers. The odd columns of m⁴ are kept halved.
    """
    count = 0
    for pattern in strip:
        biased = (pattern >> 52) & 2047
        m = (pattern & FRACTION) | (np.int64(biased != 0) << 52)
        e0, e1 = m & WIDE_MASK, m >> WIDE_BITS
        p0, p1, p2 = e0 * e0, 2 * e0 * e1, e1 * e1
        p1 += p0 >> WIDE_BITS
        p2 += p1 >> WIDE_BITS
        d0, d1, d2, d3 = p0 & WIDE_MASK, p1 & WIDE_MASK, p2 & WIDE_MASK, p2 >> WIDE_BITS
        if pattern < 0:
            e0, e1 = -e0, -e1
        at = max(biased, least)
        row = rows[at]
        if row[18] == WIDE_ROOM and at != NON_FINITE:
            flush_wide(row, at + LEAST_EXPONENT, limbs, starts, lows)
            row[18] = 1
        elif row[18] == 0:
            used[count] = at
            count += 1
        row[18] += 1
        row[0] += e0
        row[1] += e1
        row[2] += d0
        row[3] += d1
        row[4] += d2
        row[5] += d3
        row[6] += d0 * e0
        row[7] += d1 * e0 + d0 * e1
        row[8] += d2 * e0 + d1 * e1
        row[9] += d3 * e0 + d2 * e1
        row[10] += d3 * e1
        row[11] += d0 * d0
        row[12] += d0 * d1
        row[13] += 2 * d0 * d2 + d1 * d1
        row[14] += d0 * d3 + d1 * d2
        row[15] += 2 * d1 * d3 + d2 * d2
        row[16] += d2 * d3
        row[17] += d3 * d3
    for which in range(count):
        at = used[which]
        if at == NON_FINITE:
            rows[at, :] = 0
        else:
            flush_wide(rows[at], at + LEAST_EXPONENT, limbs, starts, lows)


@compiled
def add_floats(
    patterns: Integers, narrow: NDArray[np.bool_], least: int, limbs: Integers, starts: Integers, lows: Integers
) -> None:
    """Add the powers of float64 bit patterns (features, strip) to `limbs` (features, limbs of the four powers)."""
    strip_size = patterns.shape[1]
    used = np.empty(min(strip_size, EXPONENT_ROWS), np.int64)
    narrow_rows = np.zeros((EXPONENT_ROWS if narrow.any() else 0, NARROW_COLUMNS), np.int64)
    wide_rows = np.zeros((0 if narrow.all() else EXPONENT_ROWS, WIDE_COLUMNS), np.int64)
    for feature in range(patterns.shape[0]):
        if narrow[feature]:
            add_narrow(patterns[feature], least, narrow_rows, used, limbs[feature], starts, lows)
        else:
            add_wide(patterns[feature], least, wide_rows, used, limbs[feature], starts, lows)
        carry(limbs[feature], starts)


@compiled
def add_small_integers(values: NDArray[np.int32], limbs: Integers, starts: Integers, lows: Integers) -> None:
    """Add the powers of integers of at most 16 bits and a sign, (features, strip); a strip may hold 2¹⁵ of them."""
    for feature in range(values.shape[0]):
        first = second = third = fourth_high = fourth_low = np.int64(0)
        for at in range(values.shape[1]):
            m = np.int64(values[feature, at])
            square = m * m
            first += m
            second += square
            third += square * m
            fourth_high += (square >> 16) * square
            fourth_low += (square & 65535) * square
        row = limbs[feature]
        add_term(row, starts[0], -lows[0], first)
        add_term(row, starts[1], -lows[1], second)
        add_term(row, starts[2], -lows[2], third)
        add_term(row, starts[3], 16 - lows[3], fourth_high)
        add_term(row, starts[3], -lows[3], fourth_low)
        carry(row, starts)


@compiled
def add_product(left: Integers, right: Integers, sign: int, columns: Integers) -> None:
    """Add the digit products of `left · right · sign` to `columns`, without carries."""
    for i in range(left.shape[0]):
        for j in range(right.shape[0]):
            columns[i + j] += sign * left[i] * right[j]


@compiled
def flush_columns(columns: Integers, limbs: Integers, start: int, low: int) -> None:
    """Move columns of digits into the limbs of one power."""
    for digit in range(columns.shape[0]):
        add_term(limbs, start, DIGIT_BITS * digit - low, columns[digit])
    columns[:] = 0


@compiled
def add_large_integers(
    magnitudes: NDArray[np.uint64], negative: NDArray[np.bool_], limbs: Integers, starts: Integers, lows: Integers
) -> None:
    """Add the powers of 64-bit integers, (features, strip), as digits of 22 bits; a strip may hold 2¹⁵ of them."""
    m, square, one = np.zeros(3, np.int64), np.zeros(6, np.int64), np.ones(1, np.int64)
    first, second, third, fourth = np.zeros(3, np.int64), np.zeros(6, np.int64), np.zeros(8, np.int64), np.zeros(11, np.int64)
    for feature in range(magnitudes.shape[0]):
        for at in range(magnitudes.shape[1]):
            magnitude = magnitudes[feature, at]
            for digit in range(3):
                m[digit] = np.int64((magnitude >> np.uint64(DIGIT_BITS * digit)) & DIGIT_MASK)
            square[:] = 0
            add_product(m, m, 1, square)
            for digit in range(5):
                square[digit + 1] += square[digit] >> DIGIT_BITS
                square[digit] &= np.int64(DIGIT_MASK)
            sign = -1 if negative[feature, at] else 1
            add_product(m, one, sign, first)
            add_product(square, one, 1, second)
            add_product(square, m, sign, third)
            add_product(square, square, 1, fourth)
        row = limbs[feature]
        flush_columns(first, row, starts[0], lows[0])
        flush_columns(second, row, starts[1], lows[1])
        flush_columns(third, row, starts[2], lows[2])
        flush_columns(fourth, row, starts[3], lows[3])
        carry(row, starts)
