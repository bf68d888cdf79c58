"""Law 1: the manifest's digest is a function of the data and the configuration alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from zarr.storage import MemoryStore

from pipeline.api import fit
from pipeline.cluster import connect
from pipeline.config import LocalClusterConfig
from pipeline.executor import Executor
from pipeline.job import as_source, make_job
from pipeline.plan import plan_passes
from pipeline.progress import SilentReporter
from pipeline.run import fit_job
from tests.laws.executors import ShuffledExecutor

SHAPE = (90, 8, 6, 3)
DIMS = ("sample", "y", "x", "channel")
CHAIN = [{"zscore": {"per": ["channel"]}}, {"minmax": {"per": []}}, "log1p", {"maxabs": {"per": ["y", "x"]}}]


def _data(name: str) -> NDArray[Any]:
    generator = np.random.default_rng(20240607)
    normal = generator.standard_normal(SHAPE)
    values = {
        "float32": lambda: (normal * np.exp(normal)).astype(np.float32),
        "float64": lambda: np.where(generator.random(SHAPE) < 0.05, np.nan, normal**3),
        "float64 at mean 1e8": lambda: 1e8 + normal,
        "float32 at mean 1e6": lambda: (1e6 + normal).astype(np.float32),
        "uint8": lambda: generator.integers(0, 256, SHAPE).astype(np.uint8),
        "int64": lambda: generator.integers(-(2**62), 2**62, SHAPE),
    }[name]()
    return values


CHUNKINGS = {
    "float32": 200,
    "float64": 40,
    "float64 at mean 1e8": 200,
    "float32 at mean 1e6": 40,
    "uint8": 200,
    "int64": 40,
}


def _store(values: NDArray[Any], generator: np.random.Generator) -> MemoryStore:
    """A store of `values` whose chunks, shards and format are drawn by `generator`."""
    store = MemoryStore()
    chunks = tuple(int(generator.integers(1, size + 1)) for size in values.shape)
    shards = tuple(chunk * int(generator.integers(1, 3)) for chunk in chunks) if generator.random() < 0.4 else None
    array = zarr.create_array(
        store,
        name="images",
        shape=values.shape,
        dtype=values.dtype,
        chunks=chunks,
        shards=shards,
        zarr_format=3,
        dimension_names=DIMS,
        config={"write_empty_chunks": True},
    )
    array[...] = values
    return store


def _digest(store: MemoryStore, block_bytes: int, executor: Executor) -> str:
    job = make_job(as_source(store, "images"), CHAIN, block_bytes=block_bytes)
    return fit_job(job, plan_passes(job.steps, job.source), executor, SilentReporter()).digest


@pytest.mark.parametrize("name", CHUNKINGS)
def test_digest_is_equal_over_chunkings_block_sizes_and_merge_orders(name: str) -> None:
    values = _data(name)
    reference = fit(values, dims=DIMS, normalize=CHAIN).digest
    generator = np.random.default_rng(7)
    digests = set()
    for _ in range(CHUNKINGS[name]):
        block_bytes = int(2 ** generator.uniform(10, 18))
        digests.add(_digest(_store(values, generator), block_bytes, ShuffledExecutor(generator)))
    assert digests == {reference}


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_digest_is_equal_over_numbers_of_worker_processes(workers: int, tmp_path: Path) -> None:
    with connect(LocalClusterConfig(workers=workers, threads_per_worker=1, processes=True)) as executor:
        for name in CHUNKINGS:
            values = _data(name)
            path = tmp_path / f"{name}.zarr"
            array = zarr.create_array(
                path, name="images", shape=SHAPE, dtype=values.dtype, chunks=(7, 3, 6, 2), dimension_names=DIMS
            )
            array[...] = values
            manifest = fit(path, "images", normalize=CHAIN, block_bytes=2000, client=executor.client, missing_chunks="fill")
            assert manifest.digest == fit(values, dims=DIMS, normalize=CHAIN).digest


def test_digest_moves_with_one_bit_of_the_data() -> None:
    values = _data("float64 at mean 1e8")
    other = values.copy()
    other[3, 1, 4, 1] = np.nextafter(other[3, 1, 4, 1], np.inf)
    assert fit(values, dims=DIMS, normalize=CHAIN).digest != fit(other, dims=DIMS, normalize=CHAIN).digest


def test_digest_is_that_of_the_multiset_of_samples() -> None:
    values = _data("float32")
    order = np.random.default_rng(1).permutation(len(values))
    assert fit(values, dims=DIMS, normalize=CHAIN).digest == fit(values[order], dims=DIMS, normalize=CHAIN).digest
