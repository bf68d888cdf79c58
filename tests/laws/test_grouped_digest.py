"""Law 1 by group: labels, parameters and digest are a function of the samples and their labels alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from zarr.storage import MemoryStore

from pipeline import fit
from pipeline.executor import Executor
from pipeline.job import as_source, make_job
from pipeline.plan import plan_passes
from pipeline.progress import SilentReporter
from pipeline.run import fit_job
from tests.laws.executors import ShuffledExecutor

DIMS = ("sample", "y", "gene")
SHAPE = (80, 3, 4)
CHAINS: dict[str, list[Any]] = {
    "moments, two passes": [{"minmax": {"per": ["gene"]}}, "log1p", {"zscore": {"per": ["y"]}}],
    "distributions": [{"robust": {"per": ["gene"]}}, {"zscore": {"per": []}}],
}
KINDS = {"many": 40, "few": 3, "one": 1}


def _samples(dtype: str, kind: str) -> tuple[NDArray[Any], NDArray[Any]]:
    generator = np.random.default_rng(31)
    values = generator.normal(1e6 if dtype == "float64" else 100.0, 30.0, SHAPE)
    donors = np.array([f"d{code}" for code in generator.integers(0, KINDS[kind], SHAPE[0])])
    return np.clip(values, 0, None).astype(dtype), donors


def _store(values: NDArray[Any], donors: NDArray[Any], generator: np.random.Generator) -> MemoryStore:
    """A store of the samples in an order, chunks and shards drawn by `generator`."""
    order = generator.permutation(len(values))
    store = MemoryStore()
    chunks = tuple(int(generator.integers(1, size + 1)) for size in values.shape)
    shards = tuple(chunk * int(generator.integers(1, 3)) for chunk in chunks) if generator.random() < 0.4 else None
    group = zarr.open_group(store, mode="w")
    array = group.create_array(
        "X", shape=values.shape, dtype=values.dtype, chunks=chunks, shards=shards, dimension_names=DIMS,
        config={"write_empty_chunks": True},
    )  # fmt: skip
    array[...] = values[order]
    labels = group.create_array("donor", shape=donors.shape, dtype=str, dimension_names=DIMS[:1])
    labels[...] = donors[order]
    return store


def _digest(store: MemoryStore, chain: list[Any], block_bytes: int, executor: Executor) -> str:
    job = make_job(as_source(store, "X"), chain, block_bytes=block_bytes, by="donor")
    return fit_job(job, plan_passes(job.steps, job.source), executor, SilentReporter()).digest


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("name", CHAINS)
def test_digest_is_equal_over_orders_chunkings_and_merge_orders(name: str, dtype: str, kind: str) -> None:
    values, donors = _samples(dtype, kind)
    generator = np.random.default_rng(5)
    digests = set()
    for _ in range(5):
        block_bytes = int(2 ** generator.uniform(7, 13))
        digests.add(_digest(_store(values, donors, generator), CHAINS[name], block_bytes, ShuffledExecutor(generator)))
    assert len(digests) == 1


def test_digest_moves_with_one_label() -> None:
    values, donors = _samples("float32", "few")
    moved = donors.copy()
    moved[7] = next(donor for donor in ("d0", "d1", "d2") if donor != donors[7])
    stores = [_store(values, each, np.random.default_rng(1)) for each in (donors, moved)]
    assert len({fit(store, "X", normalize=CHAINS["distributions"], by="donor").digest for store in stores}) == 2
