"""Clusters: an address, workers that die, a scheduler that is not there, and errors that come back whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import dask
import dask.array
import numpy as np
import pytest
import zarr
from distributed import LocalCluster
from numpy.typing import NDArray
from zarr.storage import LocalStore

from pipeline import fit
from pipeline.block import Block, tile
from pipeline.cluster import connect, threads_per_worker
from pipeline.config import AddressClusterConfig, LocalClusterConfig
from pipeline.errors import ChunkError, ClusterError
from pipeline.executor import SerialExecutor
from pipeline.source.memory import MemorySource
from pipeline.source.source import Source

VALUES = np.arange(60.0).reshape(20, 3)
SOURCE = MemorySource(VALUES, ("cell", "gene"))


@dataclass(frozen=True)
class Total:
    """The sum of each block."""

    source: Source = SOURCE

    def __call__(self, block: Block, values: NDArray[Any]) -> float:
        return float(values.sum())


@dataclass(frozen=True)
class Fatal:
    """Ends the process that it runs in."""

    source: Source = SOURCE

    def __call__(self, block: Block, values: NDArray[Any]) -> float:
        os._exit(1)


@pytest.fixture(scope="module")
def address() -> Iterator[AddressClusterConfig]:
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0") as cluster,
    ):
        yield AddressClusterConfig(address=cluster.scheduler_address)


def test_an_address_gives_what_the_serial_loop_gives(address: AddressClusterConfig) -> None:
    groups = [list(tile((20, 3), (2, 3))), list(tile((20, 3), (20, 3)))]
    advanced: list[int] = []
    expected = SerialExecutor().map_merge(Total(), sum, groups, lambda _: None)
    with connect(address) as executor:
        assert executor.map_merge(Total(), sum, groups, advanced.append) == expected == [VALUES.sum()] * 2
    assert sum(advanced) <= 2 * VALUES.nbytes
    assert threads_per_worker(address) == 1


def test_workers_that_die_are_one_clear_error(address: AddressClusterConfig) -> None:
    with connect(address) as executor, pytest.raises(ClusterError, match="workers died") as caught:
        executor.map_merge(Fatal(), sum, [list(tile((20, 3), (20, 3)))], lambda _: None)
    assert "block_bytes" in str(caught.value)


def test_an_error_of_a_worker_comes_back_as_what_it_was(address: AddressClusterConfig, tmp_path: Any) -> None:
    path = tmp_path / "cells.zarr"
    array = zarr.create_array(path, name="X", shape=(20, 3), chunks=(5, 3), dtype="f8", dimension_names=("cell", "gene"))
    array[...] = VALUES + 1
    (path / "X" / "c" / "2" / "0").write_bytes(b"no chunk")
    with connect(address) as executor, pytest.raises(ChunkError) as caught:
        fit(path, "X", normalize=[{"maxabs": {"per": []}}], block_bytes=200, client=executor.client)
    assert caught.value.where is not None
    assert "c/2/0" in str(caught.value)


def test_a_scheduler_that_is_not_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.cluster.CONNECT_TIMEOUT", "1s")
    with (
        pytest.raises(ClusterError, match="no Dask scheduler answers"),
        connect(AddressClusterConfig(address="tcp://127.0.0.1:9")),
    ):
        pass


def test_a_dask_array_is_read_as_tasks_of_its_own_graph(address: AddressClusterConfig) -> None:
    lazy = dask.array.from_array(VALUES, chunks=(7, 2))
    normalize = [{"zscore": {"per": ["gene"]}}]
    expected = fit(VALUES, dims=["cell", "gene"], normalize=normalize).digest
    with connect(address) as executor:
        assert fit(lazy, dims=["cell", "gene"], normalize=normalize, client=executor.client).digest == expected
    assert fit(lazy, dims=["cell", "gene"], normalize=normalize).digest == expected
    assert fit(lazy, dims=["cell", "gene"], normalize=[{"unit_norm": {}}, *normalize]).statistics[0].before_step == 1


def test_stores_are_opened_by_workers(address: AddressClusterConfig, tmp_path: Any) -> None:
    array = zarr.create_array(
        LocalStore(tmp_path / "x.zarr"), shape=(20, 3), chunks=(5, 3), dtype="f8", dimension_names=("cell", "gene")
    )
    array[...] = VALUES + 1
    with connect(address) as executor:
        assert (
            fit(tmp_path / "x.zarr", normalize=["maxabs"], block_bytes=200, client=executor.client).digest
            == fit(VALUES + 1, dims=["cell", "gene"], normalize=["maxabs"]).digest
        )


def test_local_threads_fill_the_machine_unless_told() -> None:
    assert threads_per_worker(LocalClusterConfig(threads_per_worker=3)) == 3
    assert threads_per_worker(LocalClusterConfig(workers=1000)) == 1
