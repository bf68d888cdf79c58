"""A room gives the same memory again, and nothing that a task returns may lie in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from pipeline.block import Block, Tiling
from pipeline.executor import SerialExecutor, run_blocks
from pipeline.gather import Gather, gather, merge_groups
from pipeline.normalize.chain import FittedChain
from pipeline.plan import Pass, fit_blocks
from pipeline.room import Room, array_in
from pipeline.source.memory import MemorySource
from pipeline.source.zarr_source import LOCAL_BLOCK_BYTES, ZarrSource
from pipeline.statistics import SUMMARIES

MIB = 2**20


def test_arrays_of_any_shape_and_dtype_lie_in_the_same_place() -> None:
    room = Room()
    first = room.array((3, 5), np.float64)
    for shape, dtype in (((7,), np.uint8), ((2, 2, 2), np.float32), ((3, 5), np.float64), ((), np.int16)):
        array = room.array(shape, dtype)
        assert (array.shape, array.dtype, array.flags.c_contiguous) == (shape, np.dtype(dtype), True)
        assert array.ctypes.data == first.ctypes.data
    assert room.array((0, 4), np.float32).shape == (0, 4)
    assert not np.shares_memory(first, room.array((100,), np.float64))
    assert not np.shares_memory(array_in(None, (3,), np.uint8), array_in(None, (3,), np.uint8))


def _source(folder: Path, shape: tuple[int, ...], chunks: tuple[int, ...]) -> ZarrSource:
    array = zarr.create_array(folder / "x.zarr", shape=shape, chunks=chunks, dtype="f4", dimension_names=("cell", "gene"))
    array[...] = np.random.default_rng(3).standard_normal(shape)
    return ZarrSource(str(folder / "x.zarr"), "", ("cell", "gene"), "cell")


class Places:
    """Where the values of each block lay."""

    def __init__(self, source: ZarrSource) -> None:
        self.source = source

    def __call__(self, block: Block, values: NDArray[Any], room: Room) -> set[int]:
        return {values.ctypes.data}


def test_blocks_of_one_task_are_decoded_into_the_same_memory(tmp_path: Path) -> None:
    source = _source(tmp_path, (40, 30), (7, 11))
    blocks = Tiling.regular(source.shape, (7, 22))
    places = run_blocks(Places(source), lambda found: set.union(*found), blocks, lambda _: None)
    assert len(places) == 1


@pytest.mark.parametrize("name", sorted(set(SUMMARIES) - {"deviations"}))
def test_a_summary_keeps_nothing_of_the_memory_that_values_were_in(name: str, tmp_path: Path) -> None:
    source = _source(tmp_path, (40, 30), (7, 30))
    dtype = np.dtype("float32")
    if name == "histogram":
        values = np.random.default_rng(3).integers(0, 256, (40, 30), dtype=np.uint8)
        array = zarr.create_array(tmp_path / "u.zarr", data=values, chunks=(7, 30), dimension_names=("cell", "gene"))
        source, dtype = ZarrSource(str(tmp_path / "u.zarr"), "", ("cell", "gene"), "cell"), array.dtype
    chain = FittedChain((), source.dims, "cell", dtype, np.dtype("float64"))
    task = Gather(source, chain, (name,), ("gene",))
    in_memory = Gather(MemorySource(source.read(Block((0, 0), source.shape)), source.dims), chain, (name,), ("gene",))
    found = gather(task, Tiling.regular(source.shape, (7, 30)), SerialExecutor(), lambda _: None)
    parts = [in_memory(block, in_memory.source.read(block), Room()) for block in Tiling.regular(source.shape, (7, 30))]
    left, right = found[0][name].arrays(), merge_groups(parts)[0][name].arrays()
    assert left.keys() == right.keys()
    for key in left:
        np.testing.assert_array_equal(left[key], right[key])


@pytest.mark.parametrize(
    ("genes", "block_bytes", "groups", "at_least", "at_most"),
    [
        (100, 128 * MIB, 1, LOCAL_BLOCK_BYTES // 2, LOCAL_BLOCK_BYTES),
        (100, MIB, 1, MIB // 2, MIB),  # never more than is allowed
        (100, 128 * MIB, 1000, 64 * MIB, 128 * MIB),  # merging many groups takes longer than to read few samples
    ],
)
def test_blocks_of_a_local_store_are_small_where_that_is_faster(
    genes: int, block_bytes: int, groups: int, at_least: int, at_most: int, tmp_path: Path
) -> None:
    cells = 20_000_000
    zarr.create_array(
        tmp_path / "x.zarr", shape=(cells, genes), chunks=(1000, genes), dtype="f4", dimension_names=("cell", "gene")
    )
    source = ZarrSource(str(tmp_path / "x.zarr"), "", ("cell", "gene"), "cell", "fill")
    blocks = fit_blocks(source, frozenset(), block_bytes, Pass(0, ("gene",), ("moments",), (0,)), groups)
    assert at_least <= blocks[0].size * 4 <= at_most
