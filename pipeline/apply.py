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
from pipeline.gather import Gather, join_summaries, merge_summaries
from pipeline.normalize.chain import FittedChain
from pipeline.sink.sink import Sink
from pipeline.source.source import Source
from pipeline.statistics.summary import Summary


@dataclass(frozen=True)
class Written:
    """What a part of the writing pass did.

    Parameters
    ----------
    blocks : int
        How many were written.
    summary : Summary, optional
        That of their values, where the pass was asked to gather one on the way.
    """

    blocks: int
    summary: Summary | None = None


@dataclass(frozen=True)
class Write:
    """What the writing pass does with a block.

    Parameters
    ----------
    source : Source
    chain : FittedChain
        Its dims are those of `source`, in any order.
    sink : Sink
    gather : Gather, optional
        Statistics to gather in the same read.
    """

    source: Source
    chain: FittedChain
    sink: Sink
    gather: Gather | None = None

    def __call__(self, block: Block, values: NDArray[Any]) -> Written:
        part = dict(zip(self.source.dims, block.slices, strict=True))
        self.sink.write(block, self.chain.select(part)(values, self.source.dims))
        return Written(1, self.gather(block, values) if self.gather else None)


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
    summaries = [(box, part.summary) for box, part in zip(groups, parts, strict=True) if part.summary is not None]
    joined = join_summaries(summaries, task.gather.feature_shape) if task.gather else None
    return Written(sum(part.blocks for part in parts), joined)


def _merge(parts: Sequence[Written]) -> Written:
    summaries = [part.summary for part in parts if part.summary is not None]
    return Written(sum(part.blocks for part in parts), merge_summaries(summaries) if summaries else None)
