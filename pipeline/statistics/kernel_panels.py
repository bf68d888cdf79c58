"""Compiled sweeps over blocks of floats: counts, extrema and exact power sums, a panel after the other.

Not here: how other dtypes and layouts become such blocks (`tiles.py`), and what is done with columns (`kernel_columns.py`).

A panel is a part of a block that a processor's cache holds, copied into rows. Each of its columns holds values of one feature,
and NaN where there are no more. Features that lie side by side are its columns, and if they are few, several rows of them; of a
feature whose own values lie side by side, all columns are made.
"""

from __future__ import annotations

from math import gcd
from typing import Any

import numpy as np

from pipeline.statistics.kernel_columns import FACTS, add_columns, put_totals
from pipeline.statistics.kernel_limbs import carry
from pipeline.statistics.kernel_sums import EXPONENTS, TABLE_COLUMNS
from pipeline.statistics.kernel_windows import (
    GROUP,
    LANES,
    NARROW_BITS,
    NARROW_REACH,
    NARROW_ROWS,
    NARROW_TERMS,
    SLIM_BITS,
    SLIM_REACH,
    WIDE_BITS,
    WIDE_REACH,
    WIDE_ROWS,
    WIDE_TERMS,
    add_narrow_window,
    add_slim_window,
    add_wide_window,
)
from pipeline.statistics.kernels import Floats, Integers, compiled, inlined, load, store
from pipeline.statistics.tiles import goes_by_features

MOST_COLUMNS = 128
KEPT_PANELS = 64  # whose totals, below 2⁵³ each, and those of eight columns, an int64 holds together


def row_fold(shape: tuple[int, ...]) -> int:
    """The `fold` for a block of that shape (outer, feature, inner); short rows together make whole groups of columns.

    Examples
    --------
    >>> row_fold((16384, 2000, 1)), row_fold((5_017_600, 3, 1)), row_fold((100, 3, 50176))
    (1, 16, 0)
    """
    if goes_by_features(shape):
        return 0
    row_size = shape[1] * shape[2]
    return GROUP // gcd(GROUP, row_size) if row_size < MOST_COLUMNS and shape[0] >= GROUP else 1


@compiled
def add_singles(
    block: Floats, fold: int, first: int, counts: Integers, extrema: Floats, limbs: Integers, layout: Integers
) -> Integers:
    """Add a C-contiguous block of float32 (outer, feature, inner), of the features from `first` on.

    Adds to `counts` (nobs, nan, posinf, neginf, zeros, a row each), but NaN, which who knows the number of values works out;
    widens `extrema` (minima, maxima), sets `layout`, and returns the limbs, new ones where those given are too few. With a
    `fold`, which divides outer, as many rows (feature, inner) make one that panels are cut from; with 0 a panel is of one
    feature.
    """
    rules = (NARROW_ROWS, (NARROW_BITS, NARROW_REACH), (SLIM_BITS, SLIM_REACH))
    add_window, add_slim = add_narrow_window, add_slim_window
    return add_block(block, fold, first, counts, extrema, limbs, layout, add_window, add_slim, NARROW_TERMS, rules)


@compiled
def add_doubles(
    block: Floats, fold: int, first: int, counts: Integers, extrema: Floats, limbs: Integers, layout: Integers
) -> Integers:
    """Add a C-contiguous block of float64, as `add_singles` does."""
    wide = (WIDE_BITS, WIDE_REACH)
    rules = (WIDE_ROWS, wide, wide)
    return add_block(block, fold, first, counts, extrema, limbs, layout, add_wide_window, add_wide_window, WIDE_TERMS, rules)


@inlined
def add_block(
    block: Floats,
    fold: int,
    first: int,
    counts: Integers,
    extrema: Floats,
    limbs: Integers,
    layout: Integers,
    add_window: Any,
    add_slim: Any,
    terms: Integers,
    rules: tuple[int, tuple[int, int], tuple[int, int]],
) -> Integers:
    """What `add_singles` and `add_doubles` do, with what adds up a window, its terms, and how many bits and rows it takes."""
    most_rows, usual, slim = rules
    flat = block.reshape(block.size)
    panel, features = np.empty(MOST_COLUMNS * most_rows, block.dtype), np.empty(MOST_COLUMNS, np.int64)
    facts, totals, sums = np.empty((FACTS, GROUP)), np.empty((len(terms), LANES)), np.zeros(len(terms), np.int64)
    kept, units = np.zeros((MOST_COLUMNS // LANES, len(terms), LANES), np.int64), np.zeros(MOST_COLUMNS, np.int64)
    taken, strips, sizes = np.empty(LANES * most_rows, block.dtype), np.empty((LANES, most_rows)), np.empty(LANES, np.int64)
    table, used = np.zeros((EXPONENTS, TABLE_COLUMNS), np.int64), np.empty(EXPONENTS, np.int64)
    scratch = (facts, totals, kept, units, sums, taken, strips, sizes, table, used)
    across, down = panel_counts(block.shape, fold, most_rows)
    for column in range(across):
        for row in range(down):
            rows, width = fill_panel(flat, block.shape, fold, row, column, most_rows, first, panel, features)
            limbs = add_columns(
                panel, rows, width, features, counts, extrema, limbs, layout, add_window, add_slim, terms, usual, slim, scratch
            )
            if row % KEPT_PANELS == KEPT_PANELS - 1 or row == down - 1:
                put_totals(kept, units, 0, width, terms, sums, features, limbs, layout)
    for feature in range(first, first + block.shape[1]):
        carry(limbs[feature], layout)
    return limbs


@inlined
def panel_counts(shape: tuple[int, int, int], fold: int, most_rows: int) -> tuple[int, int]:
    """How many panels a block makes: side by side, and of the same columns one after the other."""
    outer, kept, inner = shape
    if fold == 0:
        return kept, -(-outer * inner // (most_rows * GROUP))
    row_size = fold * kept * inner
    return -(-row_size // width_of(row_size)), -(-outer // (fold * most_rows))


@inlined
def width_of(row_size: int) -> int:
    """How wide panels are that a row is cut into: in nearly even parts of whole groups."""
    parts = -(-row_size // MOST_COLUMNS)
    return -(-row_size // (parts * GROUP)) * GROUP


@compiled
def fill_panel(
    flat: Floats,
    shape: tuple[int, int, int],
    fold: int,
    down: int,
    across: int,
    most_rows: int,
    first: int,
    panel: Floats,
    features: Integers,
) -> tuple[int, int]:
    """Copy one of a block's panels, and set which features its columns are of; returns its rows and its width."""
    outer, kept, inner = shape
    if fold == 0:
        start = down * most_rows * GROUP
        size = min(most_rows * GROUP, outer * inner - start)
        copy_feature(flat, shape, across, start, size, panel)
        for at in range(GROUP):
            features[at] = first + across
        return -(-size // GROUP), GROUP
    row_size = fold * kept * inner
    width = width_of(row_size)
    row, column = down * most_rows, across * width
    rows, size = min(most_rows, outer // fold - row), min(width, row_size - column)
    copy_rows(flat, row * row_size + column, row_size, rows, size, panel, width)
    for at in range(width):
        features[at] = first + min(column + at, row_size - 1) // inner % kept
    return rows, width


@compiled
def copy_feature(flat: Floats, shape: tuple[int, int, int], feature: int, start: int, size: int, panel: Floats) -> None:
    """Copy `size` values of one feature, from its value `start` on, and NaN behind them to the end of a row."""
    _, kept, inner = shape
    done = 0
    while done < size:
        row, along = (start + done) // inner, (start + done) % inner
        run = min(inner - along, size - done)
        copy_run(flat, (row * kept + feature) * inner + along, run, panel, done)
        done += run
    for at in range(size, -(-size // GROUP) * GROUP):
        panel[at] = np.nan


@inlined
def copy_run(flat: Floats, start: int, size: int, panel: Floats, at: int) -> None:
    """Copy `size` values that lie side by side."""
    whole = size // GROUP * GROUP
    for lane in range(0, whole, GROUP):
        store(panel, at + lane, load(flat, start + lane, GROUP))
    for lane in range(whole, size):
        panel[at + lane] = flat[start + lane]


@compiled
def copy_rows(flat: Floats, start: int, stride: int, rows: int, size: int, panel: Floats, width: int) -> None:
    """Copy rows of `size` values, and NaN behind each up to a width."""
    whole = size // GROUP * GROUP
    for row in range(rows):
        for column in range(0, whole, GROUP):
            store(panel, row * width + column, load(flat, start + row * stride + column, GROUP))
    if whole < width:
        for row in range(rows):
            for column in range(whole, width):
                panel[row * width + column] = flat[start + row * stride + column] if column < size else np.nan
