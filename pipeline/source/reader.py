"""Blocks of one array, decoded: by compiled code where the store and the codecs allow it, else by Zarr itself.

Not here: which blocks are read (`block.py`), and what the array is (`zarr_source.py`).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.storage import LocalStore, StorePath
from zarrs import ZarrsCodecPipeline
from zarrs._internal import CodecPipelineImpl

from pipeline.block import Block, is_aligned, overlapping
from pipeline.errors import ChunkError
from pipeline.source.chunk_store import ChunkStore, MissingChunkError
from pipeline.source.chunks import ChunkGrid, ZarrArray, stores_blosc_frames
from pipeline.source.store import store_name

MissingChunks: TypeAlias = Literal["error", "fill"]
FILL_REMEDY = (
    "set `source.missing_chunks: fill` where the writer leaves out chunks that hold only the fill value; otherwise restore them"
)
CORRUPT_REMEDY = "restore the chunk from a copy of the store, or write it anew"

COMPILED_KINDS = "biuf"


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

    def read(self, block: Block) -> NDArray[Any]:
        """The values of `block` in native byte order.

        Raises
        ------
        ChunkError
            Naming the store, the array and the chunk that cannot be read or decoded.
        """
        try:
            values = self._read(block) if self.compiled is None else self._read_compiled(self.compiled, block)
        except (Exception, BaseExceptionGroup) as error:
            raise self._chunk_error(block, error) from error
        return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))

    @cached_property
    def compiled(self) -> ZarrArray | None:
        """The array read by compiled code; None where that knows the store, a codec or the dtype not.

        Of a small chunk it takes a third of the time that Zarr itself takes, and of a large one four fifths.
        """
        return compiled_array(self.array, self.store)

    def _read_compiled(self, array: ZarrArray, block: Block) -> NDArray[Any]:
        values = np.asarray(array[block.slices])
        if self.missing_chunks == "error":
            self._require_files(block)
        return values

    def _require_files(self, block: Block) -> None:
        """Raise MissingChunkError for the first stored object of `block` that is not there now; compiled code fills in."""
        root = store_name(self.store)
        for key in ChunkGrid(self.array).keys(block):
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


def compiled_array(array: ZarrArray, store: Store, config: Any = None) -> ZarrArray | None:
    """`array` read and written in `store` by compiled code, in the thread that asks; None where that code does not know the
    kind of store, a codec or the dtype.

    It fills in what is missing, and replaces an object in place.
    """
    metadata: Any = array.metadata
    known = type(store) is LocalStore and array.dtype.kind in COMPILED_KINDS and array.dtype.isnative
    if not known or getattr(metadata, "order", "C") != "C":  # Zarr gives it room in the order of the chunks, and it wants C
        return None
    try:
        # One thread for a block: the tasks of an executor are what runs side by side.
        codecs = CodecPipelineImpl(
            json.dumps(metadata.to_dict()), store, validate_checksums=True, chunk_concurrent_maximum=1, num_threads=1
        )
    except TypeError:
        return None
    through: Any = zarr.AsyncArray(metadata, StorePath(store, array.path), config)
    # Zarr would choose codecs by a configuration that every thread of the process shares.
    object.__setattr__(through, "codec_pipeline", ZarrsCodecPipeline(metadata, store, codecs, python_impl=None))
    return zarr.Array(through)


def _array_through(array: ZarrArray, store: Store) -> ZarrArray:
    """`array`, its chunks fetched through `store`."""
    metadata: Any = array.metadata
    return zarr.Array(zarr.AsyncArray(metadata, StorePath(store, array.path)))
