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
from pipeline.statistics.exact import POWERS, WORD_BITS, PowerSums
from pipeline.statistics.tiles import collapse, strips

EXACT_IN_FLOAT64 = 2**53
SLACK_BITS = 8


class Accumulator:
    """Adds up tiles of (features, strip); `counts` are nobs, nan, posinf, neginf and zeros, a row each."""

    def __init__(self, features: int, dtype: np.dtype[Any]) -> None:
        self.counts: NDArray[np.int64] = np.zeros((5, features), np.int64)
        least, greatest = extrema_identities(extrema_dtype(dtype))
        self.min = np.full(features, least)
        self.max = np.full(features, greatest)
        self.window = (0, 0)
        self.limbs: NDArray[np.int64] = np.zeros((features, _layout(self.window)[0][-1]), np.int64)

    def add(self, values: NDArray[Any], feature_axes: tuple[int, ...]) -> None:
        """Add all of `values`, whose `feature_axes` are kept."""
        view = collapse(values, feature_axes)
        if view.dtype.kind == "b" or (view.dtype.kind in "iu" and view.dtype.itemsize <= 2):
            for features, tile in strips(view, np.int32):
                self._add_small_integers(features, tile)
        elif view.dtype.kind in "iu" and view.dtype.itemsize == 8:
            for features, tile in strips(view, view.dtype.newbyteorder("=")):
                self._add_large_integers(features, tile)
        else:
            for features, tile in strips(view, np.float64):
                self._add_floats(features, tile)

    def sums(self, feature_shape: tuple[int, ...]) -> PowerSums:
        """The power sums of what was added."""
        starts, lows = _layout(self.window)
        powers = [self.limbs[:, start:stop].T.reshape(stop - start, *feature_shape) for start, stop in pairwise(starts)]
        return PowerSums.from_limbs(powers, [int(low) // WORD_BITS for low in lows])

    def _add_small_integers(self, features: slice, tile: NDArray[np.int32]) -> None:
        from pipeline.statistics.kernel_sums import add_small_integers

        self._cover(0, 16)
        self._add_integer_counts(features, tile)
        add_small_integers(tile, self.limbs[features], *_layout(self.window))

    def _add_large_integers(self, features: slice, tile: NDArray[Any]) -> None:
        from pipeline.statistics.kernel_sums import add_large_integers

        self._add_integer_counts(features, tile)
        if tile.max() <= EXACT_IN_FLOAT64 and tile.min() >= -EXACT_IN_FLOAT64:
            self._add_float_sums(features, tile.astype(np.float64))
            return
        self._cover(0, 64)
        add_large_integers(np.abs(tile).view(np.uint64), tile < 0, self.limbs[features], *_layout(self.window))

    def _add_integer_counts(self, features: slice, tile: NDArray[Any]) -> None:
        self.counts[0, features] += tile.shape[1]
        self.counts[4, features] += tile.shape[1] - np.count_nonzero(tile, axis=1)
        self._widen(features, tile.min(axis=1), tile.max(axis=1))

    def _add_floats(self, features: slice, tile: NDArray[np.float64]) -> None:
        counts, keys = self._add_float_sums(features, tile)
        self.counts[:, features] += counts
        patterns = keys ^ ((keys >> 63) & np.int64(2**63 - 1))
        extrema = patterns.view(np.float64) + 0.0  # −0.0 becomes 0.0: which of them came first must leave no trace
        some = counts[0] > 0
        low = np.where(some, extrema[0], self.min[features])
        high = np.where(some, extrema[1], self.max[features])
        self._widen(features, low, high)

    def _add_float_sums(self, features: slice, tile: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Add the powers of `tile`; its counts and the keys of its extrema, as `sweep_floats` has them."""
        from pipeline.statistics.kernel_sums import LEAST_EXPONENT, add_floats
        from pipeline.statistics.kernels import LARGEST, SMALLEST, sweep_floats

        patterns = tile.view(np.int64)
        counts = np.zeros((5, len(tile)), np.int64)
        keys = np.empty((2, len(tile)), np.int64)
        keys[0], keys[1] = LARGEST, SMALLEST
        narrow = np.empty(len(tile), np.bool_)
        least, greatest = (int(magnitude) >> 52 for magnitude in sweep_floats(patterns, counts, keys, narrow))
        if counts[4].sum() < counts[0].sum():
            least, greatest = max(least, 1), max(greatest, 1)
            self._cover(least + LEAST_EXPONENT, greatest + LEAST_EXPONENT + 53)
            starts, lows = _layout(self.window)
            add_floats(patterns, narrow, least, self.limbs[features], starts, lows)
        return counts, keys

    def _widen(self, features: slice, low: NDArray[Any], high: NDArray[Any]) -> None:
        self.min[features] = np.minimum(self.min[features], low.astype(self.min.dtype))
        self.max[features] = np.maximum(self.max[features], high.astype(self.max.dtype))

    def _cover(self, low: int, high: int) -> None:
        """See to it that the limbs hold the powers of multiples of 2^low that are below 2^high."""
        if self.window[0] <= low and high <= self.window[1]:
            return
        before, lows_before = _layout(self.window)
        fresh = self.window == (0, 0)
        window = (low - SLACK_BITS, high + SLACK_BITS)
        self.window = window if fresh else (min(window[0], self.window[0]), max(window[1], self.window[1]))
        starts, lows = _layout(self.window)
        limbs = np.zeros((len(self.limbs), starts[-1]), np.int64)
        for k in range(len(POWERS)):
            old = self.limbs[:, before[k] : before[k + 1]]
            at = starts[k] + (lows_before[k] - lows[k]) // WORD_BITS
            if not fresh:
                limbs[:, at : at + old.shape[1]] = old
        self.limbs = limbs


def _layout(window: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(starts, lows): where the limbs of each power begin, with the end at last, and the exponents of those limbs.

    For multiples of 2^low below 2^high in magnitude; three limbs more than a power needs take up the terms' own
    64 bits, and with them 2^63 values and the sign.
    """
    low, high = window
    lows = [power * low // WORD_BITS * WORD_BITS for power in POWERS]
    sizes = [(power * high - first) // WORD_BITS + 4 for power, first in zip(POWERS, lows, strict=True)]
    return np.cumsum([0, *sizes], dtype=np.int64), np.array(lows, np.int64)


def accumulate(values: NDArray[Any], feature_axes: tuple[int, ...]) -> Accumulator:
    """Everything that is known of one block."""
    accumulator = Accumulator(prod(values.shape[axis] for axis in feature_axes), values.dtype)
    if values.size:
        accumulator.add(values, feature_axes)
    return accumulator
