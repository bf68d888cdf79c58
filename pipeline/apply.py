"""The writing pass: read a block, normalize it, write it to the output.

Not here: the normalization (`normalize/chain.py`), the output's layout (`sink/`), and what carries the pass out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from pipeline.block import Block, Tiling, group_by_axes
from pipeline.executor import Advance, Executor
from pipeline.gather import Gather, Grouped, join_groups, merge_groups, with_everything
from pipeline.normalize.chain import FittedChain
from pipeline.normalize.grouped import GroupedChain
from pipeline.room import Room
from pipeline.sink.sink import Sink
from pipeline.source.source import Source


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

    def __call__(self, block: Block, values: NDArray[Any], room: Room) -> Grouped | None:
        part = dict(zip(self.source.dims, block.slices, strict=True))
        normalized = self.chain.select(part)(values, self.source.dims, room)
        self.sink.write(self._written(block), normalized)
        return self.gather(block, values, room) if self.gather else None

    def _written(self, block: Block) -> Block:
        """The block of the output: along a dim of which the output has a part, or nothing, `block` holds everything."""
        starts = dict(zip(self.source.dims, block.start, strict=True))
        stops = self.chain.output_sizes(dict(zip(self.source.dims, block.stop, strict=True)))
        return Block(tuple(starts.get(dim, 0) for dim in stops), tuple(stops.values()))


def write_blocks(task: Write, blocks: Tiling, executor: Executor, advance: Advance) -> Grouped | None:
    """Write every block; what was gathered on the way, None where nothing was to be.

    Raises
    ------
    ChunkError, DataError, WriteError
        The first that any block met; the output then stays one that does not open.
    """
    gathering = task.gather
    groups = group_by_axes(blocks, gathering.feature_axes if gathering else ())
    parts = executor.map_merge(task, _merge, list(groups.values()), advance) if groups else []
    if gathering is None or not parts:
        return None
    found = [(gathering.box(box), part) for box, part in zip(groups, parts, strict=True) if part is not None]
    return with_everything(join_groups(found, gathering.feature_shape))


def _merge(parts: Sequence[Grouped | None]) -> Grouped | None:
    found = [part for part in parts if part is not None]
    return merge_groups(found) if found else None
