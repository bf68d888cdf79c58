"""A run over blocks as a Dask graph: a task for each run of blocks, and a tree of merges. Who schedules it is not said here.

Not here: schedulers (`client.py`, `threads.py`), and what is done with a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np
from dask.base import flatten, optimize
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import NDArray

from pipeline.block import Block, Tiling
from pipeline.executor import MERGE_FAN_IN, BlockTask, blocks_per_task, read_to_hold, run_blocks
from pipeline.room import Room
from pipeline.source.held import HeldSource, assemble
from pipeline.source.lazy import LazySource
from pipeline.source.source import Source


class Progress(Protocol):
    """How a task tells which blocks it has done, and learns that nobody waits for it any more."""

    def add(self, nbytes: int) -> None:
        """A block of so many decoded bytes is done."""
        ...

    def tell(self) -> None:
        """The task is done."""
        ...

    def until_cancelled(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """`blocks`, as long as somebody waits for the task's result; raises where nobody does."""
        ...


@dataclass(frozen=True)
class Work:
    """What all tasks of a run have in common. It travels to a worker once; a task is a few numbers beside it.

    Parameters
    ----------
    run : str
        What the keys of its tasks have in common.
    task, merge, groups
        As `Executor.map_merge` has them.
    progress : callable
        Makes, in a task, what it tells its progress to.
    """

    run: str
    task: BlockTask[Any]
    merge: Callable[[Sequence[Any]], Any]
    groups: Sequence[Sequence[Block]]
    progress: Callable[[], Progress]

    def graph(self, shared: Any, threads: int) -> tuple[HighLevelGraph, list[str]]:
        """The graph, and the key of each group's result in it.

        Parameters
        ----------
        shared : Any
            This object as a node refers to it: a key, which the graph then has, or what stands for one elsewhere.
        threads : int
            How many there are to run it.
        """
        layer: dict[Any, Any] = {shared: self} if isinstance(shared, str) else {}
        source = self.task.source
        pieces = _add_pieces(source, chain.from_iterable(self.groups), layer) if isinstance(source, LazySource) else []
        piece_keys = iter(pieces)
        step = blocks_per_task(source, sum(map(len, self.groups)), self.groups[0][0].size, threads)
        roots = []
        for group, blocks in enumerate(self.groups):
            leaves = []
            for first in range(0, len(blocks), step):
                leaves.append(f"block-{self.run}-{group}-{first}")
                if isinstance(source, LazySource):
                    layer[leaves[-1]] = (_run_piece, shared, group, first, next(piece_keys))
                elif isinstance(source, HeldSource):
                    layer[leaves[-1]] = (_run_held, shared, group, first, source.parts(blocks[first]))
                else:
                    layer[leaves[-1]] = (_run_blocks, shared, group, first, min(first + step, len(blocks)))
            roots.append(_merge_tree(leaves, f"merge-{self.run}-{group}", shared, layer))
        return HighLevelGraph.from_collections(self.run, layer, ()), roots


@dataclass(frozen=True)
class Reading:
    """As `Work`, of boxes that are only read."""

    run: str
    source: Source
    boxes: Tiling
    progress: Callable[[], Progress]

    def graph(self, shared: Any) -> tuple[HighLevelGraph, list[str]]:
        """The graph, and the key of each box in it; `shared` as `Work.graph` has it."""
        layer: dict[Any, Any] = {shared: self} if isinstance(shared, str) else {}
        keys = [f"read-{self.run}-{index}" for index in range(len(self.boxes))]
        layer.update({key: (_read_box, shared, index) for index, key in enumerate(keys)})
        return HighLevelGraph.from_collections(self.run, layer, ()), keys


def _add_pieces(source: LazySource, blocks: Iterable[Block], layer: dict[Any, Any]) -> list[Any]:
    """Add what makes the blocks of a Dask array to `layer`; the key of each.

    They are optimized together: what all of them need is computed once, and only what is read for it is read again, not held.
    Each ends in a task of its own: one that is a future already would not be in the graph, and its key stand for nothing.
    """
    parts = (source.lazy[block.slices].rechunk(-1) for block in blocks)
    pieces = optimize(*(part.map_blocks(np.asarray, dtype=part.dtype) for part in parts))
    layer.update(pieces[0].__dask_graph__())  # each has the graph of all
    return list(flatten([piece.__dask_keys__() for piece in pieces]))


def _merge_tree(keys: list[str], name: str, shared: Any, layer: dict[Any, Any]) -> str:
    """The key of what the results `keys` are merged to, by nodes that are added to `layer`."""
    level = 0
    while len(keys) > 1:
        merged = []
        for first in range(0, len(keys), MERGE_FAN_IN):
            heap = keys[first : first + MERGE_FAN_IN]
            if len(heap) > 1:
                merged.append(f"{name}-{level}-{first}")
                layer[merged[-1]] = (_merge, shared, heap)
            else:
                merged.append(heap[0])
        keys, level = merged, level + 1
    return keys[0]


def _merge(work: Work, results: Sequence[Any]) -> Any:
    return work.merge(results)


def _run_blocks(work: Work, group: int, first: int, stop: int) -> Any:
    """The merged result of some blocks of a group, which are worked on as the serial loop does."""
    progress = work.progress()
    blocks = (work.groups[group][index] for index in range(first, stop))
    result = run_blocks(work.task, work.merge, progress.until_cancelled(blocks), progress.add)
    progress.tell()
    return result


def _run_piece(work: Work, group: int, index: int, values: Any) -> Any:
    """The result of a block of a Dask array, whose values are those of a task of its own."""
    progress = work.progress()
    result = work.task(work.groups[group][index], values, Room())
    progress.add(values.nbytes)
    progress.tell()
    return result


def _run_held(work: Work, group: int, index: int, held: Sequence[NDArray[Any]]) -> Any:
    """The result of a block of a source whose boxes are `held`."""
    block, source = work.groups[group][index], work.task.source
    assert isinstance(source, HeldSource)
    return _run_piece(work, group, index, assemble(block, list(zip(source.boxes(block), held, strict=True))))


def _read_box(reading: Reading, index: int) -> NDArray[Any]:
    progress = reading.progress()
    values = read_to_hold(reading.source, reading.boxes[index], progress.add)
    progress.tell()
    return values
