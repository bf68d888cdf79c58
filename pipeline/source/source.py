"""What every source is: one array with named dims and labels, read block by block.

Not here: any particular source, and what is done with the values.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.block import Block
from pipeline.room import Room


class Source(Protocol):
    """One array of a store.

    Picklable and small: a source travels to a worker as a description and opens its store there.
    """

    @property
    def dims(self) -> tuple[str, ...]: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def sample_dim(self) -> str:
        """The dim along which there are more and more observations."""
        ...

    @property
    def read_unit(self) -> tuple[int, ...]:
        """The shape that is fetched and decoded as one: a shard where there are shards, else a chunk."""
        ...

    def labels(self, dim: str) -> NDArray[Any] | None:
        """The coordinate named like `dim` itself (gene names, channel names), None where the store has none."""
        ...

    def coordinate(self, name: str) -> tuple[str, NDArray[Any]]:
        """(dim, values) of the one-dimensional array `name` beside the array; SourceError where there is none."""
        ...

    def check(self) -> None:
        """Raise ChunkError where a stored chunk is missing and that is not allowed; reads keys, no chunk."""
        ...

    @property
    def block_bytes(self) -> int | None:
        """Decoded bytes of the blocks that are read fastest; None where that are the largest ones that there is memory for."""
        ...

    def read(self, block: Block, room: Room | None = None) -> NDArray[Any]:
        """The values of `block`, decoded, in the array's dtype; raises ChunkError naming store, array and chunk.

        Where a `room` is given they may lie in it, until it is used for something else.
        """
        ...

    def provenance(self) -> dict[str, Any]:
        """Where the data came from, for a manifest: store, array, shape, dtype, chunks, fingerprint. JSON types."""
        ...
