"""How an array is stored: its units of storage, their keys, and which of them are there.

Not here: decoding a chunk.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, product
from typing import Any, TypeAlias

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.codecs import BloscCodec
from zarr.core.metadata import ArrayV2Metadata

from pipeline.block import Block, tile_count
from pipeline.source.hierarchy import join_path
from pipeline.source.store import KEYS_AT_ONCE, list_branches, list_keys

ZarrArray: TypeAlias = zarr.Array[Any]


@dataclass(frozen=True)
class ChunkGrid:
    """The stored objects of one array, shards where there are shards and chunks otherwise.

    Parameters
    ----------
    array : zarr.Array
        With at least one dim and a regular grid.
    """

    array: ZarrArray

    @cached_property
    def unit(self) -> tuple[int, ...]:
        """The shape of what one key stores."""
        return stored_unit(self.array)

    @property
    def shape(self) -> tuple[int, ...]:
        """How many stored objects there are along each dim."""
        return tuple(-(-size // width) for size, width in zip(self.array.shape, self.unit, strict=True))

    @property
    def size(self) -> int:
        return tile_count(self.array.shape, self.unit)

    def key(self, position: tuple[int, ...]) -> str:
        """The key, from the root of the store on, of the object at `position` in the grid."""
        return join_path(self.array.path, self.array.metadata.encode_chunk_key(position))

    def key_at(self, block: Block) -> str:
        """The key of the object that holds the first element of `block`."""
        return self.key(tuple(start // width for start, width in zip(block.start, self.unit, strict=True)))

    def keys(self, block: Block) -> Iterator[str]:
        """The keys of the objects that `block` touches, in C order."""
        spans = zip(block.start, block.stop, self.unit, strict=True)
        touched = (range(start // width, -(-stop // width)) for start, stop, width in spans)
        encode, path = self.array.metadata.encode_chunk_key, self.array.path
        return (join_path(path, encode(position)) for position in product(*touched))

    def present(self, store: Store) -> NDArray[np.bool_]:
        """Which objects are in the store, in C order: one listing of keys, no chunk is read.

        Returns
        -------
        ndarray of bool, shape (size,)
        """
        present = np.zeros(self.size, dtype=bool)
        if present.size:
            prefix = f"{self.array.path}/" if self.array.path else ""
            relative = (key[len(prefix) :] for key in self._keys(store))
            for positions in self._positions(relative):
                inside = (positions < np.array(self.shape)).all(axis=1)
                present[np.ravel_multi_index(tuple(positions[inside].T), self.shape)] = True
        return present

    def missing(self, store: Store) -> tuple[int, str | None]:
        """How many objects are not in the store, and the key of the first of them."""
        present = self.present(store)
        count = int(present.size - np.count_nonzero(present))
        if not count:
            return 0, None
        first = np.unravel_index(int(np.argmin(present)), self.shape)
        return count, self.key(tuple(int(index) for index in first))

    def _keys(self, store: Store) -> Iterator[str]:
        """The keys of the array's objects that are in the store, and others."""
        head, separator = _key_encoding(self.array)
        varying = [axis for axis, size in enumerate(self.shape) if size > 1]
        depth = varying[-1] + 1 if varying else self.array.ndim
        if separator != "/" or depth == self.array.ndim:
            return list_keys(store, self.array.path)
        prefix = join_path(self.array.path, "c") if head else self.array.path
        return list_branches(store, prefix, depth, separator.join("0" * (self.array.ndim - depth)))

    def _positions(self, keys: Iterable[str]) -> Iterator[NDArray[np.int64]]:
        """Positions in the grid that `keys` stand for, some at a time; keys of anything else are passed over."""
        head, separator = _key_encoding(self.array)
        index = r"(?:0|[1-9][0-9]{0,17})"
        pattern = re.compile(f"^{re.escape(head)}({re.escape(separator).join([index] * self.array.ndim)})$", re.MULTILINE)
        iterator = iter(keys)
        while some := list(islice(iterator, KEYS_AT_ONCE)):
            found = pattern.findall("\n".join(some))
            numbers = ",".join(found).replace(separator, ",")
            yield np.array(numbers.split(",") if numbers else [], dtype=np.int64).reshape(-1, self.array.ndim)


def stored_unit(array: ZarrArray) -> tuple[int, ...]:
    """The shape of what is stored under one key: a shard where there are shards, else a chunk."""
    return tuple(max(1, width) for width in array.shards or array.chunks)


def stores_blosc_frames(array: ZarrArray) -> bool:
    """Whether each stored object is what Blosc made, which cannot tell by itself that it was cut short."""
    last: Any = array.compressors[-1] if array.compressors else None
    return array.shards is None and (isinstance(last, BloscCodec) or getattr(last, "codec_id", None) == "blosc")


def chunk_key_encoding(array: ZarrArray) -> dict[str, Any]:
    """How chunk keys are spelled, as `zarr.create_array` takes it."""
    metadata = array.metadata
    if isinstance(metadata, ArrayV2Metadata):
        return {"name": "v2", "separator": metadata.dimension_separator}
    encoding: Any = metadata.chunk_key_encoding
    return {"name": encoding.name, "separator": encoding.separator}


def _key_encoding(array: ZarrArray) -> tuple[str, str]:
    """What a chunk key begins with, and what is between its numbers."""
    encoding = chunk_key_encoding(array)
    separator = encoding["separator"]
    return ("c" + separator if encoding["name"] == "default" else ""), separator
