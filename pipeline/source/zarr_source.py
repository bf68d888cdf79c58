"""One array of a Zarr store, read block by block.

Not here: finding the array and settling its dims (`open.py`), and labels (`coordinates.py`).
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.errors import UnstableSpecificationWarning

from pipeline.block import Block
from pipeline.errors import ChunkError, SourceError
from pipeline.room import Room
from pipeline.source.chunks import ChunkGrid, ZarrArray
from pipeline.source.coordinates import Coordinates
from pipeline.source.hierarchy import join_path, read_document
from pipeline.source.reader import FILL_REMEDY, BlockReader, MissingChunks
from pipeline.source.store import get_bytes, open_store, store_name

LOCAL_BLOCK_BYTES = 32 * 2**20


@dataclass(frozen=True)
class ZarrSource:
    """An array of real numbers in a Zarr store of format 2 or 3, sharded or not. `open_source` makes one.

    Pickles as these fields alone and opens its store where it is used. Values are as they are stored: attributes
    such as `scale_factor` are not applied.

    Parameters
    ----------
    store : str or zarr.abc.store.Store
        An address, or a store that is open already.
    array : str
        Path of the array from the root of the store.
    dims : tuple of str
    sample_dim : str
        The dim along which there are more and more observations.
    missing_chunks : {'error', 'fill'}
        Whether a chunk that is not in the store is an error or holds the fill value. What counts is the stored object: chunks
        that a shard's own index leaves out hold the fill value in either case.
    """

    store: str | Store
    array: str
    dims: tuple[str, ...]
    sample_dim: str
    missing_chunks: MissingChunks = "error"

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def opened_store(self) -> Store:
        """The store, opened in this process."""
        return open_store(self.store, "r")

    @cached_property
    def zarr_array(self) -> ZarrArray:
        """The array, opened in this process."""
        return open_array(self.opened_store, self.array)

    @cached_property
    def _reader(self) -> BlockReader:
        return BlockReader(self.zarr_array, self.opened_store, self.missing_chunks)

    @property
    def name(self) -> str:
        """The store and the array, for messages."""
        return f"{store_name(self.store)}:{self.array}" if self.array else store_name(self.store)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.zarr_array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.zarr_array.dtype).newbyteorder("=")

    @property
    def grid(self) -> ChunkGrid:
        """How the array is stored."""
        return ChunkGrid(self.zarr_array)

    @property
    def read_unit(self) -> tuple[int, ...]:
        return self.grid.unit

    def labels(self, dim: str) -> NDArray[Any] | None:
        """The strings, integers or floats of the one-dimensional array named like `dim` beside the array.

        Without one, of `X` and the `layers` of an AnnData: the names of its observations and variables.

        Returns
        -------
        ndarray of str, int or float, shape (size of the dim,), or None
            None also where that array holds something else, such as dates.
        """
        return self._coordinates.labels(dim)

    def coordinate(self, name: str) -> tuple[str, NDArray[Any]]:
        """The dim and the values of the one-dimensional array `name` beside the array or a group that it is in.

        In an AnnData it may be a column of `obs`; a categorical one has the values of its categories, and None where it has
        none. The dim is the one that the coordinate names; where it names none, the sample dim if it has as many values, else
        the first dim that has.

        Raises
        ------
        SourceError
            Where there is none, or it fits no dim.
        """
        return self._coordinates.read(name)

    @property
    def _coordinates(self) -> Coordinates:
        opened = partial(open_array, self.opened_store)
        return Coordinates(self.opened_store, self.zarr_array, self.dims, self.sample_dim, opened, self._read_coordinate)

    def _read_coordinate(self, array: ZarrArray, absent: bool) -> NDArray[Any]:
        """All of an array beside this one; `absent` says that a chunk of it which is not there is no loss."""
        reader = BlockReader(array, self.opened_store, "fill" if absent else self.missing_chunks)
        return reader.read(Block((0,) * array.ndim, array.shape))

    @cached_property
    def _missing(self) -> tuple[int, str | None]:
        """How many stored objects are missing, and the key of the first: one listing, which of a million files takes long."""
        return self.grid.missing(self.opened_store)

    def check(self) -> None:
        """Compare the stored keys with those that the array's shape asks for; one listing, no chunk is read.

        Raises
        ------
        ChunkError
            Where a chunk is missing and `missing_chunks` is `error`.
        """
        if self.missing_chunks == "fill":
            return
        missing, first = self._missing
        if missing:
            raise ChunkError(
                f"{missing} of {self.grid.size} stored chunks are missing",
                where=self.name,
                found=f"no {first}" + (f" and {missing - 1} more" if missing > 1 else ""),
                expected="a stored object for every chunk (or shard)",
                remedy=FILL_REMEDY,
            )

    @property
    def block_bytes(self) -> int | None:
        """What compiled code reads at a time; None where Zarr itself reads, which takes long for each block."""
        return None if self._reader.compiled is None else LOCAL_BLOCK_BYTES

    def read(self, block: Block, room: Room | None = None) -> NDArray[Any]:
        """The values of `block`, in native byte order; in `room` where that is given and compiled code reads them.

        With `missing_chunks: error` a chunk that was lost since `check` is noticed here as well.

        Raises
        ------
        ChunkError
            Naming the store, the array and the chunk that cannot be read or decoded.
        """
        return self._reader.read(block, room)

    def provenance(self) -> dict[str, Any]:
        """Where the values come from, as JSON types.

        `fingerprint` is the SHA-256 of the array's metadata documents and of the number of stored chunks. It costs one
        listing, unless `check` has made it, and tells another array or a changed layout, not changed values.
        """
        array = self.zarr_array
        return {
            "kind": "zarr",
            "store": store_name(self.store),
            "array": self.array,
            "dims": list(self.dims),
            "shape": list(self.shape),
            "dtype": self.dtype.name,
            "chunks": list(array.chunks),
            "shards": None if array.shards is None else list(array.shards),
            "zarr_format": array.metadata.zarr_format,
            "codecs": list(codec_names(self.opened_store, self.array)),
            "fingerprint": self._fingerprint(),
        }

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for name in ("zarr.json", ".zarray", ".zattrs"):
            digest.update(get_bytes(self.opened_store, join_path(self.array, name)) or b"")
            digest.update(b"\0")
        digest.update(str(self.grid.size - self._missing[0]).encode())
        return digest.hexdigest()


def open_array(store: Store, path: str) -> ZarrArray:
    """The array at `path`, for reading.

    Raises
    ------
    SourceError
        Where Zarr cannot open it.
    """
    try:
        with warnings.catch_warnings():
            # Fixed-width strings of format 3 read well; whether every program reads them is the writer's concern.
            warnings.simplefilter("ignore", UnstableSpecificationWarning)
            return zarr.open_array(store, path=path, mode="r")
    except Exception as error:
        raise SourceError(
            "the array cannot be opened", where=f"{store_name(store)}:{path}", found=f"{type(error).__name__}: {error}"
        ) from error


def codec_names(store: Store, path: str) -> Iterator[str]:
    """Names of an array's codecs in the order of encoding, those inside shards after the sharding."""
    document = read_document(store, join_path(path, "zarr.json"))
    if document is not None:
        yield from _codec_names(document["codecs"])
        return
    document = read_document(store, join_path(path, ".zarray")) or {}
    for codec in (*(document.get("filters") or ()), document.get("compressor")):
        if codec is not None:
            yield str(codec["id"])


def _codec_names(codecs: list[Any]) -> Iterator[str]:
    for codec in codecs:
        if isinstance(codec, str):
            yield codec
            continue
        yield str(codec["name"])
        yield from _codec_names((codec.get("configuration") or {}).get("codecs", []))
