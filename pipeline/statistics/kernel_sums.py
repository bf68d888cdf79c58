"""Compiled sums of powers, exact, of any float64 or 64-bit integers, one number after the other.

Not here: sums of many numbers of like magnitudes, which are far quicker (`kernel_panels.py`), and limbs (`kernel_limbs.py`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.statistics.kernel_limbs import add_sums, carry, terms_of
from pipeline.statistics.kernels import Integers, compiled

FRACTION = np.int64(2**52 - 1)
EXPONENTS = 2048
LEAST_EXPONENT = -1075

HALF_BITS = 27
HALF_MASK = np.int64(2**HALF_BITS - 1)
TABLE_TERMS = terms_of(HALF_BITS, range(2), range(4), range(5), range(0, 7, 2), twice=range(1, 6, 2))
TABLE_COLUMNS = 20
TABLE_ROOM = 128

DIGIT_BITS = 22
DIGIT_MASK = np.uint64(2**DIGIT_BITS - 1)
INTEGER_TERMS = terms_of(DIGIT_BITS, range(3), range(6), range(8), range(11))


@compiled
def add_patterns(strip: Integers, size: int, table: Integers, used: Integers, limbs: Integers, layout: Integers) -> None:
    """Add the powers of the first `size` of a strip of bit patterns, of finite float64 of one feature.

    They are m·2^e with an integer m of 53 bits, and those of equal e are added up as integers in one row of `table`
    (exponents, digit products), which is zero before and after. m has two digits of 27 bits and m² four; m³ and m⁴ are sums of
    products of those digits, below 3·2⁵⁴ each, so a row takes 128 numbers. The odd places of m⁴ are kept halved.
    """
    count = 0
    for which in range(size):
        pattern = strip[which]
        biased = (pattern >> 52) & 2047
        m = (pattern & FRACTION) | (np.int64(biased != 0) << 52)
        e0, e1 = m & HALF_MASK, m >> HALF_BITS
        p0, p1, p2 = e0 * e0, 2 * e0 * e1, e1 * e1
        p1 += p0 >> HALF_BITS
        p2 += p1 >> HALF_BITS
        d0, d1, d2, d3 = p0 & HALF_MASK, p1 & HALF_MASK, p2 & HALF_MASK, p2 >> HALF_BITS
        if pattern < 0:
            e0, e1 = -e0, -e1
        at = max(biased, 1)
        row = table[at]
        if row[18] == TABLE_ROOM:
            add_sums(row, TABLE_TERMS, at + LEAST_EXPONENT, limbs, layout)
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
        row[12] += 2 * d0 * d2 + d1 * d1
        row[13] += 2 * d1 * d3 + d2 * d2
        row[14] += d3 * d3
        row[15] += d0 * d1
        row[16] += d0 * d3 + d1 * d2
        row[17] += d2 * d3
    for which in range(count):
        at = used[which]
        add_sums(table[at], TABLE_TERMS, at + LEAST_EXPONENT, limbs, layout)
        table[at, 18] = 0


@compiled
def add_product(left: Integers, right: Integers, sign: int, columns: Integers) -> None:
    """Add the digit products of `left · right · sign` to `columns`, without carries."""
    for i in range(left.shape[0]):
        for j in range(right.shape[0]):
            columns[i + j] += sign * left[i] * right[j]


@compiled
def add_large_integers(magnitudes: NDArray[np.uint64], negative: NDArray[np.bool_], limbs: Integers, layout: Integers) -> None:
    """Add the powers of 64-bit integers, (features, strip), as digits of 22 bits; a strip may hold 2¹⁵ of them."""
    m, square, one, sums = np.zeros(3, np.int64), np.zeros(6, np.int64), np.ones(1, np.int64), np.zeros(28, np.int64)
    first, second, third, fourth = sums[:3], sums[3:9], sums[9:17], sums[17:]
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
        add_sums(sums, INTEGER_TERMS, 0, limbs[feature], layout)
        carry(limbs[feature], layout)
