"""A client: of a cluster at an address, of workers that die, of no scheduler; errors come back whole, and no work after one."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import dask.array
import numpy as np
import pytest
import zarr
from distributed import Client, LocalCluster
from numpy.typing import NDArray
from zarr.storage import LocalStore

from pipeline import fit
from pipeline.block import Block, Tiling, tile
from pipeline.cluster import DaskExecutor, connect, workers_planned
from pipeline.config import AddressClusterConfig, LocalClusterConfig
from pipeline.errors import ChunkError, ClusterError, DataError
from pipeline.executor import SerialExecutor, Workers
from pipeline.plan import merges
from pipeline.room import Room
from pipeline.source.memory import MemorySource
from pipeline.source.source import Source
from tests.cluster.tasks import ONE_BY_ONE, SOURCE, VALUES, Slow, Total, assert_nothing_goes_on, wait_for


@dataclass(frozen=True)
class Fatal:
    """Ends the process that it runs in."""

    source: Source = SOURCE

    def __call__(self, block: Block, values: NDArray[Any], room: Room) -> float:
        os._exit(1)


def _cluster(workers: int, **options: Any) -> LocalCluster:
    """A cluster whose pages are on ports of loopback that are free."""
    free = "127.0.0.1:0"
    return LocalCluster(n_workers=workers, dashboard_address=free, worker_dashboard_address=free, **options)


@contextmanager
def _client(threads: int) -> Iterator[Client]:
    """A client of one worker in this process."""
    with _cluster(1, threads_per_worker=threads, processes=False) as cluster, cluster.get_client() as client:
        yield client


@pytest.fixture(scope="module")
def address() -> Iterator[AddressClusterConfig]:
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        _cluster(2, threads_per_worker=1, processes=True) as cluster,
    ):
        yield AddressClusterConfig(address=cluster.scheduler_address)


def test_an_address_gives_what_the_serial_loop_gives(address: AddressClusterConfig) -> None:
    groups = [list(tile((20, 3), (2, 3))), list(tile((20, 3), (20, 3)))]
    advanced: list[int] = []
    expected = SerialExecutor().map_merge(Total(), sum, groups, lambda _: None)
    with connect(address) as executor:
        original = executor.client.unsubscribe_topic
        executor.client.unsubscribe_topic = lambda topic: (told_all(advanced), original(topic))
        assert executor.map_merge(Total(), sum, groups, advanced.append) == expected == [VALUES.sum()] * 2
    assert sorted(advanced) == [2 * 3 * 8] * 10 + [VALUES.nbytes]
    assert workers_planned(address) == Workers(1, 1)


def told_all(advanced: list[int]) -> None:
    """Wait until every block's event has come: they travel apart from the results."""
    until = time.monotonic() + 20
    while sum(advanced) < 2 * VALUES.nbytes and time.monotonic() < until:
        time.sleep(0.01)


def test_after_an_error_no_worker_works_on_the_run(address: AddressClusterConfig, tmp_path: Path) -> None:
    with connect(address) as executor, pytest.raises(DataError, match="the first block fails"):
        executor.map_merge(Slow(tmp_path, 1.0), sum, ONE_BY_ONE, lambda _: None)
    assert_nothing_goes_on(tmp_path)
    assert len(list(tmp_path.glob("began-*"))) < 20


def test_after_an_error_a_task_of_many_blocks_begins_no_other(
    address: AddressClusterConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.executor.BLOCK_TASKS", 2)
    monkeypatch.setattr("pipeline.executor.BLOCK_TASKS_PER_THREAD", 1)
    with connect(address) as executor, pytest.raises(DataError, match="the first block fails"):
        executor.map_merge(Slow(tmp_path, 1.0), sum, ONE_BY_ONE, lambda _: None)
    assert_nothing_goes_on(tmp_path)
    assert not (tmp_path / "began-19").exists()


@pytest.mark.parametrize("tasks", [1, 3, 7])
def test_many_blocks_go_into_few_tasks(tasks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.executor.BLOCK_TASKS", tasks)
    monkeypatch.setattr("pipeline.executor.BLOCK_TASKS_PER_THREAD", 0)
    monkeypatch.setattr("pipeline.executor.TASK_BYTES", 0)
    groups = [Tiling.regular((20, 3), (2, 3)), Tiling.regular((20, 3), (20, 3)), Tiling.regular((20, 3), (7, 2))]
    advanced: list[int] = []
    graphs: list[Any] = []
    with _client(2) as client:
        executor = DaskExecutor(client)
        get = executor.client.get
        monkeypatch.setattr(
            executor.client, "get", lambda graph, *given, **options: (graphs.append(graph), get(graph, *given, **options))[1]
        )
        assert executor.map_merge(Total(), sum, groups, advanced.append) == [VALUES.sum()] * 3
    assert sorted(advanced) == sorted(block.size * 8 for blocks in groups for block in blocks)
    per_task = -(-17 // tasks)
    leaves = [-(-len(blocks) // per_task) for blocks in groups]
    assert len(graphs[0]) == sum(count + merges(count) for count in leaves) + 1


def test_after_an_interrupt_no_worker_works_on_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(futures: Any) -> None:
        wait_for(tmp_path, "began-*", 2)
        raise KeyboardInterrupt

    with connect(LocalClusterConfig(threads_per_worker=2, processes=True)) as executor:
        monkeypatch.setattr("distributed.as_completed", interrupt)
        with pytest.raises(KeyboardInterrupt):
            executor.map_merge(Slow(tmp_path, 1.0), sum, [ONE_BY_ONE[0][1:]], lambda _: None)
        assert_nothing_goes_on(tmp_path)


def test_workers_that_do_not_stop_are_named(
    address: AddressClusterConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.cluster.client.STOP_SECONDS", 0.3)
    with connect(address) as executor:
        with pytest.raises(ClusterError, match="workers still work on it") as caught:
            executor.map_merge(Slow(tmp_path, 2.0), sum, ONE_BY_ONE, lambda _: None)
        assert "tcp://127.0.0.1" in str(caught.value)
        assert "DataError: the first block fails" in str(caught.value)
        wait_for(tmp_path, "ended-*", len(list(tmp_path.glob("began-*"))) - 1)


def test_what_others_run_on_the_cluster_is_left_alone(tmp_path: Path) -> None:
    with _client(4) as client:
        future = client.submit(time.sleep, 3.0, pure=False)
        with pytest.raises(DataError):
            DaskExecutor(client).map_merge(Slow(tmp_path, 0.1), sum, ONE_BY_ONE, lambda _: None)
        assert not future.done()
        assert future.result(timeout=20) is None


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
    monkeypatch.setattr("pipeline.cluster.connection.CONNECT_SECONDS", 1.0)
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


def test_a_dask_array_is_fitted_where_its_parts_are(address: AddressClusterConfig) -> None:
    """Parts that workers hold are nowhere else: who fits a persisted array means the client that is active."""
    expected = fit(VALUES, dims=["cell", "gene"], normalize=["maxabs"]).digest
    with Client(address.address):
        for chunks in ((7, 2), (20, 3)):
            persisted = (dask.array.from_array(VALUES / 2, chunks=chunks) * 2).persist()
            assert fit(persisted, dims=["cell", "gene"], normalize=["maxabs"]).digest == expected


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


@pytest.mark.parametrize("processes", [False, True])
def test_a_large_array_goes_to_the_workers_ahead_of_the_graph(processes: bool) -> None:
    values = np.ones((1_250_000, 10))
    values[-1] = 2
    with _cluster(1, processes=processes) as cluster, cluster.get_client() as client:
        manifest = fit(values, dims=["cell", "gene"], normalize=["maxabs"], block_bytes=20_000_000, client=client)
    assert float(manifest.transform(values[-1:])[0, 0]) == 1
    assert manifest.statistics[0].statistics.nobs == values.size


def test_a_cluster_without_workers_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        _cluster(0, processes=False) as cluster,
        cluster.get_client() as client,
    ):
        scatter = client.scatter
        monkeypatch.setattr(client, "scatter", lambda *given, **options: scatter(*given, **options, timeout=0.2))
        source = MemorySource(np.ones((300_000, 1)), ("cell", "gene"))
        with pytest.raises(ClusterError, match="no worker"):
            DaskExecutor(client).map_merge(Total(source), sum, [list(tile((300_000, 1), (1000, 1)))], lambda _: None)


def test_a_scheduler_without_workers_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.cluster.client.CONNECT_SECONDS", 1.0)
    with (
        _cluster(0, processes=False, protocol="tcp") as cluster,
        pytest.raises(ClusterError, match="no worker") as caught,
        connect(AddressClusterConfig(address=cluster.scheduler_address)),
    ):
        pass
    assert "dask worker tcp://127.0.0.1" in str(caught.value.remedy)


def test_a_worker_that_lacks_the_program_is_named_before_it_gets_a_task() -> None:
    """It would end at its first task, and the client would wait for another one."""
    without = "import sys; sys.modules['pipeline'] = None; from distributed.cli.dask_worker import main; main()"
    with (
        _cluster(1, threads_per_worker=1, processes=False, protocol="tcp") as cluster,
        cluster.get_client() as client,
    ):
        arguments = [cluster.scheduler_address, "--no-nanny", "--no-dashboard", "--nthreads", "1", "--host", "127.0.0.1"]
        worker = subprocess.Popen([sys.executable, "-c", without, *arguments], stderr=subprocess.DEVNULL)
        try:
            client.wait_for_workers(2, timeout=60)
            lacking = set(client.scheduler_info()["workers"]) - {each.worker_address for each in cluster.workers.values()}
            with (
                pytest.raises(ClusterError, match="cannot import this program") as caught,
                connect(AddressClusterConfig(address=cluster.scheduler_address)),
            ):
                pass
            assert {caught.value.where} == lacking
            with pytest.raises(ClusterError, match="cannot import this program"):
                fit(np.ones((3, 2)), dims=["cell", "gene"], normalize=["maxabs"], client=client)
        finally:
            worker.terminate()
            worker.wait()


CONFIG = """
source: {{store: {folder}/cells.zarr, array: X}}
normalize: [{{zscore: {{per: [gene]}}}}]
output: {{store: {folder}/normalized.zarr}}
cluster: {cluster}
block_bytes: 200
"""
PROGRESS = ("fit", "apply")


@pytest.mark.parametrize(
    "cluster",
    [
        "{threads_per_worker: 2}",
        "{workers: 2, threads_per_worker: 1, processes: true}",
    ],
)
def test_an_error_in_a_task_is_a_few_lines(tmp_path: Path, cluster: str) -> None:
    path = tmp_path / "cells.zarr"
    array = zarr.create_array(path, name="X", shape=(20, 3), chunks=(5, 3), dtype="f8", dimension_names=("cell", "gene"))
    array[...] = VALUES + 1
    (path / "X" / "c" / "2" / "0").write_bytes(b"no chunk")
    (tmp_path / "config.yaml").write_text(CONFIG.format(folder=tmp_path, cluster=cluster))
    command = [sys.executable, "-m", "pipeline", "run", str(tmp_path / "config.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 1, done.stderr
    assert "error: a stored chunk cannot be read" in done.stderr
    assert "Traceback" not in done.stderr
    assert "distributed." not in done.stderr
    assert "never retrieved" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if not line.startswith(PROGRESS)]) <= 6


@pytest.mark.parametrize("cluster", ["{threads_per_worker: 2}", "{workers: 2, threads_per_worker: 1, processes: true}"])
def test_an_interrupted_run_ends_quietly(tmp_path: Path, cluster: str) -> None:
    values = np.random.default_rng(0).integers(0, 4, size=(60, 20_000)).astype("f8")
    array = zarr.create_array(
        tmp_path / "cells.zarr", name="X", shape=values.shape, chunks=(1, 20_000), dtype="f8", dimension_names=("cell", "gene")
    )
    array[...] = values
    config = CONFIG.replace("block_bytes: 200", "block_bytes: 160000").format(folder=tmp_path, cluster=cluster)
    (tmp_path / "config.yaml").write_text(config)
    slow = "output.compressors=[{name: gzip, configuration: {level: 9}}]"
    command = [sys.executable, "-m", "pipeline", "run", str(tmp_path / "config.yaml"), "--set", slow]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2], start_new_session=True)
    wait_for(tmp_path, "normalized.zarr/X/c/*/0", 3)
    os.killpg(run.pid, signal.SIGINT)
    stderr = run.communicate(timeout=60)[1]
    assert run.returncode == 130, stderr
    assert [line for line in stderr.splitlines() if not line.startswith(PROGRESS)] == ["interrupted"]


def test_logs_are_silent_only_while_a_cluster_of_ours_runs_and_nobody_debugs() -> None:
    logger, handler = logging.getLogger("distributed"), logging.StreamHandler()
    logger.addHandler(handler)
    try:
        with connect(LocalClusterConfig(processes=True)):
            assert handler.level == logging.CRITICAL
        assert handler.level == logging.NOTSET
        with connect(LocalClusterConfig(processes=True), debug=True):
            assert handler.level == logging.WARNING
        assert handler.level == logging.NOTSET
    finally:
        logger.removeHandler(handler)
