"""Threads of this process as an executor.

Not here: what the tasks do, the graph of a Dask array's blocks (`graph.py`), and workers in processes (`client.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar
from uuid import uuid4

import dask.threaded

from pipeline.block import Block, Tiling
from pipeline.cluster.graph import Progress, Work
from pipeline.executor import Advance, BlockTask, read_to_hold, run_block
from pipeline.room import Room
from pipeline.source.held import HeldSource
from pipeline.source.lazy import LazySource
from pipeline.source.source import Source

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ThreadsExecutor:
    """Threads that end with the run: each takes the next block until there is none.

    Nobody has to schedule them: no thread waits while there are blocks, and results are merged as soon as there are two. With
    Dask's scheduler and workers in this process a fit took a tenth longer. Only the blocks of a Dask array are tasks of its
    graph, in which they share what they are made of.

    Parameters
    ----------
    threads : int
    """

    threads: int

    def map_merge(
        self,
        task: BlockTask[Result],
        merge: Callable[[Sequence[Result]], Result],
        groups: Sequence[Sequence[Block]],
        advance: Advance,
    ) -> list[Result]:
        told = _Told(advance)
        if isinstance(task.source, LazySource):
            name = f"zarrnorm-{uuid4().hex}"
            graph, keys = Work(name, task, merge, groups, lambda: told).graph(f"work-{name}", self.threads)
            with ThreadPoolExecutor(self.threads) as pool:
                return list(dask.threaded.get(graph, keys, pool=pool))
        merged = _Merged(merge)

        def work(blocks: Iterator[tuple[int, Block]]) -> None:
            reading, working = Room(), Room()
            for group, block in blocks:
                merged.add(group, run_block(task, block, told.add, reading, working))

        self._share_out(((group, block) for group, blocks in enumerate(groups) for block in blocks), work)
        return [merged.results[group] for group in range(len(groups))]

    def hold(self, source: Source, step: tuple[int, ...], advance: Advance) -> HeldSource:
        told, held = _Told(advance), {}

        def read(boxes: Iterator[Block]) -> None:
            for box in boxes:
                held[box] = read_to_hold(source, box, told.add)

        self._share_out(Tiling.regular(source.shape, step), read)
        return HeldSource(source, step, held)

    def _share_out(self, items: Iterable[Item], work: Callable[[Iterator[Item]], None]) -> None:
        """Let every thread `work` on what it gets of `items`; raises, when all have ended, what the first of them raised.

        An interrupt too is raised when all have ended, which is at the end of their blocks; only a second one does not wait.
        """
        shared = _Shared(items, work)
        with ThreadPoolExecutor(self.threads) as pool:
            try:
                wait([pool.submit(shared.work) for _ in range(self.threads)])
            finally:
                shared.close()
        shared.check()


class _Shared(Iterator[Item]):
    """Items of which each goes to one of the threads that `work` on them, until there is none or one has failed."""

    def __init__(self, items: Iterable[Item], work: Callable[[Iterator[Item]], None]) -> None:
        self._items = iter(items)
        self._work = work
        self._lock = Lock()
        self._error: BaseException | None = None

    def __next__(self) -> Item:
        with self._lock:
            return next(self._items)

    def work(self) -> None:
        """Work on items as long as there are any."""
        try:
            self._work(self)
        except BaseException as error:
            self.close(error)

    def close(self, error: BaseException | None = None) -> None:
        """Give nothing any more, because of `error`."""
        with self._lock:
            self._items = iter(())
            self._error = error if self._error is None else self._error

    def check(self) -> None:
        """Raise the first error; without a reference to it, which would keep all that its frames hold in memory."""
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error


class _Merged(Generic[Result]):
    """One result of each group, merged in the thread that has another one."""

    def __init__(self, merge: Callable[[Sequence[Result]], Result]) -> None:
        self.results: dict[int, Result] = {}
        self._merge = merge
        self._lock = Lock()

    def add(self, group: int, result: Result) -> None:
        """Merge `result` with what there is of its group; while that goes on, others find nothing there."""
        while True:
            with self._lock:
                if group not in self.results:
                    self.results[group] = result
                    return
                other = self.results.pop(group)
            result = self._merge([other, result])


class _Told(Progress):
    """Tells `advance` of blocks, one at a time, as a task's `Progress`."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._lock = Lock()

    def add(self, nbytes: int) -> None:
        with self._lock:
            self._advance(nbytes)

    def tell(self) -> None:
        """Do nothing: all is told."""

    def until_cancelled(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """All `blocks`: a task has one."""
        return iter(blocks)
