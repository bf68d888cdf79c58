"""Compiled power sums of eight columns side by side, exact, of numbers in one window of exponents.

Not here: which numbers are in it (`kernel_columns.py`), and how the totals enter the limbs (`kernel_limbs.py`).

In its window a number is a whole multiple of one unit, and of so few bits that two or three digits of 22 bits hold it, and
twice as many its square, or three that of a number of 32 bits. A digit is a float64 that keeps its place: a multiple of
2^(22·place), of either sign because it is rounded, which is what adding 1.5·2⁵² such multiples and taking them off again
does. A product of two digits is at most 2⁴² in its place. So float64 adds up 1024 times two of them, or 512 times three,
exactly, and the totals depend neither on their order nor on whether a processor multiplies and adds in one instruction.
"""

from __future__ import annotations

from typing import Any

from pipeline.statistics.kernel_limbs import terms_of
from pipeline.statistics.kernels import Floats, cast_to, compiled, fill, inlined, load, multiply_add, store

LANES = 8
GROUP = 16
WINDOW_FACTS = (
    3  # what is known of the windows of a group's columns, a row each: where they begin, 1 / unit, the unit's exponent
)
BEGIN, SCALE, UNIT = range(WINDOW_FACTS)

DIGIT_BITS = 22
ROUND_1, ROUND_2, ROUND_3, ROUND_4, ROUND_5 = (1.5 * 2.0 ** (52 + DIGIT_BITS * place) for place in range(1, 6))

NARROW_BITS = 2 * DIGIT_BITS - 1  # a window ends at 2^NARROW_BITS units
NARROW_REACH = NARROW_BITS - 23  # and covers so many exponents of float32
NARROW_TERMS = terms_of(DIGIT_BITS, (0,), (0, 2), range(5), range(0, 7, 2), twice=range(1, 6))
NARROW_FACTORS = 2.0 ** -(NARROW_TERMS[:, 1] // DIGIT_BITS * DIGIT_BITS)
NARROW_ROWS = 1024

SLIM_BITS = 32  # so few that three digits hold the square: what spreads less needs two thirds of the products
SLIM_REACH = SLIM_BITS - 23

WIDE_BITS = 3 * DIGIT_BITS - 1
WIDE_REACH = WIDE_BITS - 52
WIDE_TERMS = terms_of(DIGIT_BITS, (0, 2), (0, 2, 4), range(8), range(0, 11, 2), twice=range(1, 10))
WIDE_FACTORS = 2.0 ** -(WIDE_TERMS[:, 1] // DIGIT_BITS * DIGIT_BITS)
WIDE_ROWS = 512


@inlined
def split(x: Any, round1: Any, round2: Any) -> tuple[Any, Any, Any, Any, Any, Any]:
    """The two digits of numbers; of their squares what is below place 2 and what is not, and the two digits of the former."""
    x1 = (x + round1) - round1
    square = x * x
    high = (square + round2) - round2
    low = square - high
    s1 = (low + round1) - round1
    return x - x1, x1, low, high, low - s1, s1


@compiled
def add_narrow_window(panel: Floats, at: int, stride: int, rows: int, facts: Floats, lane: int, totals: Floats) -> None:
    """Totals, as `NARROW_TERMS` has them, of up to 1024 rows of eight columns.

    Times SCALE their magnitudes are 0 or whole numbers below 2⁴³.
    """
    scale = load(facts, GROUP * SCALE + lane, LANES)
    zero, round1, round2, round3 = fill(0.0, scale), fill(ROUND_1, scale), fill(ROUND_2, scale), fill(ROUND_3, scale)
    first0 = second0 = second2 = third0 = third1 = third2 = third3 = third4 = zero
    fourth0 = fourth2 = fourth4 = fourth6 = twice1 = twice2 = twice3 = twice4 = twice5 = zero
    for row in range(rows):
        x = cast_to(load(panel, at + row * stride, LANES), scale) * scale
        x0, x1, low, high, s0, s1 = split(x, round1, round2)
        s3 = (high + round3) - round3
        s2 = high - s3
        first0 = first0 + x
        second0, second2 = second0 + low, second2 + high
        third0 = multiply_add(x0, s0, third0)
        third1 = multiply_add(x1, s0, multiply_add(x0, s1, third1))
        third2 = multiply_add(x1, s1, multiply_add(x0, s2, third2))
        third3 = multiply_add(x1, s2, multiply_add(x0, s3, third3))
        third4 = multiply_add(x1, s3, third4)
        fourth0 = multiply_add(s0, s0, fourth0)
        fourth2 = multiply_add(s1, s1, fourth2)
        fourth4 = multiply_add(s2, s2, fourth4)
        fourth6 = multiply_add(s3, s3, fourth6)
        twice1 = multiply_add(s0, s1, twice1)
        twice2 = multiply_add(s0, s2, twice2)
        twice3 = multiply_add(s1, s2, multiply_add(s0, s3, twice3))
        twice4 = multiply_add(s1, s3, twice4)
        twice5 = multiply_add(s2, s3, twice5)
    powers = (first0, second0, second2, third0, third1, third2, third3, third4)
    fourths = (fourth0, fourth2, fourth4, fourth6, twice1, twice2, twice3, twice4, twice5)
    for term, total in enumerate(powers + fourths):
        store(totals, LANES * term, total * fill(NARROW_FACTORS[term], total))


@compiled
def add_slim_window(panel: Floats, at: int, stride: int, rows: int, facts: Floats, lane: int, totals: Floats) -> None:
    """What `add_narrow_window` does. Times SCALE the magnitudes are 0 or whole numbers below 2³²."""
    scale = load(facts, GROUP * SCALE + lane, LANES)
    zero, round1, round2 = fill(0.0, scale), fill(ROUND_1, scale), fill(ROUND_2, scale)
    first0 = second0 = second2 = third0 = third1 = third2 = third3 = zero
    fourth0 = fourth2 = fourth4 = twice1 = twice2 = twice3 = zero
    for row in range(rows):
        x = cast_to(load(panel, at + row * stride, LANES), scale) * scale
        x0, x1, low, s2, s0, s1 = split(x, round1, round2)
        first0 = first0 + x
        second0, second2 = second0 + low, second2 + s2
        third0 = multiply_add(x0, s0, third0)
        third1 = multiply_add(x1, s0, multiply_add(x0, s1, third1))
        third2 = multiply_add(x1, s1, multiply_add(x0, s2, third2))
        third3 = multiply_add(x1, s2, third3)
        fourth0 = multiply_add(s0, s0, fourth0)
        fourth2 = multiply_add(s1, s1, fourth2)
        fourth4 = multiply_add(s2, s2, fourth4)
        twice1 = multiply_add(s0, s1, twice1)
        twice2 = multiply_add(s0, s2, twice2)
        twice3 = multiply_add(s1, s2, twice3)
    powers = (first0, second0, second2, third0, third1, third2, third3, zero)
    fourths = (fourth0, fourth2, fourth4, zero, twice1, twice2, twice3, zero, zero)
    for term, total in enumerate(powers + fourths):
        store(totals, LANES * term, total * fill(NARROW_FACTORS[term], total))


@compiled
def add_wide_window(panel: Floats, at: int, stride: int, rows: int, facts: Floats, lane: int, totals: Floats) -> None:
    """Totals, as `WIDE_TERMS` has them, of up to 512 rows of eight columns.

    Times SCALE their magnitudes are 0 or whole numbers below 2⁶⁵.
    """
    scale = load(facts, GROUP * SCALE + lane, LANES)
    zero, round1, round2, round3 = fill(0.0, scale), fill(ROUND_1, scale), fill(ROUND_2, scale), fill(ROUND_3, scale)
    round4, round5 = fill(ROUND_4, scale), fill(ROUND_5, scale)
    first0 = first2 = second0 = second2 = second4 = zero
    third0 = third1 = third2 = third3 = third4 = third5 = third6 = third7 = zero
    fourth0 = fourth2 = fourth4 = fourth6 = fourth8 = fourth10 = zero
    twice1 = twice2 = twice3 = twice4 = twice5 = twice6 = twice7 = twice8 = twice9 = zero
    for row in range(rows):
        x = load(panel, at + row * stride, LANES) * scale
        x2 = (x + round2) - round2
        low = x - x2
        x1 = (low + round1) - round1
        x0 = low - x1
        first0, first2 = first0 + low, first2 + x2
        column = x0 * x0
        carried = (column + round1) - round1
        s0 = column - carried
        column = multiply_add(x0 + x0, x1, carried)
        carried = (column + round2) - round2
        s1 = column - carried
        column = multiply_add(x1, x1, multiply_add(x0 + x0, x2, carried))
        carried = (column + round3) - round3
        s2 = column - carried
        column = multiply_add(x1 + x1, x2, carried)
        carried = (column + round4) - round4
        s3 = column - carried
        column = multiply_add(x2, x2, carried)
        s5 = (column + round5) - round5
        s4 = column - s5
        second0, second2, second4 = second0 + (s0 + s1), second2 + (s2 + s3), second4 + column
        third0 = multiply_add(x0, s0, third0)
        third1 = multiply_add(x1, s0, multiply_add(x0, s1, third1))
        third2 = multiply_add(x2, s0, multiply_add(x1, s1, multiply_add(x0, s2, third2)))
        third3 = multiply_add(x2, s1, multiply_add(x1, s2, multiply_add(x0, s3, third3)))
        third4 = multiply_add(x2, s2, multiply_add(x1, s3, multiply_add(x0, s4, third4)))
        third5 = multiply_add(x2, s3, multiply_add(x1, s4, multiply_add(x0, s5, third5)))
        third6 = multiply_add(x2, s4, multiply_add(x1, s5, third6))
        third7 = multiply_add(x2, s5, third7)
        fourth0 = multiply_add(s0, s0, fourth0)
        fourth2 = multiply_add(s1, s1, fourth2)
        fourth4 = multiply_add(s2, s2, fourth4)
        fourth6 = multiply_add(s3, s3, fourth6)
        fourth8 = multiply_add(s4, s4, fourth8)
        fourth10 = multiply_add(s5, s5, fourth10)
        twice1 = multiply_add(s0, s1, twice1)
        twice2 = multiply_add(s0, s2, twice2)
        twice3 = multiply_add(s1, s2, multiply_add(s0, s3, twice3))
        twice4 = multiply_add(s1, s3, multiply_add(s0, s4, twice4))
        twice5 = multiply_add(s2, s3, multiply_add(s1, s4, multiply_add(s0, s5, twice5)))
        twice6 = multiply_add(s2, s4, multiply_add(s1, s5, twice6))
        twice7 = multiply_add(s3, s4, multiply_add(s2, s5, twice7))
        twice8 = multiply_add(s3, s5, twice8)
        twice9 = multiply_add(s4, s5, twice9)
    powers = (first0, first2, second0, second2, second4)
    thirds = (third0, third1, third2, third3, third4, third5, third6, third7)
    fourths = (fourth0, fourth2, fourth4, fourth6, fourth8, fourth10)
    twices = (twice1, twice2, twice3, twice4, twice5, twice6, twice7, twice8, twice9)
    for term, total in enumerate(powers + thirds + fourths + twices):
        store(totals, LANES * term, total * fill(WIDE_FACTORS[term], total))
