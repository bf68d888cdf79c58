"""Passes, blocks, bytes and memory, before anything is read."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import yaml
import zarr
from dask.order import order

from pipeline.block import DEFAULT_BLOCK_BYTES, Tiling
from pipeline.cluster.graph import _merge_tree
from pipeline.config import Config, parse_config
from pipeline.executor import Workers, blocks_per_task
from pipeline.normalize.chain import bind_chain, parse_chain
from pipeline.normalize.step import Input
from pipeline.plan import (
    Pass,
    _summaries_of_tree,
    apply_step,
    fit_blocks,
    merges,
    plan_apply,
    plan_fit,
    plan_passes,
    summary_bytes,
)
from pipeline.run import plan_config
from pipeline.source.lazy import LazySource
from pipeline.source.memory import MemorySource
from pipeline.source.source import Source
from pipeline.source.zarr_source import ZarrSource

ROOT = Path(__file__).resolve().parent.parent


def _passes(
    chain: list[Any], dtype: str, shape: tuple[int, ...] = (10, 4), dims: tuple[str, ...] = ("cell", "gene")
) -> tuple[Pass, ...]:
    source = MemorySource(np.zeros(shape, dtype), dims, dims[0], {})
    steps = bind_chain(parse_chain(chain), Input(dims, dims[0], source.dtype))
    return plan_passes(steps, source)


@pytest.mark.parametrize(
    ("chain", "dtype", "expected"),
    [
        (["log1p"], "float32", []),
        ([{"unit_norm": {"norm": "l2"}}], "float32", []),
        ([{"minmax": {"per": ["gene"]}}], "float32", [(0, "moments", (0,))]),
        (["log1p", {"minmax": {"per": ["gene"]}}], "float32", [(1, "moments", (1,))]),
        (["log1p", {"minmax": {"per": ["gene"]}}], "uint8", [(0, "histogram", (1,))]),
        (
            [{"zscore": {"per": ["gene"]}}, {"affine": {"scale": 2.0}}, {"minmax": {"per": []}}],
            "float32",
            [(0, "moments", (0, 2))],
        ),
        ([{"minmax": {"per": []}}, {"zscore": {"per": ["gene"]}}], "float32", [(0, "moments", (0, 1))]),
        ([{"minmax": {"per": ["gene"]}}, "log1p", {"zscore": {"per": ["gene"]}}], "uint16", [(0, "histogram", (0, 2))]),
        (
            [{"minmax": {"per": ["gene"]}}, "log1p", {"zscore": {"per": ["gene"]}}],
            "float32",
            [(0, "moments", (0,)), (2, "moments", (2,))],
        ),
        ([{"unit_norm": {"norm": "l2"}}, {"zscore": {"per": ["gene"]}}], "uint8", [(1, "moments", (1,))]),
    ],
)
def test_passes_are_the_fewest_that_the_chain_allows(
    chain: list[Any], dtype: str, expected: list[tuple[int, str, tuple[int, ...]]]
) -> None:
    assert [(each.at, *each.summaries, each.fits) for each in _passes(chain, dtype)] == expected


def test_histograms_that_would_not_fit_give_way_to_moments() -> None:
    (one,) = _passes([{"zscore": {"per": ["gene"]}}], "uint16", (3, 1000))
    assert one.summaries == ("moments",)


def test_summary_bytes_grow_with_features() -> None:
    source = MemorySource(np.zeros((2, 100), "float32"), ("cell", "gene"), "cell", {})
    assert summary_bytes(Pass(0, ("gene",), ("moments",), (0,)), source) == 100 * summary_bytes(
        Pass(0, (), ("moments",), (0,)), source
    )


@pytest.mark.parametrize(("leaves", "tasks"), [(1, 0), (2, 1), (4, 1), (5, 2), (7, 3), (16, 5), (17, 6), (65, 22)])
def test_merges_are_a_tree(leaves: int, tasks: int) -> None:
    layer: dict[str, object] = {}
    _merge_tree([f"leaf-{index}" for index in range(leaves)], "merge", None, layer)
    assert (merges(leaves), len(layer)) == (tasks, tasks)


@pytest.mark.parametrize("leaves", [1, 2, 5, 64, 300, 3072])
def test_no_more_summaries_wait_in_a_tree_than_are_counted(leaves: int) -> None:
    """As Dask goes through it with one thread, the results that somebody still needs, at any time."""
    tree: dict[str, tuple[str, ...]] = {f"leaf-{index}": () for index in range(leaves)}
    layer: dict[str, Any] = {}
    root = _merge_tree(list(tree), "merge", None, layer)
    tree.update({key: tuple(merged) for key, (_, _, merged) in layer.items()})
    places = order({key: (sum, list(needed)) for key, needed in tree.items()})
    waiting = most = 0
    for key in sorted(tree, key=lambda key: places[key]):
        most = max(most, waiting + 1)
        waiting += 1 - len(tree[key])
    assert (root in places, waiting) == (True, 1)
    assert most <= _summaries_of_tree(leaves, threads=1)


def test_write_blocks_reconcile_both_grids_where_that_fits() -> None:
    source = MemorySource(np.zeros((120, 4), "uint8"), ("sample", "x"), "sample", {})
    shape = apply_step(source, (8, 4), np.dtype("float32"), frozenset(), block_bytes=1000)
    assert shape[0] % 8 == 0
    phase = plan_apply(source, (8, 4), np.dtype("float32"), Workers(threads=2))
    assert phase.blocks == 15
    assert phase.bytes_written == 120 * 4 * 4


@pytest.mark.parametrize(
    ("shape", "chunks", "output_chunks", "reads_at_most"),
    [
        ((50_000, 2000), (1000, 2000), (700, 500), 1.0),
        ((50_000, 2000), (1000, 2000), (701, 500), 1.1),
        ((1000, 224, 224, 3), (16, 224, 224, 3), (25, 112, 112, 3), 1.05),
        ((64, 4096, 4096), (1, 512, 512), (16, 300, 300), 1.7),
        ((200_000, 30_000), (1000, 1000), (777, 333), 1.4),
    ],
)
def test_chunks_are_read_again_as_seldom_as_a_block_allows(
    shape: tuple[int, ...], chunks: tuple[int, ...], output_chunks: tuple[int, ...], reads_at_most: float
) -> None:
    class Stored(MemorySource):
        @property
        def read_unit(self) -> tuple[int, ...]:
            return chunks

    source = Stored(np.broadcast_to(np.float32(0), shape), tuple("abcd"[: len(shape)]), "a", {})
    step = apply_step(source, output_chunks, np.dtype("float32"), frozenset(), DEFAULT_BLOCK_BYTES)
    phase = plan_apply(source, step, np.dtype("float32"), Workers(threads=2))
    assert phase.bytes_read <= reads_at_most * math.prod(shape) * 4
    assert math.prod(step) * 4 <= DEFAULT_BLOCK_BYTES


def test_vectors_that_no_block_can_hold_whole_are_written_in_the_least_blocks() -> None:
    source = MemorySource(np.broadcast_to(np.float32(0), (50_000, 60_000)), ("cell", "gene"), "cell", {})
    assert apply_step(source, (700, 500), np.dtype("float32"), frozenset({1}), 10**6) == (700, 60_000)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from Linux's /proc")
def test_the_predicted_peak_memory_holds(tmp_path: Path) -> None:
    """A process that does the whole run stays below the prediction, which is no more than thrice what it took."""
    values = np.random.default_rng(0).standard_normal((40_000, 1000), dtype=np.float32)
    array = zarr.create_array(
        tmp_path / "x.zarr", shape=values.shape, chunks=(1000, 1000), dtype="f4", dimension_names=["cell", "gene"]
    )
    array[...] = values
    document = {
        "source": {"store": str(tmp_path / "x.zarr")},
        "normalize": [{"zscore": {"per": ["gene"]}}],
        "output": {"store": str(tmp_path / "out.zarr")},
        "cluster": {"kind": "local", "threads_per_worker": 2},
        "block_bytes": "32MiB",
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(document))
    code = (
        "import sys; from pipeline.cli import main; main(['run', sys.argv[1]], standalone_mode=False);"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True, cwd=ROOT)
    peak_bytes = int(done.stdout.splitlines()[-1]) * 1024  # ru_maxrss would begin with that of the process it came from
    predicted_bytes = plan_config(parse_config(document, Config)).peak_bytes_per_worker
    assert peak_bytes <= predicted_bytes <= 3 * peak_bytes


@pytest.mark.parametrize(("threads", "leaves"), [(1, 7), (3, 20)], ids=["three blocks a task", "one block a task"])
def test_tasks_are_those_of_one_tree_for_each_box_of_features(threads: int, leaves: int) -> None:
    source = MemorySource(np.zeros((40, 6), "float32"), ("cell", "gene"), "cell", {})
    blocks = Tiling.regular((40, 6), (2, 3))
    phase = plan_fit(Pass(0, ("gene",), ("moments",), (0,)), source, blocks, Workers(threads=threads))
    assert phase.tasks == 2 * (leaves + merges(leaves))


def test_blocks_of_large_summaries_hold_many_values_of_few_features(tmp_path: Path) -> None:
    """In blocks of 1/16 of the data, moments are small beside the values, buckets are not."""
    shape, dims = (200_000, 2000), ("cell", "gene")
    zarr.create_array(tmp_path / "x.zarr", shape=shape, chunks=(1000, 500), dtype="f4", dimension_names=dims)
    source = ZarrSource(str(tmp_path / "x.zarr"), "", dims, "cell", "fill")
    step = {
        summary: fit_blocks(source, frozenset(), DEFAULT_BLOCK_BYTES, Pass(0, ("gene",), ("moments", summary), (0,))).largest
        for summary in ("moments", "float_histogram")
    }
    assert step == {"moments": (4000, 2000), "float_histogram": (50_000, 500)}
    whole = fit_blocks(source, frozenset({1}), DEFAULT_BLOCK_BYTES, Pass(0, ("gene",), ("float_histogram",), (0,)))
    assert whole.largest == (12_000, 2000)


def test_tasks_do_not_grow_with_the_number_of_features(tmp_path: Path) -> None:
    shape, dims = (5_000_000, 60_000), ("cell", "gene")
    zarr.create_array(tmp_path / "x.zarr", shape=shape, chunks=(10_000, 1), dtype="f4", dimension_names=dims)
    source = ZarrSource(str(tmp_path / "x.zarr"), "", dims, "cell", "fill")
    each = Pass(0, ("gene",), ("float_histogram",), (0,))
    blocks = fit_blocks(source, frozenset(), DEFAULT_BLOCK_BYTES, each)
    assert plan_fit(each, source, blocks, Workers(1, 2)).tasks < 5000


def test_summaries_of_a_part_of_the_features_take_a_part_of_the_memory() -> None:
    source = MemorySource(np.broadcast_to(np.float32(0), (200_000, 2000)), ("cell", "gene"), "cell", {})
    each = Pass(0, ("gene",), ("float_histogram",), (0,))
    tall, wide = (
        plan_fit(each, source, Tiling.regular(source.shape, step), Workers(threads=2)).peak_bytes_per_worker
        for step in ((25_000, 1000), (12_500, 2000))
    )
    assert wide - tall > 4 * summary_bytes(each, source)


@pytest.mark.parametrize("workers", [Workers(1, 2), Workers(4, 1), Workers(2, 16)], ids=str)
def test_tasks_are_those_for_all_threads_of_the_cluster(workers: Workers) -> None:
    source = MemorySource(np.broadcast_to(np.uint8(0), (400, 2**21)), ("sample", "x"), "sample", {})
    blocks = Tiling.regular(source.shape, (1, 2**21))
    leaves = -(-400 // blocks_per_task(source, 400, 2**21, workers.count * workers.threads))
    assert plan_fit(Pass(0, (), ("moments",), (0,)), source, blocks, workers).tasks == leaves + merges(leaves)
    assert plan_apply(source, (1, 2**21), np.dtype("uint8"), workers).tasks == leaves + merges(leaves)
    assert {Workers(1, 2): 31, Workers(4, 1): 58, Workers(2, 16): 400}[workers] == leaves


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"target": 100}, []),
        ({"target": "median"}, [(1, (), ("moments", "float_histogram"), "each cell's total")]),
        ({"exclude_highly_expressed": True}, [(1, ("gene",), ("moments",), "which counts dominate their cell")]),
        (
            {"target": "median", "exclude_highly_expressed": True},
            [
                (1, ("gene",), ("moments",), "which counts dominate their cell"),
                (1, (), ("moments", "float_histogram"), "each cell's total"),
            ],
        ),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_what_a_step_observes_takes_a_read_of_its_own(options: dict[str, Any], expected: list[Any], dtype: str) -> None:
    passes = _passes([{"library_size": options}, "log1p", {"zscore": {"per": ["gene"]}}], dtype)
    assert [(each.at, each.per, each.summaries, each.observes) for each in passes[:-1]] == expected
    assert all(each.fits == (0,) for each in passes[:-1])
    assert (passes[-1].at, passes[-1].fits, passes[-1].observes) == (2, (2,), "")


def test_threads_that_merge_at_once_are_predicted_to_hold_less_than_a_tree() -> None:
    """What each thread merges, with what and into what, and one that waits of each box of features."""
    values = np.broadcast_to(np.float32(0), (200_000, 2000))
    source = MemorySource(values, ("cell", "gene"), "cell", {})
    each = Pass(0, ("gene",), ("covariance",), (0,))

    def summaries(source: Source, step: tuple[int, ...], threads: int, scheduled: bool) -> float:
        blocks = Tiling.regular(source.shape, step)
        planned = plan_fit(each, source, blocks, Workers(threads=threads, scheduled=scheduled)).peak_bytes_per_worker
        none = plan_fit(Pass(0, ("gene",), (), (0,)), source, blocks, Workers(threads=threads)).peak_bytes_per_worker
        return (planned - none) / summary_bytes(each, source)

    assert summaries(source, (200, 2000), 8, scheduled=True) == 48
    assert summaries(source, (200, 2000), 8, scheduled=False) == 25
    assert summaries(source, (20_000, 500), 8, scheduled=False) == -(-(3 * 8 + 4) // 4) + 1
    lazy = LazySource(dask.array.zeros((200_000, 2000), chunks=(200, 2000), dtype="f4"), ("cell", "gene"))
    assert summaries(lazy, (200, 2000), 8, scheduled=False) == 48
    assert summaries(source, (200_000, 2000), 8, scheduled=False) < 13
