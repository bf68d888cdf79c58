"""One block's counts, extrema and power sums, while they are being added up.

The only mutable thing among the statistics. Not here: merging and storing, which need no compiled code (`moments.py`).
"""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.statistics.describe import extrema_dtype, extrema_identities
from pipeline.statistics.exact import WORD_BITS, PowerSums
from pipeline.statistics.tiles import collapse, pieces, strips

EXACT_IN_FLOAT32 = 2**24
EXACT_IN_FLOAT64 = 2**53


class Accumulator:
    """Adds up the values of one block; `counts` are nobs, nan, posinf, neginf and zeros, a row each."""

    def __init__(self, features: int, dtype: np.dtype[Any]) -> None:
        from pipeline.statistics.kernel_limbs import LAYOUT_SIZE

        self.counts: NDArray[np.int64] = np.zeros((5, features), np.int64)
        least, greatest = extrema_identities(extrema_dtype(dtype))
        self.min = np.full(features, least)
        self.max = np.full(features, greatest)
        self._extrema = np.array([np.full(features, np.inf), np.full(features, -np.inf)])
        self._limbs: NDArray[np.int64] = np.zeros((features, 0), np.int64)
        self._layout: NDArray[np.int64] = np.zeros(LAYOUT_SIZE, np.int64)

    def add(self, values: NDArray[Any], feature_axes: tuple[int, ...]) -> None:
        """Add all of `values`, at least one, whose `feature_axes` are kept."""
        view = collapse(values, feature_axes)
        dtype = _float_dtype(view)
        if dtype is None:
            for features, tile in strips(view, view.dtype.newbyteorder("=")):
                self._add_large_integers(features, tile)
        else:
            for features, piece in pieces(view, dtype):
                self._add_floats(features.start, piece)
        self.counts[1] = view.shape[0] * view.shape[2] - self.counts[[0, 2, 3]].sum(axis=0)
        low, high = self._extrema + 0.0  # −0.0 becomes 0.0: which of them came first must leave no trace
        some = low <= high
        self._widen(some, low[some], high[some])

    def sums(self, feature_shape: tuple[int, ...]) -> PowerSums:
        """The power sums of what was added."""
        from pipeline.statistics.kernel_limbs import LOWS, STARTS

        bounds = pairwise(self._layout[STARTS])
        powers = [self._limbs[:, start:stop].T.reshape(stop - start, *feature_shape) for start, stop in bounds]
        return PowerSums.from_limbs(powers, [int(low) // WORD_BITS for low in self._layout[LOWS]])

    def _add_floats(self, first: int, block: NDArray[Any]) -> None:
        from pipeline.statistics.kernel_panels import add_doubles, add_singles, row_fold

        add = add_singles if block.dtype.itemsize == 4 else add_doubles
        fold = row_fold(block.shape)
        whole = len(block) // fold * fold if fold else len(block)
        for part, part_fold in ((block[:whole], fold), (block[whole:], 1)):
            part.flags.writeable = False  # so that the compiler meets one type only, whoever the block belongs to
            if part.size:
                self._limbs = add(part, part_fold, first, self.counts, self._extrema, self._limbs, self._layout)

    def _add_large_integers(self, features: slice, tile: NDArray[Any]) -> None:
        from pipeline.statistics.kernel_limbs import cover
        from pipeline.statistics.kernel_sums import add_large_integers

        if tile.max() <= EXACT_IN_FLOAT64 and tile.min() >= -EXACT_IN_FLOAT64:
            self._add_floats(features.start, tile.astype(np.float64)[np.newaxis])
            return
        self.counts[0, features] += tile.shape[1]
        self.counts[4, features] += tile.shape[1] - np.count_nonzero(tile, axis=1)
        self._widen(features, tile.min(axis=1), tile.max(axis=1))
        self._limbs = cover(self._limbs, self._layout, 0, 64)
        add_large_integers(np.abs(tile).view(np.uint64), tile < 0, self._limbs[features], self._layout)

    def _widen(self, features: Any, low: NDArray[Any], high: NDArray[Any]) -> None:
        self.min[features] = np.minimum(self.min[features], low.astype(self.min.dtype))
        self.max[features] = np.maximum(self.max[features], high.astype(self.max.dtype))


def _float_dtype(view: NDArray[Any]) -> type[np.floating[Any]] | None:
    """The smallest float that compiled code adds up and that holds every value of `view`; None where there is none."""
    if view.dtype.kind == "f":
        return np.float32 if view.dtype.itemsize <= 4 else np.float64
    bound = EXACT_IN_FLOAT32 if view.dtype.itemsize <= 2 else max(int(view.max()), -int(view.min()))
    if bound <= EXACT_IN_FLOAT32:
        return np.float32
    return np.float64 if bound <= EXACT_IN_FLOAT64 else None


def accumulate(values: NDArray[Any], feature_axes: tuple[int, ...]) -> Accumulator:
    """Everything that is known of one block."""
    accumulator = Accumulator(prod(values.shape[axis] for axis in feature_axes), values.dtype)
    if values.size:
        accumulator.add(values, feature_axes)
    return accumulator
