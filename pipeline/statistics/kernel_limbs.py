"""Compiled fixed-point numbers: the limbs of every feature's four power sums, and how terms enter them.

Not here: what makes terms of data (`kernel_columns.py`, `kernel_sums.py`), and what becomes of limbs (`exact.py`).

Limbs are an array (feature, limbs of the four powers). Their layout is an array too: the window of exponents that they are made
for (2 numbers), where the limbs of each power begin, with the end at last (5), and the exponents of those first limbs (4).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from pipeline.statistics.kernels import Integers, compiled

WORD_BITS = 32
WORD_MASK = np.int64(2**WORD_BITS - 1)
POWERS = 4
SLACK_BITS = 8

LAYOUT_SIZE = 11
STARTS = slice(2, 7)
LOWS = slice(7, 11)


def terms_of(digit_bits: int, *places: Iterable[int], twice: Iterable[int] = ()) -> Integers:
    """What sums of products of digits are: rows (power less one, bits from 1 to where 1 of the sum stands).

    Parameters
    ----------
    digit_bits : int
        How many bits a digit has.
    *places : iterable of int
        For each of the four powers, one after the other, the digits' places that its sums belong to.
    twice : iterable of int
        The places of sums of the fourth power, which come last, that count twice.
    """
    rows = [(power, digit_bits * place) for power in range(POWERS) for place in places[power]]
    return np.array(rows + [(POWERS - 1, digit_bits * place + 1) for place in twice], np.int64)


@compiled
def cover(limbs: Integers, layout: Integers, low: int, high: int) -> Integers:
    """Limbs that hold the powers of multiples of 2^low that are below 2^high too, and what `limbs` hold; sets `layout`.

    Three limbs more than a power needs take up the terms' own 64 bits, and with them 2^63 values and the sign.
    """
    if layout[0] <= low and high <= layout[1]:
        return limbs
    before = layout.copy()
    fresh = limbs.shape[1] == 0
    slack = SLACK_BITS if fresh else before[1] - before[0]  # at least twice as wide each time: seldom copied
    layout[0] = before[0] if not fresh and before[0] <= low else low - slack
    layout[1] = before[1] if not fresh and high <= before[1] else high + slack
    starts, lows, starts_before, lows_before = layout[STARTS], layout[LOWS], before[STARTS], before[LOWS]
    for power in range(POWERS):
        lows[power] = (power + 1) * layout[0] // WORD_BITS * WORD_BITS
        starts[power + 1] = starts[power] + ((power + 1) * layout[1] - lows[power]) // WORD_BITS + 4
    covering = np.zeros((limbs.shape[0], starts[POWERS]), np.int64)
    for power in range(0 if fresh else POWERS):
        shift = starts[power] - starts_before[power] + (lows_before[power] - lows[power]) // WORD_BITS
        for feature in range(limbs.shape[0]):
            for at in range(starts_before[power], starts_before[power + 1]):
                covering[feature, at + shift] = limbs[feature, at]
    return covering


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
def add_sums(sums: Integers, terms: Integers, unit: int, limbs: Integers, layout: Integers) -> None:
    """Add sums of the powers of numbers whose 1 stands for 2^unit to the limbs of one feature, and set them to 0.

    What each is a sum of is a row of `terms`, as `terms_of` makes them.
    """
    for term in range(len(terms)):
        if sums[term] != 0:
            power, bit = terms[term]
            add_term(limbs, layout[STARTS][power], (power + 1) * unit + bit - layout[LOWS][power], sums[term])
            sums[term] = 0


@compiled
def carry(limbs: Integers, layout: Integers) -> None:
    """Bring the limbs of one feature back into [0, 2^32), all but the topmost of each power."""
    starts = layout[STARTS]
    for power in range(POWERS):
        for at in range(starts[power], starts[power + 1] - 1):
            limbs[at + 1] += limbs[at] >> 32
            limbs[at] &= WORD_MASK
