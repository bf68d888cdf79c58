"""Compiled sweeps over strips of numbers: counts and extrema.

Not here: sums of powers (`kernel_sums.py`), histograms (`kernel_counts.py`) and how strips are cut from a block (`tiles.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])
Integers: TypeAlias = NDArray[np.int64]

NARROW_BITS = 24
NARROW_SHIFT = 53 - NARROW_BITS
NARROW_TAIL = np.int64(2**NARROW_SHIFT - 1)

MAGNITUDE = np.int64(2**63 - 1)
INFINITY = np.int64(0x7FF << 52)
LARGEST = np.int64(2**63 - 1)
SMALLEST = np.int64(-(2**63))


def compiled(function: Function) -> Function:
    """`function` as machine code, made at its first call and cached on disk; it runs without the interpreter's lock."""
    try:
        return cast(Function, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # no directory that can be written to, as in a read-only container: compile in every process
        return cast(Function, numba.njit(nogil=True)(function))


@compiled
def sweep_floats(patterns: Integers, counts: Integers, keys: Integers, narrow: NDArray[np.bool_]) -> tuple[np.int64, np.int64]:
    """Count what the float64 bit patterns (features, strip) are, and find their extrema.

    Adds to `counts` (nobs, nan, posinf, neginf, zeros; each of all features) and lowers or raises `keys` (minimum, maximum):
    a key orders like the finite number whose pattern it is, with the magnitude bits of negative numbers flipped. `narrow`
    becomes whether a feature's significands all fit 24 bits. Returns the least non-zero and the greatest finite magnitude.
    """
    least, greatest = LARGEST, np.int64(0)
    for feature in range(patterns.shape[0]):
        strip = patterns[feature]
        low, high = keys[0, feature], keys[1, feature]
        tail = zeros = wrong = np.int64(0)
        for at in range(strip.shape[0]):  # an index and not the items: only so does the loop become SIMD code
            pattern = strip[at]
            magnitude = pattern & MAGNITUDE
            finite = magnitude < INFINITY
            key = pattern ^ ((pattern >> 63) & MAGNITUDE)
            low = min(low, key if finite else LARGEST)
            high = max(high, key if finite else SMALLEST)
            least = min(least, magnitude if magnitude != 0 else LARGEST)
            greatest = max(greatest, magnitude if finite else np.int64(0))
            tail |= pattern
            zeros += magnitude == 0
            wrong += not finite
        keys[0, feature], keys[1, feature] = low, high
        narrow[feature] = (tail & NARROW_TAIL) == 0
        counts[0, feature] += strip.shape[0] - wrong
        counts[4, feature] += zeros
        if wrong:
            count_non_finite(strip, counts[:, feature])
    return least, greatest


@compiled
def count_non_finite(strip: Integers, counts: Integers) -> None:
    """Add the NaN, +inf and −inf of a strip to the counts of one feature."""
    for pattern in strip:
        magnitude = pattern & MAGNITUDE
        if magnitude > INFINITY:
            counts[1] += 1
        elif magnitude == INFINITY:
            counts[2 if pattern > 0 else 3] += 1
