"""The chunks of an array in a local store, decoded and encoded by compiled code in the thread that asks.

Not here: what is done where that code does not know a store or a codec (`reader.py`, `zarr_sink.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.storage import LocalStore
from zarrs._internal import ChunkItem, CodecPipelineImpl

from pipeline.block import Block, overlapping
from pipeline.room import Room, array_in
from pipeline.source.chunks import ChunkGrid, ZarrArray

COMPILED_KINDS = "biuf"
LARGE_BYTES = 2**18


@dataclass(frozen=True)
class CompiledChunks:
    """What `grid` stores, through `codecs`. `compiled_chunks` makes one.

    It fills in what is missing, replaces an object in place, and leaves out one that holds only the fill value.
    """

    grid: ChunkGrid
    codecs: CodecPipelineImpl

    def read(self, block: Block, room: Room | None) -> NDArray[Any]:
        """The values of `block`, in `room` where that is given: every chunk is decoded into its place."""
        values = array_in(room, block.shape, self.grid.array.dtype)
        for items in self._calls(block) if values.size else ():
            self.codecs.retrieve_chunks_and_apply_index(items, values)
        return values

    def write(self, block: Block, values: NDArray[Any]) -> None:
        """Store `values`, of the array's dtype, as those of `block`; what it holds of an object is merged with the rest."""
        values = np.ascontiguousarray(values)
        for items in self._calls(block):
            self.codecs.store_chunks_with_indices(items, values, True)

    def _calls(self, block: Block) -> Iterator[list[ChunkItem]]:
        """The items of `block`, those that compiled code is told of in one call together."""
        items = self._items(block)
        # It does several on threads of its own, which have to be woken: that pays for small ones only.
        large = prod(self.grid.unit) * self.grid.array.dtype.itemsize >= LARGE_BYTES
        yield from ([item] for item in items) if large else [list(items)]

    def _items(self, block: Block) -> Iterator[ChunkItem]:
        """What compiled code is told of each stored object that `block` touches: the part of it, and where that belongs."""
        unit = self.grid.unit
        for part in overlapping(block, unit):
            corner = tuple(-(start // width * width) for start, width in zip(part.start, unit, strict=True))
            inside, place = part.shifted(corner), part.shifted(-start for start in block.start)
            yield ChunkItem(self.grid.key_at(part), inside.slices, unit, place.slices, block.shape)


def compiled_chunks(array: ZarrArray, store: Store) -> CompiledChunks | None:
    """The chunks of `array` in `store`; None where compiled code does not know the kind of store, a codec or the dtype."""
    if type(store) is not LocalStore or array.dtype.kind not in COMPILED_KINDS or not array.dtype.isnative:
        return None
    try:
        # One thread for a block: the tasks of an executor are what runs side by side.
        codecs = CodecPipelineImpl(
            json.dumps(array.metadata.to_dict()), store, validate_checksums=True, chunk_concurrent_maximum=1, num_threads=1
        )
    except TypeError:
        return None
    return CompiledChunks(ChunkGrid(array), codecs)
