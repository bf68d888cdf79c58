"""An executor that takes blocks and merges in a shuffled order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from pipeline.block import Block
from pipeline.executor import Advance, BlockTask
from pipeline.room import Room

Result = TypeVar("Result")


@dataclass(frozen=True)
class ShuffledExecutor:
    """Runs blocks in an order of the generator's, and merges randomly chosen neighbours until one result is left."""

    generator: np.random.Generator

    def map_merge(
        self,
        task: BlockTask[Result],
        merge: Callable[[Sequence[Result]], Result],
        groups: Sequence[Sequence[Block]],
        advance: Advance,
    ) -> list[Result]:
        return [self._merged(merge, [_done(task, blocks[index]) for index in self._order(len(blocks))]) for blocks in groups]

    def _order(self, count: int) -> list[int]:
        return [int(index) for index in self.generator.permutation(count)]

    def _merged(self, merge: Callable[[Sequence[Result]], Result], results: list[Result]) -> Result:
        while len(results) > 1:
            count = int(self.generator.integers(2, min(5, len(results)) + 1)) if len(results) > 2 else 2
            first = int(self.generator.integers(0, len(results) - count + 1))
            results[first : first + count] = [merge(results[first : first + count])]
        return results[0]


def _done(task: BlockTask[Any], block: Block) -> Any:
    """The result, after what it may have been made from is overwritten: nothing of it may lie there."""
    values, reading, working = task.source.read(block), Room(), Room()
    held = reading.array(values.shape, values.dtype)
    held[...] = values
    result = task(block, held, working)
    for room in (reading, working):
        room.array((room.size,), np.uint8).fill(0xA5)
    return result
