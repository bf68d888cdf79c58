"""How a block is cut into pieces that compiled code takes: contiguous, of its dtype, and small where they are copies.

Not here: what is done with them (`kernel_panels.py`, `kernel_counts.py`, `kernel_sums.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipeline.block import tile

LONG_RUN = 64
PIECE_SIZE = 2**20
PIECE_ROWS = 2**10
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


def pieces(view: NDArray[Any], dtype: DTypeLike, size: int = PIECE_SIZE) -> Iterator[tuple[slice, NDArray[Any]]]:
    """(features, piece) that together hold every value of `view` (outer, feature, inner) once.

    A piece is a C-contiguous array (outer, feature, inner) of `dtype`: the whole view if it is that, with outer and inner
    perhaps exchanged, or else a copy of a part of it, of at most `size` values, that is overwritten by the next one.
    """
    strides = [abs(stride) for stride in view.strides]
    if (view.shape[2] == 1 and strides[0] < strides[1]) or (view.shape[0] == 1 and strides[1] < strides[2]):
        view = view.transpose(2, 1, 0)
    if view.dtype == dtype and view.flags.c_contiguous and view.flags.aligned:
        yield slice(0, view.shape[1]), view
        return
    step = _piece_step(view.shape, size)
    buffer = np.empty(prod(step), dtype)
    for box in tile(view.shape, step):
        piece = buffer[: prod(box.shape)].reshape(box.shape)
        np.copyto(piece, view[box.slices], casting="same_kind")
        yield box.slices[1], piece


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


def goes_by_features(shape: tuple[int, ...]) -> bool:
    """Whether compiled code should go through a block (outer, feature, inner) feature by feature, or else by rows.

    Examples
    --------
    >>> goes_by_features((100, 3, 50176)), goes_by_features((5_017_600, 3, 1))
    (True, False)
    """
    outer, _, inner = shape
    return inner >= LONG_RUN or 1 < inner > outer // 16


def _piece_step(shape: tuple[int, ...], size: int) -> tuple[int, int, int]:
    """Whole rows of what lies side by side, but enough of them for the sums of each feature to be long."""
    outer, features, inner = (max(1, length) for length in shape)
    along = min(inner, size)
    rows = min(outer, PIECE_ROWS, size // along)
    together = min(features, max(1, size // (rows * along)))
    return min(outer, max(rows, size // (together * along))), together, along


def _tile_step(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Long strips first; of features that lie side by side as many as share cache lines, in even parts."""
    outer, features, inner = (max(1, size) for size in shape)
    room = max(FEATURES_AT_ONCE, TILE_SIZE // (outer * inner))
    parts = -(-features // room)
    together = -(-features // parts)
    strip = min(STRIP_SIZE, max(1, TILE_SIZE // together))
    along = min(inner, strip)
    return min(outer, max(1, strip // along)), together, along
