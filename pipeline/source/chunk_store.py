"""What stands between a store and one read of chunks: it refuses missing ones and fetches each stored object once.

Not here: which chunks are read (`zarr_source.py`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Self

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import WrapperStore

BLOSC_HEADER_BYTES = 16


class MissingChunkError(Exception):
    """A chunk that was asked for is not in the store; never leaves this package."""


class TruncatedChunkError(Exception):
    """A stored object is shorter or longer than it says itself; never leaves this package."""


class ChunkStore(WrapperStore[Store]):
    """A store through which only chunks are read.

    What is looked at here costs no request, only a look at the answer. An empty object is always an error: Zarr takes it
    for an absent shard.

    Parameters
    ----------
    store : zarr.abc.store.Store
    strict : bool
        Raise MissingChunkError for a chunk that is not there, at the moment of reading, instead of letting Zarr fill in.
    whole : bool
        Whether everything in a stored object is wanted. Zarr asks for the index and then for each inner chunk of a shard that
        the array's edge cuts; here the shard is fetched whole, once, and kept until this store is dropped.
    blosc : bool
        Whether every stored object is a Blosc frame. Blosc decodes a frame without knowing where it ends, so it gives
        whatever is in memory behind one that was cut short; the length in its header is compared here.
    """

    def __init__(self, store: Store, strict: bool = True, whole: bool = False, blosc: bool = False) -> None:
        super().__init__(store)
        self._strict = strict
        self._whole = whole
        self._blosc = blosc
        self._kept: dict[str, Buffer | None] = {}

    def _with_store(self, store: Store) -> Self:
        return type(self)(store, self._strict, self._whole, self._blosc)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        if byte_range is None:
            return self._checked(key, await self._store.get(key, prototype, None))
        if not self._whole:
            return self._present(key, await self._store.get(key, prototype, byte_range))
        if key not in self._kept:
            self._kept[key] = self._checked(key, await self._store.get(key, prototype, None))
        kept = self._kept[key]
        return None if kept is None else _part(kept, byte_range)

    @property
    def _supports_sync_io(self) -> bool:
        """No: a codec pipeline that would read synchronously asks here and uses `get` instead."""
        return False

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    def get_ranges(
        self, key: str, byte_ranges: Sequence[ByteRequest | None], *, prototype: BufferPrototype, **options: Any
    ) -> AsyncIterator[Sequence[tuple[int, Buffer | None]]]:
        given = {name: value for name, value in options.items() if value is not None}
        # Zarr 3.1 has no such method and never calls this one.
        return Store.get_ranges(self, key, byte_ranges, prototype=prototype, **given)  # type: ignore[attr-defined, no-any-return, unused-ignore]

    def _present(self, key: str, buffer: Buffer | None) -> Buffer | None:
        if buffer is None and self._strict:
            raise MissingChunkError(key)
        if buffer is not None and not len(buffer):
            raise TruncatedChunkError("0 bytes")
        return buffer

    def _checked(self, key: str, buffer: Buffer | None) -> Buffer | None:
        buffer = self._present(key, buffer)
        if buffer is None or not self._blosc:
            return buffer
        header = buffer[:BLOSC_HEADER_BYTES].to_bytes()
        announced = int.from_bytes(header[12:16], "little")
        if len(header) < BLOSC_HEADER_BYTES or announced != len(buffer):
            raise TruncatedChunkError(f"{len(buffer)} bytes, of {announced} that its Blosc header announces")
        return buffer


def _part(buffer: Buffer, byte_range: ByteRequest) -> Buffer:
    match byte_range:
        case RangeByteRequest():
            return buffer[byte_range.start : byte_range.end]
        case OffsetByteRequest():
            return buffer[byte_range.offset :]
        case SuffixByteRequest():
            return buffer[max(0, len(buffer) - byte_range.suffix) :]
