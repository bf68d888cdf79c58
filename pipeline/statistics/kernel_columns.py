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
    add_slim: Any,
    terms: Integers,
    usual: tuple[int, int],
    slim: tuple[int, int],
    scratch: Any,
) -> Integers:
    """Add all columns of a panel to what is known of their features; returns the limbs.

    Power sums are taken in windows of exponents, each below the greatest magnitude that is left: one window for most data, a
    second one if some are very near to zero. What is left when it is hardly anything, or after many windows, is
    added one by one.
    """
    facts, totals, kept, units, sums, taken, strips, sizes, table, used = scratch
    for at in range(0, width, GROUP):
        sweep(panel, at, width, rows, facts)
        least, greatest = record(facts, features, at, counts, extrema)
        if greatest == 0:
            continue
        limbs = cover(limbs, layout, exponent(least) - usual[0], exponent(greatest))
        for lane in range(0, GROUP, LANES):
            left = np.int64(LANES * rows)
            for _ in range(MOST_WINDOWS):
                bits = open_narrowest(facts, lane, features, at, usual, slim, units)
                if bits == 0:
                    break
                source, start, step = panel, at + lane, width
                if is_within(facts, lane) and is_finite(facts, lane, rows):
                    left = np.int64(0)
                else:
                    left = take_window(panel, at + lane, width, rows, facts, lane, taken)
                    source, start, step = taken, 0, LANES
                if bits == slim[0]:
                    add_slim(source, start, step, rows, facts, lane, totals)
                else:
                    add_window(source, start, step, rows, facts, lane, totals)
                keep_totals(totals, kept, units, terms, sums, facts, lane, features, at, limbs, layout)
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
def open_narrowest(
    facts: Floats, lane: int, features: Integers, at: int, usual: tuple[int, int], slim: tuple[int, int], units: Integers
) -> int:
    """Set the windows of eight columns: `slim` ones where they hold all that is left, else `usual` ones.

    Returns of how many bits they are; 0, with nothing set, where there is none.
    """
    if open_window(facts, lane, features, at, slim, units) and is_within(facts, lane):
        return slim[0]
    return usual[0] if open_window(facts, lane, features, at, usual, units) else 0


@compiled
def open_window(facts: Floats, lane: int, features: Integers, at: int, rule: tuple[int, int], units: Integers) -> bool:
    """Set the windows of eight columns, from BEGIN to above their TOP, of so many bits and exponents as `rule` says.

    Columns that are all of one feature end alike. A window of the column's last unit, if all that is left lies in it, comes
    first: its totals may be kept with the last ones. False, with nothing set, where SCALE could overflow.
    """
    bits, reach = rule
    alike, top, least = True, 0.0, np.inf
    for column in range(lane, lane + LANES):
        if 0 < facts[TOP, column] < LEAST_TOP:
            return False
        alike = alike and features[at + column] == features[at + lane]
        top, least = max(top, facts[TOP, column]), min(least, facts[LEAST, column])
    for column in range(lane, lane + LANES):
        if not alike:
            top, least = facts[TOP, column], facts[LEAST, column]
        end = exponent(top)
        before = units[at + column] + bits
        if end < before and math.ldexp(1.0, before - reach) <= least:
            end = before
        facts[BEGIN, column] = math.ldexp(1.0, end - reach) if top > 0 else 0.0
        facts[SCALE, column] = math.ldexp(1.0, bits - end)
        facts[UNIT, column] = end - bits
    return True


@inlined
def is_within(facts: Floats, lane: int) -> bool:
    """Whether none of the finite values of eight columns but 0 is below their windows."""
    within = True
    for column in range(lane, lane + LANES):
        within = within and facts[LEAST, column] >= facts[BEGIN, column]
    return within


@inlined
def is_finite(facts: Floats, lane: int, rows: int) -> bool:
    """Whether all values of eight columns are finite."""
    finite = True
    for column in range(lane, lane + LANES):
        finite = finite and facts[FINITE, column] == rows
    return finite


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
def keep_totals(
    totals: Floats,
    kept: Integers,
    units: Integers,
    terms: Integers,
    sums: Integers,
    facts: Floats,
    lane: int,
    features: Integers,
    at: int,
    limbs: Integers,
    layout: Integers,
) -> None:
    """Add the totals of eight columns' windows to what is `kept` of the panels above, if that is of the same units.

    What is kept of another unit enters the limbs first.
    """
    first = at + lane
    for column in range(LANES):
        unit = np.int64(facts[UNIT, lane + column])
        if units[first + column] != unit:
            put_totals(kept, units, first + column, first + column + 1, terms, sums, features, limbs, layout)
            units[first + column] = unit
    own = kept[first // LANES]
    for term in range(len(terms)):
        for column in range(LANES):
            own[term, column] += np.int64(totals[term, column])


@compiled
def put_totals(
    kept: Integers,
    units: Integers,
    first: int,
    stop: int,
    terms: Integers,
    sums: Integers,
    features: Integers,
    limbs: Integers,
    layout: Integers,
) -> None:
    """Add what is kept of columns to the limbs of their features, by way of `sums`, which are 0 before and after.

    That of neighbouring columns of one feature and unit is added up before.
    """
    for column in range(first, stop):
        own = kept[column // LANES]
        for term in range(len(terms)):
            sums[term] += own[term, column % LANES]
            own[term, column % LANES] = 0
        behind = column + 1
        if behind == stop or behind % LANES == 0 or features[behind] != features[column] or units[behind] != units[column]:
            add_sums(sums, terms, units[column], limbs[features[column]], layout)


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
