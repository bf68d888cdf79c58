"""Blocks of one array, decoded: by compiled code where the store and the codecs allow it, else by Zarr itself.

Not here: which blocks are read (`block.py`), and what the array is (`zarr_source.py`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.storage import StorePath

from pipeline.block import Block, is_aligned, overlapping
from pipeline.errors import ChunkError
from pipeline.room import Room
from pipeline.source.chunk_store import ChunkStore, MissingChunkError
from pipeline.source.chunks import ChunkGrid, ZarrArray, stores_blosc_frames
from pipeline.source.compiled import CompiledChunks, compiled_chunks
from pipeline.source.store import store_name

MissingChunks: TypeAlias = Literal["error", "fill"]
FILL_REMEDY = (
    "set `source.missing_chunks: fill` where the writer leaves out chunks that hold only the fill value; otherwise restore them"
)
CORRUPT_REMEDY = "restore the chunk from a copy of the store, or write it anew"


@dataclass(frozen=True)
class BlockReader:
    """Reads blocks of `array`, which is in `store`.

    Parameters
    ----------
    array : zarr.Array
    store : zarr.abc.store.Store
    missing_chunks : {'error', 'fill'}
        Whether a stored object that is not there is an error or holds the fill value.
    """

    array: ZarrArray
    store: Store
    missing_chunks: MissingChunks = "error"

    def read(self, block: Block, room: Room | None = None) -> NDArray[Any]:
        """The values of `block` in native byte order, in `room` where that is given and compiled code reads them.

        Raises
        ------
        ChunkError
            Naming the store, the array and the chunk that cannot be read or decoded.
        """
        try:
            values = self._read(block) if self.compiled is None else self._read_compiled(self.compiled, block, room)
        except (Exception, BaseExceptionGroup) as error:
            raise self._chunk_error(block, error) from error
        return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))

    @cached_property
    def compiled(self) -> CompiledChunks | None:
        """The chunks for compiled code; None where that knows the store, a codec or the dtype not.

        Of a small chunk it takes a third of the time that Zarr itself takes, and of a large one four fifths.
        """
        return compiled_chunks(self.array, self.store)

    def _read_compiled(self, chunks: CompiledChunks, block: Block, room: Room | None) -> NDArray[Any]:
        values = chunks.read(block, room)
        if self.missing_chunks == "error":
            self._require_files(chunks.grid, block)
        return values

    def _require_files(self, grid: ChunkGrid, block: Block) -> None:
        """Raise MissingChunkError for the first stored object of `block` that is not there now; compiled code fills in."""
        root = store_name(self.store)
        for key in grid.keys(block):
            if not os.path.exists(f"{root}/{key}"):
                raise MissingChunkError(key)

    def _read(self, block: Block) -> NDArray[Any]:
        array, strict = self.array, self.missing_chunks == "error"
        whole = array.shards is not None and is_aligned(block, array.shards, array.shape)
        chunks = ChunkStore(self.store, strict, whole, stores_blosc_frames(array))
        return np.asarray(_array_through(array, chunks)[block.slices])

    def _chunk_error(self, block: Block, cause: BaseException) -> ChunkError:
        """The error for the first chunk of `block` that fails by itself, which costs a read of each until then."""
        grid = ChunkGrid(self.array)
        name = f"{store_name(self.store)}:{self.array.path}"
        for part in overlapping(block, grid.unit):
            try:
                self._read(part)
            except MissingChunkError:
                return ChunkError("a stored chunk is missing", where=f"{name}, chunk {grid.key_at(part)}", remedy=FILL_REMEDY)
            except (Exception, BaseExceptionGroup) as error:
                return ChunkError(
                    "a stored chunk cannot be read",
                    where=f"{name}, chunk {grid.key_at(part)}",
                    found=f"{type(error).__name__}: {error}",
                    expected=f"{part.size} values of {self.array.dtype}",
                    remedy=CORRUPT_REMEDY,
                )
        return ChunkError(
            "a block cannot be read, though each of its chunks can",
            where=f"{name}{block}",
            found=f"{type(cause).__name__}: {cause}",
            remedy="try again; if memory is short, lower block_bytes",
        )


def _array_through(array: ZarrArray, store: Store) -> ZarrArray:
    """`array`, its chunks fetched through `store`."""
    metadata: Any = array.metadata
    return zarr.Array(zarr.AsyncArray(metadata, StorePath(store, array.path)))
