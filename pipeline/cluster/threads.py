"""Threads of this process as an executor.

Not here: what the tasks do, and workers in processes of their own (`client.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

import dask.threaded

from pipeline.block import Block, Tiling
from pipeline.cluster.graph import Work
from pipeline.executor import Advance, BlockTask, decoded_bytes, read_to_hold, run_block
from pipeline.room import Room
from pipeline.source.held import HeldSource
from pipeline.source.lazy import LazySource
from pipeline.source.source import Source

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ThreadsExecutor:
    """Threads that end with the run: each takes the next block until there is none.

    Only blocks of a Dask array, which is a graph already, are tasks of a Dask graph here. Others need nobody to schedule them:
    no thread waits while there are blocks, and results are merged as soon as there are two. With a scheduler and workers in
    this process a fit took a tenth longer.

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
        told, merged = _Told(advance), _Merged(merge)
        if isinstance(task.source, LazySource):
            graph, keys = Work("zarrnorm", task, merge, groups, lambda: told).graph("work", self.threads)
            with ThreadPoolExecutor(self.threads) as pool:
                return list(dask.threaded.get(graph, keys, pool=pool))

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
                held[box] = read_to_hold(source, box)
                told.add(decoded_bytes(box, source.dtype))

        self._share_out(Tiling.regular(source.shape, step), read)
        return HeldSource(source, step, held)

    def _share_out(self, items: Iterable[Item], work: Callable[[Iterator[Item]], None]) -> None:
        """Let every thread `work` on what it gets of `items`. All have ended when this does, by the first error too."""
        shared = _Shared(items)
        with ThreadPoolExecutor(self.threads) as pool:
            try:
                for future in as_completed([pool.submit(work, shared) for _ in range(self.threads)]):
                    future.result()
            finally:
                shared.close()


class _Shared(Iterator[Item]):
    """Items of which each goes to one of the threads that ask."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = iter(items)
        self._one = Lock()

    def __next__(self) -> Item:
        with self._one:
            return next(self._items)

    def close(self) -> None:
        """Give nothing any more."""
        with self._one:
            self._items = iter(())


class _Merged(Generic[Result]):
    """One result of each group, merged in the thread that has another one."""

    def __init__(self, merge: Callable[[Sequence[Result]], Result]) -> None:
        self.results: dict[int, Result] = {}
        self._merge = merge
        self._one = Lock()

    def add(self, group: int, result: Result) -> None:
        """Merge `result` with what there is of its group; while that goes on, others find nothing there."""
        while True:
            with self._one:
                if group not in self.results:
                    self.results[group] = result
                    return
                other = self.results.pop(group)
            result = self._merge([other, result])


class _Told:
    """Tells `advance` of blocks, one at a time, as a task's `Progress`."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._one = Lock()

    def add(self, nbytes: int) -> None:
        with self._one:
            self._advance(nbytes)

    def tell(self) -> None:
        """Do nothing: all is told."""

    def until_cancelled(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """All `blocks`: who waits for a thread's result waits until it has ended."""
        return iter(blocks)
