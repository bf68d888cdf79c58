"""What carries work over blocks: the contract, and a serial loop that is the reference for every other executor.

Not here: Dask (`cluster/`), and what the work is (`fitting.py`, `apply.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.block import Block, tile
from pipeline.room import Room
from pipeline.source.held import HeldSource
from pipeline.source.lazy import LazySource
from pipeline.source.source import Source

Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)
Advance = Callable[[int], None]

MERGE_FAN_IN = 4
BLOCK_TASKS = 3072
TASK_BYTES = 128 * 2**20
BLOCK_TASKS_PER_THREAD = 16


@dataclass(frozen=True)
class Workers:
    """What tasks run on.

    Parameters
    ----------
    count : int
    threads : int
        Of each: how many tasks it runs at once.
    memory_bytes : int, optional
        What each may take, where that is known.
    whose : str
        How that comes about, for messages.
    scheduled : bool
        Whether they are handed the tasks of a graph; else threads take blocks by themselves, and merge as soon as they can.
    """

    count: int = 1
    threads: int = 1
    memory_bytes: int | None = None
    whose: str = ""
    scheduled: bool = True

    @property
    def all_threads(self) -> int:
        return self.count * self.threads


class BlockTask(Protocol[Result_co]):
    """Work on one block of a source. Picklable: it travels to a worker once."""

    @property
    def source(self) -> Source: ...

    def __call__(self, block: Block, values: NDArray[Any], room: Room) -> Result_co:
        """The result for `block`, whose values have been read; `room` is for what is needed until the next block.

        Nothing of the result may lie in `room` or in `values`.
        """
        ...


class Executor(Protocol):
    """Runs a task over blocks and merges what it returns."""

    def map_merge(
        self,
        task: BlockTask[Result],
        merge: Callable[[Sequence[Result]], Result],
        groups: Sequence[Sequence[Block]],
        advance: Advance,
    ) -> list[Result]:
        """One merged result for each group of blocks.

        Parameters
        ----------
        task : BlockTask
            Called once for every block, with its values.
        merge : callable
            One result from several; must not depend on their order or grouping.
        groups : sequence of sequences of Block
            No group is empty.
        advance : callable
            Told the decoded bytes of every block that is done.

        Raises
        ------
        Exception
            The first that a block met. No block is being worked on any more then.
        """
        ...

    def hold(self, source: Source, step: tuple[int, ...], advance: Advance) -> HeldSource:
        """`source` read into the memory of whatever runs tasks here, in boxes of `step`; `advance` and errors as above.

        It is let go of with what is returned.
        """
        ...


class SerialExecutor:
    """One block after another in this thread."""

    def map_merge(
        self,
        task: BlockTask[Result],
        merge: Callable[[Sequence[Result]], Result],
        groups: Sequence[Sequence[Block]],
        advance: Advance,
    ) -> list[Result]:
        return [run_blocks(task, merge, blocks, advance) for blocks in groups]

    def hold(self, source: Source, step: tuple[int, ...], advance: Advance) -> HeldSource:
        held = {}
        for block in tile(source.shape, step):
            held[block] = read_to_hold(source, block, advance)
        return HeldSource(source, step, held)


def blocks_per_task(source: Source, blocks: int, block_size: int, threads: int) -> int:
    """How many of so many blocks of `source`, of about `block_size` values, a task on a cluster of `threads` threads takes.

    As many as make some work, since a scheduler takes about a millisecond and some kilobytes for each task, as long as every
    thread has enough tasks; and so many that there are never more than some thousand tasks, or than all threads need. One of
    a source whose blocks are brought to a task by others.

    Examples
    --------
    >>> from pipeline.source.memory import MemorySource
    >>> source = MemorySource(np.zeros(1, "uint8"), ("sample",))
    >>> blocks_per_task(source, 200, 8 * 2**20, threads=2), blocks_per_task(source, 200, 128 * 2**20, threads=2)
    (7, 1)
    >>> blocks_per_task(source, 1_000_000, 2**27, threads=2), blocks_per_task(source, 1_000_000, 2**27, threads=1000)
    (326, 63)
    """
    if isinstance(source, LazySource | HeldSource):
        return 1
    enough = BLOCK_TASKS_PER_THREAD * threads
    worth_a_task = min(TASK_BYTES // max(1, block_size * source.dtype.itemsize), -(-blocks // max(1, enough)))
    return max(1, worth_a_task, -(-blocks // max(BLOCK_TASKS, enough)))


def run_blocks(
    task: BlockTask[Result], merge: Callable[[Sequence[Result]], Result], blocks: Iterable[Block], advance: Advance
) -> Result:
    """Read each of `blocks`, of which there is one at least, and run `task` on it; the merged result."""
    reading, working = Room(), Room()
    results = (run_block(task, block, advance, reading, working) for block in blocks)
    return reduce(lambda merged, result: merge([merged, result]), results)


def run_block(task: BlockTask[Result], block: Block, advance: Advance, reading: Room, working: Room) -> Result:
    """Read `block` and run `task` on it, in room for what is read and for the work."""
    result = task(block, task.source.read(block, reading), working)
    advance(decoded_bytes(block, task.source.dtype))
    return result


def read_to_hold(source: Source, block: Block, advance: Advance) -> NDArray[Any]:
    """The values of `block`, which nobody changes."""
    values = source.read(block)
    values.setflags(write=False)
    advance(decoded_bytes(block, source.dtype))
    return values


def decoded_bytes(block: Block, dtype: np.dtype[Any]) -> int:
    """Bytes that the values of `block` take in memory."""
    return block.size * dtype.itemsize
