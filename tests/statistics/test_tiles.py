"""Cutting a block: every value exactly once, with its own feature, and no copy of the block where none is needed."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.statistics.tiles import STRIP_SIZE, collapse, pieces, strips
from tests.statistics import samples

SHAPES = [
    ((70_000,), ()),
    ((3, 200_000), (0,)),
    ((9, 20_000), (1,)),
    ((3000, 200), (1,)),
    ((40, 3, 30, 50), (1,)),
    ((40, 30, 50, 3), (3,)),
    ((7, 5, 6, 4), (1, 3)),
    ((7, 1, 6, 4), (1, 3)),
    ((1, 5, 1), (0, 2)),
]


@pytest.mark.parametrize(("shape", "axes"), SHAPES)
def test_strips_hold_every_value_once_with_its_feature(shape, axes):
    values = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    features = np.moveaxis(values, axes, range(len(axes))).reshape(int(np.prod([shape[axis] for axis in axes])), -1)
    found = [[] for _ in features]
    for where, tile in strips(collapse(values, axes), np.float64):
        assert tile.flags.c_contiguous
        assert tile.shape[1] <= STRIP_SIZE
        for feature, strip in zip(range(where.start, where.stop), tile, strict=True):
            found[feature].extend(strip.tolist())
    assert [sorted(strip) for strip in found] == np.sort(features, axis=1).tolist()


@pytest.mark.parametrize("size", [100, 5000, 2**20])
@pytest.mark.parametrize(("shape", "axes"), SHAPES)
def test_pieces_hold_every_value_once_with_its_feature(shape, axes, size):
    values = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    features = np.moveaxis(values, axes, range(len(axes))).reshape(int(np.prod([shape[axis] for axis in axes])), -1)
    for view in (values, *samples.layouts(values)):
        found = [[] for _ in features]
        for where, piece in pieces(collapse(view, axes), np.float64, size):
            assert piece.dtype == np.float64
            assert piece.flags.c_contiguous
            assert piece.size <= size
            for feature, part in zip(range(where.start, where.stop), piece.transpose(1, 0, 2), strict=True):
                found[feature].extend(part.ravel().tolist())
        assert [sorted(part) for part in found] == np.sort(features, axis=1).tolist()


@pytest.mark.parametrize(
    ("shape", "axes"), [((16, 20), (1,)), ((16, 20), (0,)), ((4, 5, 6), (1,)), ((4, 5, 6), (1, 2)), ((7,), ())]
)
def test_a_contiguous_block_is_one_piece_and_no_copy(shape, axes):
    values = np.ones(shape, np.float32)
    for block in (values, np.asfortranarray(values)) if len(shape) == 2 else (values,):
        ((features, piece),) = pieces(collapse(block, axes), np.float32)
        assert np.shares_memory(piece, block)
        assert features == slice(0, piece.shape[1])


@pytest.mark.parametrize(("shape", "axes"), [pair for pair in SHAPES if pair != ((7, 5, 6, 4), (1, 3))])
def test_collapse_is_a_view_where_kept_axes_are_neighbours(shape, axes):
    values = np.zeros(shape)
    assert np.shares_memory(collapse(values, axes), values)
