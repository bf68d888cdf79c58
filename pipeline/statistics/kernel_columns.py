"""Compiled counts, extrema and power sums of the columns of a panel.

Not here: how panels are made of blocks (`kernel_panels.py`), and the sums in one window of exponents (`kernel_windows.py`).

Sixteen columns are looked at together, and eight of them added up; the rows of `facts` are what is known of the sixteen.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pipeline.statistics.kernel_limbs import add_sums, cover
from pipeline.statistics.kernel_sums import add_patterns
from pipeline.statistics.kernel_windows import BEGIN, GROUP, LANES, SCALE, UNIT, WINDOW_FACTS
from pipeline.statistics.kernels import Floats, Integers, cast_to, choose, compiled, fill, inlined, load, magnitude, some, store

FACTS = WINDOW_FACTS + 8
LOW, HIGH, LEAST, FINITE, ZEROS, POSINF, NEGINF, TOP = range(WINDOW_FACTS, FACTS)

MOST_WINDOWS = 6  # beyond that one by one is as quick
FEW = 128  # so is it where less than one value in so many is left
LEAST_TOP = 2.0**-900  # below, SCALE could overflow


@inlined
def add_columns(
    panel: Floats,
    rows: int,
    width: int,
    features: Integers,
    counts: Integers,
    extrema: Floats,
    limbs: Integers,
    layout: Integers,
    add_window: Any,
    terms: Integers,
    rules: tuple[int, int, int],
    scratch: Any,
) -> Integers:
    """Add all columns of a panel to what is known of their features; returns the limbs.

    Power sums are taken in windows of exponents, each below the greatest magnitude that is left: one window for most data, a
    second one if some are very near to zero. What is left when it is hardly anything, or after many windows, is
    added one by one.
    """
    bits, reach, _ = rules
    facts, totals, sums, taken, strips, sizes, table, used = scratch
    for at in range(0, width, GROUP):
        sweep(panel, at, width, rows, facts)
        least, greatest = record(facts, features, at, counts, extrema)
        if greatest == 0:
            continue
        limbs = cover(limbs, layout, exponent(least) - bits, exponent(greatest))
        for lane in range(0, GROUP, LANES):
            left = np.int64(LANES * rows)
            for _ in range(MOST_WINDOWS):
                if not open_window(facts, lane, features, at, bits, reach):
                    break
                source, start, step = panel, at + lane, width
                if is_window(facts, lane, rows):
                    left = np.int64(0)
                else:
                    left = take_window(panel, at + lane, width, rows, facts, lane, taken)
                    source, start, step = taken, 0, LANES
                add_window(source, start, step, rows, facts, lane, totals)
                add_totals(totals, sums, terms, facts, lane, features, at, limbs, layout)
                if FEW * left < LANES * rows:
                    break
            if left:
                collect(panel, at + lane, width, rows, strips, sizes)
                for column in range(LANES):
                    limbs_of_one = limbs[features[at + lane + column]]
                    add_patterns(strips.view(np.int64)[column], sizes[column], table, used, limbs_of_one, layout)
    return limbs


@compiled
def sweep(panel: Floats, at: int, stride: int, rows: int, facts: Floats) -> None:
    """Extrema of the finite values, the least non-zero magnitude, and counts, of each column of a group."""
    zero = fill(0.0, load(panel, at, GROUP))
    one, infinity, minus_infinity = fill(1.0, zero), fill(np.inf, zero), fill(-np.inf, zero)
    low, high, least = infinity, minus_infinity, infinity
    finite = zeros = posinf = neginf = zero
    for row in range(rows):
        value = load(panel, at + row * stride, GROUP)
        size = magnitude(value)
        is_finite = size < infinity
        lower, upper = choose(is_finite, value, infinity), choose(is_finite, value, minus_infinity)
        low = choose(lower < low, lower, low)
        high = choose(high < upper, upper, high)
        finite = finite + choose(is_finite, one, zero)
        zeros = zeros + choose(value == zero, one, zero)
        posinf = posinf + choose(value == infinity, one, zero)
        neginf = neginf + choose(value == minus_infinity, one, zero)
        size = choose(zero < size, size, infinity)
        least = choose(size < least, size, least)
    for fact, lanes in enumerate((low, high, least, finite, zeros, posinf, neginf)):
        store(facts, GROUP * (LOW + fact), cast_to(lanes, load(facts, 0, GROUP)))


@compiled
def record(facts: Floats, features: Integers, at: int, counts: Integers, extrema: Floats) -> tuple[float, float]:
    """Take over what `sweep` found of the columns from `at` on.

    Returns the least non-zero magnitude and the greatest one of all these columns.
    """
    least, greatest = np.inf, 0.0
    for lane in range(GROUP):
        feature, low, high = features[at + lane], facts[LOW, lane], facts[HIGH, lane]
        extrema[0, feature] = min(extrema[0, feature], low)
        extrema[1, feature] = max(extrema[1, feature], high)
        counts[0, feature] += np.int64(facts[FINITE, lane])
        counts[2, feature] += np.int64(facts[POSINF, lane])
        counts[3, feature] += np.int64(facts[NEGINF, lane])
        counts[4, feature] += np.int64(facts[ZEROS, lane])
        facts[TOP, lane] = max(-low, high, 0.0)
        least, greatest = min(least, facts[LEAST, lane]), max(greatest, facts[TOP, lane])
    return least, greatest


@inlined
def exponent(size: float) -> int:
    """The least e of which 2^e is more than `size`, which is finite and not negative."""
    return math.frexp(size)[1]


@compiled
def open_window(facts: Floats, lane: int, features: Integers, at: int, bits: int, reach: int) -> bool:
    """Set the windows of eight columns, from BEGIN to above their TOP, alike for columns that are all of one feature.

    False, with nothing set, where SCALE could overflow.
    """
    alike, top = True, 0.0
    for column in range(lane, lane + LANES):
        if 0 < facts[TOP, column] < LEAST_TOP:
            return False
        alike = alike and features[at + column] == features[at + lane]
        top = max(top, facts[TOP, column])
    for column in range(lane, lane + LANES):
        top = top if alike else facts[TOP, column]
        end = exponent(top)
        facts[BEGIN, column] = math.ldexp(1.0, end - reach) if top > 0 else 0.0
        facts[SCALE, column] = math.ldexp(1.0, bits - end)
        facts[UNIT, column] = end - bits
    return True


@inlined
def is_window(facts: Floats, lane: int, rows: int) -> bool:
    """Whether all values of eight columns are 0 or in their windows."""
    for column in range(lane, lane + LANES):
        if facts[LEAST, column] < facts[BEGIN, column] or facts[FINITE, column] < rows:
            return False
    return True


@compiled
def take_window(panel: Floats, at: int, stride: int, rows: int, facts: Floats, lane: int, taken: Floats) -> np.int64:
    """Move the values of eight columns that are in their windows to `taken`, with 0 in place of what is not.

    The panel keeps those below and has 0 in place of all others. Sets TOP to the greatest magnitudes that it keeps, and
    returns how many it keeps that are not 0.
    """
    value = load(panel, at, LANES)
    begin = cast_to(load(facts, GROUP * BEGIN + lane, LANES), value)
    zero, one, infinity = fill(0.0, value), fill(1.0, value), fill(np.inf, value)
    count = top = zero
    for row in range(rows):
        value = load(panel, at + row * stride, LANES)
        size = magnitude(value)
        below = size < begin
        store(taken, LANES * row, choose((begin <= size) & (size < infinity), value, zero))
        store(panel, at + row * stride, choose(below, value, zero))
        size = choose(below, size, zero)
        count = count + choose(zero < size, one, zero)
        top = choose(top < size, size, top)
    like, left = load(facts, 0, LANES), 0.0
    store(facts, GROUP * TOP + lane, cast_to(count, like))
    for column in range(lane, lane + LANES):
        left += facts[TOP, column]
    store(facts, GROUP * TOP + lane, cast_to(top, like))
    return np.int64(left)


@compiled
def add_totals(
    totals: Floats,
    sums: Integers,
    terms: Integers,
    facts: Floats,
    lane: int,
    features: Integers,
    at: int,
    limbs: Integers,
    layout: Integers,
) -> None:
    """Add the totals of eight columns' windows to the limbs of their features, by way of `sums`, which are 0 before and after.

    Those of neighbouring columns of one feature and unit are added up before: eight of them are exact as int64.
    """
    for column in range(lane, lane + LANES):
        for term in range(len(terms)):
            sums[term] += np.int64(totals[term, column - lane])
        feature, unit = features[at + column], facts[UNIT, column]
        if column + 1 == lane + LANES or features[at + column + 1] != feature or facts[UNIT, column + 1] != unit:
            add_sums(sums, terms, int(unit), limbs[feature], layout)


@compiled
def collect(panel: Floats, at: int, stride: int, rows: int, strips: Floats, sizes: Integers) -> None:
    """Copy the finite values of eight columns that are not 0 into a strip for each."""
    zero = fill(0.0, load(panel, at, LANES))
    infinity = fill(np.inf, zero)
    for column in range(LANES):
        sizes[column] = 0
    for row in range(rows):
        size = magnitude(load(panel, at + row * stride, LANES))
        if some((zero < size) & (size < infinity)):
            for column in range(LANES):
                value = panel[at + row * stride + column]
                if 0 < abs(value) < np.inf:
                    strips[column, sizes[column]] = value
                    sizes[column] += 1
