"""Moments one number after the other, as the oracle of the quick kernels. Not here: what must hold of them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.statistics.describe import extrema_dtype
from pipeline.statistics.exact import WORD_BITS, PowerSums
from pipeline.statistics.kernel_limbs import LAYOUT_SIZE, LOWS, STARTS, carry, cover
from pipeline.statistics.kernel_sums import EXPONENTS, TABLE_COLUMNS, add_patterns


def rows_of(values: NDArray[Any], axes: tuple[int, ...]) -> NDArray[np.float64]:
    """(features, values) as float64, which holds them exactly unless they are large integers."""
    shape = tuple(values.shape[axis] for axis in axes)
    return np.moveaxis(values, axes, range(len(axes))).reshape(int(np.prod(shape)), -1).astype(np.float64)


def sums(values: NDArray[Any], axes: tuple[int, ...]) -> PowerSums:
    """The power sums of the finite values."""
    shape = tuple(values.shape[axis] for axis in axes)
    layout, table = np.zeros(LAYOUT_SIZE, np.int64), np.zeros((EXPONENTS, TABLE_COLUMNS), np.int64)
    limbs = cover(np.zeros((int(np.prod(shape)), 0), np.int64), layout, -1074, 1024)
    for feature, row in enumerate(rows_of(values, axes)):
        finite = row[np.isfinite(row)]
        add_patterns(finite.view(np.int64), len(finite), table, np.empty(EXPONENTS, np.int64), limbs[feature], layout)
        carry(limbs[feature], layout)
    powers = [limbs[:, start:stop].T.reshape(stop - start, *shape) for start, stop in pairwise(layout[STARTS])]
    return PowerSums.from_limbs(powers, [int(low) // WORD_BITS for low in layout[LOWS]])


def state(values: NDArray[Any], axes: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    """What `Moments.arrays` gives of floats, or of integers that float64 holds."""
    rows = rows_of(values, axes)
    shape = tuple(values.shape[axis] for axis in axes)
    finite = np.isfinite(rows)
    counts = [finite, np.isnan(rows), rows == np.inf, rows == -np.inf, rows == 0]
    low = np.where(finite, rows, np.inf).min(axis=1, initial=np.inf) + 0.0
    high = np.where(finite, rows, -np.inf).max(axis=1, initial=-np.inf) + 0.0
    dtype = extrema_dtype(values.dtype)
    return {
        "counts": np.array([which.sum(axis=1) for which in counts], np.int64).reshape(5, *shape),
        "min": low.astype(dtype).reshape(shape),
        "max": high.astype(dtype).reshape(shape),
        **sums(values, axes).arrays(),
    }
