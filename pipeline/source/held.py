"""A source whose blocks are in memory already, wherever an executor keeps them: its store is not read again.

Not here: how blocks come into memory (`executor.py`, `cluster/`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.block import Block, Tiling, overlapping
from pipeline.room import Room
from pipeline.source.source import Source


@dataclass(frozen=True, eq=False)
class HeldSource:
    """`source`, read.

    Parameters
    ----------
    source : Source
    step : tuple of int
        The boxes that are held tile its shape by this step.
    held : mapping of Block to object
        The values of every such box, or what stands for them where they are in other processes.

    Examples
    --------
    >>> from pipeline.source.memory import MemorySource
    >>> source = MemorySource(np.arange(6), ("sample",))
    >>> held = HeldSource(source, (4,), {block: source.read(block) for block in Tiling.regular((6,), (4,))})
    >>> held.read(Block((3,), (6,)))
    array([3, 4, 5])
    """

    source: Source
    step: tuple[int, ...]
    held: Mapping[Block, Any]

    def __getstate__(self) -> dict[str, Any]:
        """Without the values: on a worker they come as dependencies of the task, never through `read`."""
        return {**self.__dict__, "held": {}}

    @property
    def dims(self) -> tuple[str, ...]:
        return self.source.dims

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.source.dtype

    @property
    def sample_dim(self) -> str:
        return self.source.sample_dim

    @property
    def read_unit(self) -> tuple[int, ...]:
        return self.source.read_unit

    @property
    def block_bytes(self) -> None:
        """Nothing is decoded any more."""

    def labels(self, dim: str) -> NDArray[Any] | None:
        """Those of the source."""
        return self.source.labels(dim)

    def coordinate(self, name: str) -> tuple[str, NDArray[Any]]:
        """That of the source."""
        return self.source.coordinate(name)

    def provenance(self) -> dict[str, Any]:
        """That of the source."""
        return self.source.provenance()

    def check(self) -> None:
        """Nothing can be missing any more."""

    def blocks(self, whole: frozenset[int]) -> Tiling:
        """The boxes that are held, joined along the axes `whole`."""
        step = tuple(max(1, size) if axis in whole else self.step[axis] for axis, size in enumerate(self.shape))
        return Tiling.regular(self.shape, step)

    def boxes(self, block: Block) -> list[Block]:
        """The boxes that `block` touches."""
        return [self._box_around(part) for part in overlapping(block, self.step)]

    def parts(self, block: Block) -> list[Any]:
        """What is held of the boxes that `block` touches."""
        return [self.held[box] for box in self.boxes(block)]

    def read(self, block: Block, room: Room | None = None) -> NDArray[Any]:
        """The values of `block`, of boxes that are held in this process; not to be changed."""
        return assemble(block, list(zip(self.boxes(block), self.parts(block), strict=True)))

    def _box_around(self, part: Block) -> Block:
        start = tuple(first // width * width for first, width in zip(part.start, self.step, strict=True))
        stop = tuple(min(first + width, size) for first, width, size in zip(start, self.step, self.shape, strict=True))
        return Block(start, stop)


def assemble(block: Block, parts: Sequence[tuple[Block, NDArray[Any]]]) -> NDArray[Any]:
    """The values of `block` from those of boxes that together cover it; a view of a box that covers it alone."""
    if len(parts) == 1:
        ((box, values),) = parts
        return values[_inside(block, box)]
    assembled = np.empty(block.shape, parts[0][1].dtype)
    for box, values in parts:
        shared = Block(
            tuple(max(first, other) for first, other in zip(block.start, box.start, strict=True)),
            tuple(min(last, other) for last, other in zip(block.stop, box.stop, strict=True)),
        )
        assembled[_inside(shared, block)] = values[_inside(shared, box)]
    return assembled


def _inside(block: Block, box: Block) -> tuple[slice, ...]:
    """The indices of `block` counted from the start of `box`."""
    return block.shifted(-first for first in box.start).slices
