"""Threads of this process: the same results, the first error whole, and no thread at work afterwards."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import dask
import dask.array
import numpy as np
import pytest
import zarr

from pipeline import fit
from pipeline.block import Tiling
from pipeline.cluster import ThreadsExecutor, connect, workers_of, workers_planned
from pipeline.cluster.graph import Work
from pipeline.config import LocalClusterConfig
from pipeline.errors import ChunkError, DataError
from pipeline.executor import SerialExecutor
from pipeline.source.lazy import LazySource
from pipeline.source.memory import MemorySource
from pipeline.source.open import open_source
from tests.cluster.tasks import ONE_BY_ONE, SOURCE, VALUES, Slow, Total, assert_nothing_goes_on, wait_for


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_give_what_the_serial_loop_gives(threads: int) -> None:
    groups = [Tiling.regular((20, 3), (2, 3)), Tiling.regular((20, 3), (20, 3)), Tiling.regular((20, 3), (7, 2))]
    advanced: list[int] = []
    expected = SerialExecutor().map_merge(Total(), sum, groups, lambda _: None)
    with connect(LocalClusterConfig(threads_per_worker=threads)) as executor:
        assert executor.map_merge(Total(), sum, groups, advanced.append) == expected == [VALUES.sum()] * 3
        assert workers_of(executor) == workers_planned(LocalClusterConfig(threads_per_worker=threads))
    assert Counter(advanced) == Counter(block.size * 8 for blocks in groups for block in blocks)


def test_threads_fill_the_machine_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.cluster.connection.CPU_COUNT", 8)
    told = [{}, {"threads_per_worker": 3}, {"workers": 2}, {"workers": 2, "threads_per_worker": 3}, {"workers": 1000}]
    planned = [workers_planned(LocalClusterConfig(**each)) for each in told]
    assert [(each.count, each.threads) for each in planned] == [(1, 8), (1, 3), (1, 8), (1, 6), (1, 1000)]
    processes = [workers_planned(LocalClusterConfig(**each, processes=True)) for each in told]
    assert [(each.count, each.threads) for each in processes] == [(1, 8), (1, 3), (2, 4), (2, 3), (1000, 1)]


def test_after_an_error_no_thread_works_on_the_run(tmp_path: Path) -> None:
    before = threading.active_count()
    with pytest.raises(DataError, match="the first block fails"):
        ThreadsExecutor(2).map_merge(Slow(tmp_path, 1.0), sum, ONE_BY_ONE, lambda _: None)
    assert threading.active_count() == before
    assert_nothing_goes_on(tmp_path)
    assert len(list(tmp_path.glob("began-*"))) == 2


def test_after_an_interrupt_no_thread_works_on_the_run(tmp_path: Path) -> None:
    main = threading.get_ident()

    def interrupt() -> None:
        wait_for(tmp_path, "began-*", 2)
        signal.pthread_kill(main, signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        ThreadsExecutor(2).map_merge(Slow(tmp_path, 1.0), sum, [ONE_BY_ONE[0][1:]], lambda _: None)
    interrupting.join()
    began = {path.name.partition("-")[2] for path in tmp_path.glob("began-*")}
    assert began == {path.name.partition("-")[2] for path in tmp_path.glob("ended-*")}
    assert 2 <= len(began) <= 4


def test_blocks_are_told_one_at_a_time() -> None:
    inside, most = 0, 0

    def advance(nbytes: int) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        threading.Event().wait(0.002)
        inside -= 1

    ThreadsExecutor(4).map_merge(Total(), sum, ONE_BY_ONE, advance)
    assert (most, inside) == (1, 0)


def test_what_cannot_be_read_ends_the_run_with_an_error_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "cells.zarr"
    array = zarr.create_array(path, name="X", shape=(20, 3), chunks=(5, 3), dtype="f8", dimension_names=("cell", "gene"))
    array[...] = VALUES + 1
    (path / "X" / "c" / "2" / "0").write_bytes(b"no chunk")
    source = open_source(path, "X")
    with pytest.raises(ChunkError, match="c/2/0"):
        ThreadsExecutor(2).map_merge(Total(source), sum, [Tiling.regular((20, 3), (5, 3))], lambda _: None)
    with pytest.raises(ChunkError, match="c/2/0"):
        ThreadsExecutor(2).hold(source, (5, 3), lambda _: None)


def test_no_more_results_wait_than_groups_and_threads() -> None:
    """However many blocks there are: one result of each group, one in each thread, and what each merges it with."""
    alive, most, lock = 0, 0, threading.Lock()

    class Counted:
        def __init__(self) -> None:
            nonlocal alive, most
            with lock:
                alive += 1
                most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            with lock:
                alive -= 1

    class Counting(Total):
        def __call__(self, block: Any, values: Any, room: Any) -> Any:
            return Counted()

    merged = ThreadsExecutor(3).map_merge(Counting(), lambda _: Counted(), ONE_BY_ONE * 4, lambda _: None)
    assert len(merged) == 4
    assert most <= 4 + 3 * 3
    del merged
    assert alive == 0


def test_every_thread_works() -> None:
    """Each waits in its first block until all are in one."""
    together = threading.Barrier(4, timeout=20)
    seen = threading.local()

    class Meeting(Total):
        def __call__(self, block: Any, values: Any, room: Any) -> float:
            if not hasattr(seen, "met"):
                seen.met = together.wait()
            return super().__call__(block, values, room)

    assert ThreadsExecutor(4).map_merge(Meeting(), sum, ONE_BY_ONE, lambda _: None) == [VALUES.sum()]


@pytest.mark.parametrize("lazily", [False, True], ids=["stored", "dask"])
def test_an_error_in_telling_or_merging_is_raised_whole(lazily: bool) -> None:
    source: Any = LazySource(dask.array.from_array(VALUES, chunks=(1, 3)), ("cell", "gene")) if lazily else SOURCE
    before = threading.active_count()

    def fail(_: Any) -> Any:
        raise DataError("what was told")

    for merge, advance in ((sum, fail), (fail, lambda _: None)):
        with pytest.raises(DataError, match="what was told"):
            ThreadsExecutor(3).map_merge(Total(source), merge, ONE_BY_ONE, advance)
    assert threading.active_count() == before


def test_the_first_error_is_raised_and_no_block_begins_after_it() -> None:
    """Two threads fail, one a moment after the other; the third is given no block after that."""
    together, failed, begun = threading.Barrier(3, timeout=20), threading.Event(), 0

    class Failing(Total):
        def __call__(self, block: Any, values: Any, room: Any) -> float:
            nonlocal begun
            begun += 1
            place = together.wait() if begun <= 3 else 3
            if place == 0:
                failed.set()
                raise DataError("first")
            failed.wait(20)
            threading.Event().wait(0.05)
            if place == 1:
                raise DataError("second")
            return 0.0

    for _ in range(5):
        begun = 0
        failed.clear()
        with pytest.raises(DataError, match="first"):
            ThreadsExecutor(3).map_merge(Failing(), sum, ONE_BY_ONE, lambda _: None)
        assert begun == 3


def test_nothing_is_kept_of_a_run_that_failed() -> None:
    class Broken(MemorySource):
        def read(self, block: Any, room: Any = None) -> Any:
            if block.start[0] == 15:
                raise DataError("the sixteenth block fails")
            values = super().read(block, room).copy()
            read.append(weakref.ref(values))
            return values

    read: list[weakref.ref[Any]] = []
    gc.disable()
    try:
        with pytest.raises(DataError, match="sixteenth"):
            ThreadsExecutor(2).hold(Broken(VALUES, ("cell", "gene")), (1, 3), lambda _: None)
        assert len(read) >= 15
        assert [values() for values in read] == [None] * len(read)
    finally:
        gc.enable()


def test_holding_tells_of_every_block() -> None:
    advanced: list[int] = []
    held = ThreadsExecutor(2).hold(SOURCE, (7, 2), advanced.append)
    assert Counter(advanced) == Counter(values.nbytes for values in held.held.values())
    assert sum(advanced) == VALUES.nbytes


def test_each_block_is_taken_once_whenever_threads_take_turns() -> None:
    """Thousands of blocks that take no time, with threads that are stopped all the time."""
    source: Any = MemorySource(np.ones((6000, 1)), ("cell", "gene"))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        merged = ThreadsExecutor(8).map_merge(Total(source), sum, [Tiling.regular((6000, 1), (1, 1))] * 2, lambda _: None)
    finally:
        sys.setswitchinterval(interval)
    assert merged == [6000.0, 6000.0]


@pytest.mark.parametrize("named", ["work", "shared"])
def test_what_blocks_of_a_dask_array_are_made_of_is_computed_once(named: str) -> None:
    """Whatever its tasks are called; what is only read may be read again, as Dask itself does rather than hold it."""
    calls: list[int] = []

    def made(block: Any, block_info: Any = None) -> Any:
        calls.append(1)
        return block

    means = dask.array.from_delayed(dask.delayed(lambda: VALUES.mean(0))(dask_key_name=named), (3,), "f8")
    lazy = dask.array.from_array(VALUES, chunks=(1, 3)).map_blocks(made, dtype="f8")
    centered = lazy - lazy.mean(0) - means
    calls.clear()
    manifest = fit(centered, dims=["cell", "gene"], normalize=[{"minmax": {"per": ["gene"]}}])
    assert 20 <= len(calls) <= 40
    expected = fit(centered.compute(), dims=["cell", "gene"], normalize=[{"minmax": {"per": ["gene"]}}])
    assert manifest.digest == expected.digest


def test_the_graph_of_a_dask_array_grows_with_its_blocks() -> None:
    """Not with their square, were every block's part of it kept by itself."""

    def entries(chunks: int) -> int:
        lazy = dask.array.zeros((chunks, 3), chunks=(1, 3))
        source: Any = LazySource(lazy - lazy.mean(0), ("cell", "gene"))
        work = Work("run", Total(source), sum, [source.blocks(frozenset())], lambda: None)
        return sum(len(layer) for layer in work.graph("work", 2)[0].layers.values())

    assert entries(400) <= 4.2 * entries(100) <= 4.2 * 100 * 8


def test_an_error_that_is_false_is_raised_too() -> None:
    class EmptyError(Exception):
        def __len__(self) -> int:
            return 0

    class Failing(Total):
        def __call__(self, block: Any, values: Any, room: Any) -> float:
            raise EmptyError

    with pytest.raises(EmptyError):
        ThreadsExecutor(2).map_merge(Failing(), sum, ONE_BY_ONE, lambda _: None)
