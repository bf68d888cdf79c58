"""The laws of boxes: they tile exactly, keep whole units, and take the bytes they were given."""

from __future__ import annotations

import math
import pickle
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.block import (
    Block,
    Tiling,
    block_step,
    group_by_axes,
    is_aligned,
    overlapping,
    step_of_fewest_reads,
    tile,
    tile_count,
)

SIZES = st.integers(0, 9)
WIDTHS = st.integers(1, 11)
AXES = st.lists(st.tuples(SIZES, WIDTHS, WIDTHS), min_size=1, max_size=3)


def test_block_knows_its_box() -> None:
    block = Block((1, 0), (4, 2))
    assert block.shape == (3, 2)
    assert block.size == 6
    assert block.slices == (slice(1, 4), slice(0, 2))
    assert str(block) == "[1:4, 0:2]"
    assert pickle.loads(pickle.dumps(block)) == block
    assert len({block, Block((1, 0), (4, 2))}) == 1


@settings(derandomize=True, max_examples=150, deadline=None)
@given(AXES)
def test_tiles_cover_every_element_once(axes: list[tuple[int, int, int]]) -> None:
    shape, step, _ = (tuple(each) for each in zip(*axes, strict=True))
    covered = np.zeros(shape, dtype=int)
    blocks = list(tile(shape, step))
    for block in blocks:
        covered[block.slices] += 1
        assert is_aligned(block, step, shape)
        assert block.size > 0
    assert (covered == 1).all()
    assert len(blocks) == tile_count(shape, step)
    assert blocks == sorted(blocks, key=lambda block: block.start)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(AXES, st.integers(1, 8), st.integers(1, 4000), st.sets(st.integers(0, 2)))
def test_block_step_is_whole_units_within_the_bytes(
    axes: list[tuple[int, int, int]], itemsize: int, block_bytes: int, whole: set[int]
) -> None:
    shape, unit, _ = (tuple(each) for each in zip(*axes, strict=True))
    step = block_step(shape, unit, itemsize, block_bytes, frozenset(whole))
    least = [
        max(1, size if axis in whole else min(width, size)) for axis, (size, width) in enumerate(zip(shape, unit, strict=True))
    ]
    for axis, (size, width) in enumerate(zip(shape, unit, strict=True)):
        assert 1 <= step[axis] <= max(1, size)
        assert step[axis] % width == 0 or step[axis] == max(1, size)
        assert axis not in whole or step[axis] == max(1, size)
    assert math.prod(step) * itemsize <= max(block_bytes, math.prod(least) * itemsize)
    assert all(is_aligned(block, unit, shape) for block in tile(shape, step))
    _assert_cannot_grow(shape, unit, step, itemsize, block_bytes)


def _assert_cannot_grow(
    shape: tuple[int, ...], unit: tuple[int, ...], step: tuple[int, ...], itemsize: int, block_bytes: int
) -> None:
    """One more unit along the last dim that is not whole would pass the bytes."""
    growing = [axis for axis in range(len(shape)) if step[axis] < shape[axis]]
    if growing:
        axis = growing[-1]
        longer = [*step[:axis], min(step[axis] + unit[axis], shape[axis]), *step[axis + 1 :]]
        assert math.prod(longer) * itemsize > block_bytes


def test_block_step_takes_a_ragged_dim_whole_when_it_fits() -> None:
    assert block_step((10,), (4,), itemsize=1, block_bytes=10) == (10,)
    assert block_step((10,), (4,), itemsize=1, block_bytes=9) == (8,)
    assert block_step((5, 10), (1, 4), itemsize=1, block_bytes=20) == (2, 10)


def test_block_step_grows_trailing_dims_first() -> None:
    assert block_step((100, 8, 8), (1, 2, 2), itemsize=4, block_bytes=4 * 32) == (1, 4, 8)
    assert block_step((100, 8, 8), (1, 2, 2), itemsize=4, block_bytes=4 * 64 * 5) == (5, 8, 8)
    assert block_step((100, 8, 8), (1, 2, 2), itemsize=4, block_bytes=1) == (1, 2, 2)


def test_block_step_of_a_million_chunks_is_few_blocks() -> None:
    shape = (1_000_000, 28, 28)
    assert tile_count(shape, block_step(shape, (1, 28, 28), itemsize=4)) < 30


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), WIDTHS), min_size=1, max_size=3))
def test_overlapping_partitions_a_block_by_units(axes: list[tuple[int, int, int]]) -> None:
    block = Block(tuple(first for first, _, _ in axes), tuple(first + length for first, length, _ in axes))
    unit = tuple(width for _, _, width in axes)
    covered = np.zeros([18] * len(axes), dtype=int)
    for part in overlapping(block, unit):
        covered[part.slices] += 1
        assert all(
            start // width == (stop - 1) // width
            for start, stop, width in zip(part.start, part.stop, unit, strict=True)
            if stop > start
        )
    expected = np.zeros_like(covered)
    expected[block.slices] = 1
    assert (covered == expected).all()


def _reads(shape: tuple[int, ...], stored: tuple[int, ...], step: tuple[int, ...]) -> int:
    """How many units of the grid `stored` are fetched when each box fetches those that it touches."""
    return sum(len(list(overlapping(block, stored))) for block in tile(shape, step))


@settings(derandomize=True, max_examples=150, deadline=None)
@given(AXES, st.integers(1, 500), st.sets(st.integers(0, 2)))
def test_a_step_of_fewest_reads_is_the_best_that_fits(
    axes: list[tuple[int, int, int]], size_at_most: int, whole: set[int]
) -> None:
    shape, stored, unit = (tuple(each) for each in zip(*axes, strict=True))
    step = step_of_fewest_reads(shape, stored, unit, size_at_most, frozenset(whole))
    possible = [
        [size] if axis in whole else sorted({max(1, min(width * count, size)) for count in range(1, 11)})
        for axis, (size, width) in enumerate(zip(shape, unit, strict=True))
    ]
    fitting = [each for each in product(*possible) if math.prod(each) <= size_at_most and 0 not in each]
    if 0 not in shape and fitting:
        assert _reads(shape, stored, step) == min(_reads(shape, stored, each) for each in fitting)
        assert math.prod(step) <= size_at_most
    elif 0 not in shape:
        assert step == tuple(along[0] for along in possible)
    assert all(step[axis] == max(1, size) for axis, size in enumerate(shape) if axis in whole)


def test_units_that_hold_whole_units_of_the_other_grid_need_not_grow() -> None:
    assert step_of_fewest_reads((1000, 60), (10, 20), (30, 40), 10**6) == (30, 40)
    assert step_of_fewest_reads((1000, 60), (10, 20), (7, 40), 10**6) == (70, 40)
    assert step_of_fewest_reads((1000, 60), (10, 20), (7, 40), 1) == (7, 40)


@pytest.mark.parametrize(
    ("start", "stop", "aligned"),
    [
        (0, 3, True),
        (3, 5, True),
        (0, 5, True),
        (0, 4, False),
        (1, 3, False),
        (0, 2, False),
        (3, 6, False),
        (-3, 3, False),
        (3, 0, False),
    ],
)
def test_is_aligned(start: int, stop: int, aligned: bool) -> None:
    assert is_aligned(Block((start,), (stop,)), (3,), (5,)) is aligned


@settings(derandomize=True, max_examples=150, deadline=None)
@given(AXES, st.data())
def test_a_tiling_is_the_tiles_without_an_object_for_each(axes: list[tuple[int, int, int]], data: st.DataObject) -> None:
    shape, step, _ = (tuple(each) for each in zip(*axes, strict=True))
    boxes, expected = Tiling.regular(shape, step), list(tile(shape, step))
    axis = data.draw(st.integers(0, len(shape) - 1))
    for _ in range(2):
        assert list(boxes) == expected == [boxes[index] for index in range(len(boxes))]
        assert boxes[1:5] == expected[1:5] and boxes[::-1] == expected[::-1]
        assert boxes.size == sum(block.size for block in expected)
        assert not expected or boxes.largest == max((block.shape for block in expected), key=math.prod)
        places = data.draw(st.sets(st.integers(0, 8))) & set(range(len(boxes.starts[axis])))
        wanted = {boxes.starts[axis][place] for place in places}
        boxes = pickle.loads(pickle.dumps(boxes.keep(axis, sorted(places))))
        expected = [block for block in expected if block.start[axis] in wanted]


def test_a_tiling_has_no_box_beyond_its_last() -> None:
    boxes = Tiling.regular((5, 2), (3, 2))
    assert boxes[-1] == boxes[1]
    with pytest.raises(IndexError):
        boxes[2]


def test_group_by_axes_keeps_every_block() -> None:
    blocks = Tiling.regular((4, 6), (2, 3))
    groups = group_by_axes(blocks, (1,))
    assert list(groups) == [Block((0,), (3,)), Block((3,), (6,))]
    assert sorted((block for group in groups.values() for block in group), key=lambda block: block.start) == list(blocks)
    assert group_by_axes(blocks, ()) == {Block((), ()): blocks}
    assert group_by_axes(Tiling.regular((0, 6), (2, 3)), (1,)) == {}
