"""A Dask array as a source, its chunks as the blocks. Not here: Dask itself; the array brings what is called."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.block import Block, Tiling
from pipeline.errors import SourceError
from pipeline.room import Room
from pipeline.source.array_source import ArraySource


@dataclass(frozen=True, eq=False)
class LazySource(ArraySource):
    """A Dask array with named dims and coordinates; see `ArraySource` for the parameters. Its chunk sizes are known."""

    kind: ClassVar[str] = "dask"

    def __post_init__(self) -> None:
        if any(np.isnan(size) for size in self.values.shape):
            raise SourceError(
                "the Dask array has unknown chunk sizes",
                found=str(self.values.shape),
                expected="known sizes",
                remedy="call compute_chunk_sizes() on it first",
            )
        super().__post_init__()

    def __getstate__(self) -> dict[str, Any]:
        """Without the graph: on a worker the values come as a dependency of the task, never through `read`."""
        return {**self.__dict__, "values": None}

    @property
    def lazy(self) -> Any:
        """The Dask array."""
        return self.values

    @property
    def read_unit(self) -> tuple[int, ...]:
        return tuple(max((1, *sizes)) for sizes in self.lazy.chunks)

    @property
    def stored_chunks(self) -> list[int] | None:
        return list(self.read_unit)

    def blocks(self, whole: frozenset[int]) -> Tiling:
        """The array's chunks as boxes, joined along the axes `whole`; those that hold nothing are left out."""
        stops = tuple(
            tuple(accumulate(filter(None, (size,) if axis in whole else sizes)))
            for axis, (sizes, size) in enumerate(zip(self.lazy.chunks, self.shape, strict=True))
        )
        return Tiling(tuple((0, *each[:-1]) if each else () for each in stops), stops, self.shape)

    def read(self, block: Block, room: Room | None = None) -> NDArray[Any]:
        return np.asarray(self.lazy[block.slices].compute(scheduler="synchronous"))
