"""How a block is cut into strips of one feature each, small enough to stay in a processor's cache.

Not here: what is done with a strip (`kernels.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipeline.block import tile

TILE_SIZE = 2**17
STRIP_SIZE = 2**15
FEATURES_AT_ONCE = 64


def collapse(values: NDArray[Any], feature_axes: tuple[int, ...]) -> NDArray[Any]:
    """`values` as (outer, feature, inner), where outer and inner are reduced and features are in C order.

    A view where the kept axes are neighbours and the strides allow it, else a copy.

    Examples
    --------
    >>> collapse(np.zeros((10, 3, 8, 8)), (1,)).shape, collapse(np.zeros((10, 28, 28)), (1, 2)).shape
    ((10, 3, 64), (10, 784, 1))
    """
    features = prod(values.shape[axis] for axis in feature_axes)
    long = [axis for axis, size in enumerate(values.shape) if size != 1]
    if [kept for kept, _ in groupby(long, feature_axes.__contains__)].count(True) > 1:
        reduced = tuple(axis for axis in range(values.ndim) if axis not in feature_axes)
        return values.transpose(feature_axes + reduced).reshape(1, features, prod(values.shape[axis] for axis in reduced))
    kept_axes = [axis for axis in long if axis in feature_axes]
    first = min(kept_axes, default=0)
    last = max(kept_axes, default=-1)
    return values.reshape(prod(values.shape[:first]), features, prod(values.shape[last + 1 :]))


def strips(view: NDArray[Any], dtype: DTypeLike) -> Iterator[tuple[slice, NDArray[Any]]]:
    """(features, tile) that together hold every value of `view` (outer, feature, inner) once.

    A tile is a C-contiguous array (features, strip) of `dtype` that is overwritten by the next one.
    """
    step = _tile_step(view.shape)
    buffer = np.empty(prod(step), dtype)
    for box in tile(view.shape, step):
        piece = view[box.slices].transpose(1, 0, 2)
        gathered = buffer[: piece.size].reshape(piece.shape)
        np.copyto(gathered, piece, casting="same_kind")
        yield box.slices[1], gathered.reshape(piece.shape[0], -1)


def _tile_step(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Long strips first; of features that lie side by side as many as share cache lines, in even parts."""
    outer, features, inner = (max(1, size) for size in shape)
    room = max(FEATURES_AT_ONCE, TILE_SIZE // (outer * inner))
    parts = -(-features // room)
    together = -(-features // parts)
    strip = min(STRIP_SIZE, max(1, TILE_SIZE // together))
    along = min(inner, strip)
    return min(outer, max(1, strip // along)), together, along
