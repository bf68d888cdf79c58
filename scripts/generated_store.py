"""A Zarr store of any size that takes no room: the chunks of its one array are all the same bytes, made when asked for."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable
from itertools import product
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import MemoryStore

METADATA = "zarr.json"


class GeneratedStore(Store):
    """A read-only store of format 3 with an array at its root, every chunk of which is there.

    Parameters
    ----------
    shape, chunks : tuple of int
    dtype : str
    dims : tuple of str
    """

    def __init__(self, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str, dims: tuple[str, ...]) -> None:
        super().__init__(read_only=True)
        self._options: dict[str, Any] = {"shape": shape, "chunks": chunks, "dtype": dtype, "dimension_names": dims}
        self._grid = tuple(-(-size // width) for size, width in zip(shape, chunks, strict=True))
        store = MemoryStore()
        zarr.create_array(store, **self._options)
        self._document = _stored(store, METADATA)
        one = zarr.create_array(store, overwrite=True, **{**self._options, "shape": chunks})
        one[...] = np.random.default_rng(0).integers(1, 100, chunks)
        self._chunk = _stored(store, "/".join(["c", *("0" for _ in chunks)]))

    def __getstate__(self) -> tuple[Any, ...]:
        return tuple(self._options.values())

    def __setstate__(self, options: tuple[Any, ...]) -> None:
        self.__init__(*options)  # type: ignore[misc]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GeneratedStore) and self._options == other._options

    def __hash__(self) -> int:
        return hash(tuple(self._options.values()))

    def __str__(self) -> str:
        return f"generated://{math.prod(self._grid)}-chunks"

    @property
    def supports_writes(self) -> bool:
        return False

    @property
    def supports_deletes(self) -> bool:
        return False

    @property
    def supports_listing(self) -> bool:
        return True

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        if byte_range is not None:
            raise NotImplementedError("parts of a chunk")
        content = self._document if key == METADATA else self._chunk if self._holds(key) else None
        return None if content is None else prototype.buffer.from_bytes(content)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def exists(self, key: str) -> bool:
        return key == METADATA or self._holds(key)

    async def set(self, key: str, value: Buffer) -> None:
        raise NotImplementedError("this store is read-only")

    async def delete(self, key: str) -> None:
        raise NotImplementedError("this store is read-only")

    async def list(self) -> AsyncIterator[str]:
        yield METADATA
        first, *others = self._grid
        for place in range(first):
            for position in product(*(map(str, range(size)) for size in others)):
                yield "/".join(("c", str(place), *position))

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        async for key in self.list():
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        if not prefix.strip("/"):
            yield METADATA
            yield "c"

    def _holds(self, key: str) -> bool:
        head, *position = key.split("/")
        inside = zip(position, self._grid, strict=False)
        return head == "c" and len(position) == len(self._grid) and all(int(place) < size for place, size in inside)


def _stored(store: MemoryStore, key: str) -> bytes:
    buffer = sync(store.get(key, default_buffer_prototype()))
    if buffer is None:
        raise KeyError(key)
    return buffer.to_bytes()
