"""The writing pass: read a block, normalize it, write it to the output.

Not here: the normalization (`normalize/chain.py`), the output's layout (`sink/`), and what carries the pass out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from pipeline.block import Block, group_by_axes
from pipeline.executor import Advance, Executor
from pipeline.gather import Gather, Grouped, join_groups, merge_groups, with_everything
from pipeline.normalize.chain import FittedChain
from pipeline.normalize.grouped import GroupedChain
from pipeline.sink.sink import Sink
from pipeline.source.source import Source


@dataclass(frozen=True)
class Written:
    """What a part of the writing pass did.

    Parameters
    ----------
    blocks : int
        How many were written.
    summaries : mapping of int to mapping of str to Summary, optional
        Those of their values, where the pass was asked to gather some on the way.
    """

    blocks: int
    summaries: Grouped | None = None


@dataclass(frozen=True)
class Write:
    """What the writing pass does with a block.

    Parameters
    ----------
    source : Source
    chain : FittedChain or GroupedChain
        Its dims are those of `source`, in any order.
    sink : Sink
    gather : Gather, optional
        Statistics to gather in the same read.
    """

    source: Source
    chain: FittedChain | GroupedChain
    sink: Sink
    gather: Gather | None = None

    def __call__(self, block: Block, values: NDArray[Any]) -> Written:
        part = dict(zip(self.source.dims, block.slices, strict=True))
        normalized = self.chain.select(part)(values, self.source.dims)
        self.sink.write(self._written(block), normalized)
        return Written(1, self.gather(block, values) if self.gather else None)

    def _written(self, block: Block) -> Block:
        """The block of the output: along a dim of which the output has a part, or nothing, `block` holds everything."""
        starts = dict(zip(self.source.dims, block.start, strict=True))
        stops = self.chain.output_sizes(dict(zip(self.source.dims, block.stop, strict=True)))
        return Block(tuple(starts.get(dim, 0) for dim in stops), tuple(stops.values()))


def write_blocks(task: Write, blocks: Iterable[Block], executor: Executor, advance: Advance) -> Written:
    """Write every block.

    Raises
    ------
    ChunkError, DataError, WriteError
        The first that any block met; the output then stays one that does not open.
    """
    groups = group_by_axes(blocks, task.gather.feature_axes if task.gather else ())
    if not groups:
        return Written(0)
    parts = executor.map_merge(task, _merge, list(groups.values()), advance)
    boxes = [task.gather.box(box) if task.gather else box for box in groups]
    summaries = [(box, part.summaries) for box, part in zip(boxes, parts, strict=True) if part.summaries is not None]
    joined = with_everything(join_groups(summaries, task.gather.feature_shape)) if task.gather else None
    return Written(sum(part.blocks for part in parts), joined)


def _merge(parts: Sequence[Written]) -> Written:
    summaries = [part.summaries for part in parts if part.summaries is not None]
    return Written(sum(part.blocks for part in parts), merge_groups(summaries) if summaries else None)
