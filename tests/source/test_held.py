"""A source that is held in memory gives the values of the one that was read, whatever boxes they are held in."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.block import Block, is_aligned, tile
from pipeline.source.held import HeldSource
from pipeline.source.memory import MemorySource

SHAPE = (7, 5, 6)
VALUES = np.arange(210.0).reshape(SHAPE)
SOURCE = MemorySource(VALUES, ("cell", "y", "gene"))


def _held(step: tuple[int, ...]) -> HeldSource:
    return HeldSource(SOURCE, step, {block: SOURCE.read(block) for block in tile(SHAPE, step)})


@st.composite
def boxes(draw: Any) -> Block:
    edges = [sorted(draw(st.tuples(st.integers(0, size), st.integers(0, size)))) for size in SHAPE]
    return Block(tuple(first for first, _ in edges), tuple(max(first + 1, last) for first, last in edges))


@given(st.tuples(*(st.integers(1, size + 2) for size in SHAPE)), boxes())
def test_any_box_reads_from_boxes_of_any_size(step: tuple[int, ...], block: Block) -> None:
    inside = Block(
        tuple(min(first, size - 1) for first, size in zip(block.start, SHAPE, strict=True)),
        tuple(min(last, size) for last, size in zip(block.stop, SHAPE, strict=True)),
    )
    np.testing.assert_array_equal(_held(step).read(inside), VALUES[inside.slices])


def test_a_box_that_is_held_is_not_copied() -> None:
    held = _held((3, 5, 6))
    block = Block((3, 0, 0), (6, 5, 6))
    assert np.shares_memory(held.read(block), VALUES)


def test_its_blocks_are_those_that_are_held_joined_where_they_must_be() -> None:
    held = _held((3, 2, 6))
    assert list(held.blocks(frozenset())) == list(tile(SHAPE, (3, 2, 6)))
    joined = list(held.blocks(frozenset({1})))
    assert joined == list(tile(SHAPE, (3, 5, 6)))
    assert all(is_aligned(block, (3, 2, 6), SHAPE) for block in joined)


def test_describes_itself_as_the_source_does_and_travels_without_values() -> None:
    held = _held((3, 5, 6))
    assert (held.dims, held.shape, held.dtype, held.sample_dim) == (SOURCE.dims, SHAPE, VALUES.dtype, "cell")
    assert held.read_unit == SOURCE.read_unit
    assert held.provenance() == SOURCE.provenance()
    light = HeldSource(MemorySource(np.zeros((1, 1)), ("cell", "gene")), (1, 1), {Block((0, 0), (1, 1)): np.zeros(10**6)})
    assert len(pickle.dumps(light)) < 10_000
