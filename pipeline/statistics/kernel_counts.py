"""Compiled histograms of small integers.

Not here: how other layouts become C-contiguous blocks (`tiles.py`).

Neighbours are counted in tables of their own: in one table equal neighbours would wait for each other. Tables have a few more
bins than are needed, as equal bins of tables a power of two apart would share one place in a processor's cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.statistics.kernels import Integers, compiled

SPARE_BINS = 16
TABLES_AT_ONCE = 64


@compiled
def count_columns(values: NDArray[Any], first: int, tables: NDArray[np.uint32]) -> None:
    """Count the uint8 or uint16 of a C-contiguous (rows, columns) in as many columns from `first` on as there are tables."""
    for begin in range(first, first + tables.shape[0], TABLES_AT_ONCE):
        end = min(begin + TABLES_AT_ONCE, first + tables.shape[0])
        for row in range(values.shape[0]):
            for column in range(begin, end):
                # unsigned: an index that may be negative for all that is known takes as long again
                tables[np.uintp(column - first), values[row, np.uintp(column)]] += 1


@compiled
def count_features(values: NDArray[Any], tables: NDArray[np.uint32], counts: Integers) -> None:
    """Add the uint8 or uint16 of a C-contiguous (outer, feature, inner) to `counts` (feature, bin).

    Neighbours go into `tables` in turn, which are 0 before and after; where there are none, straight into the counts.
    """
    inner, turns = values.shape[2], tables.shape[0]
    whole = inner // turns * turns if turns else 0
    for feature in range(values.shape[1]):
        for row in range(values.shape[0]):
            for begin in range(0, whole, max(1, turns)):
                for turn in range(turns):
                    tables[turn, values[row, feature, np.uintp(begin + turn)]] += 1
            for at in range(whole, inner):
                counts[feature, values[row, feature, np.uintp(at)]] += 1
        for turn in range(turns):
            for at in range(counts.shape[1]):
                counts[feature, at] += tables[turn, at]
                tables[turn, at] = 0
