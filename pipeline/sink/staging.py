"""An output that does not open yet: its chunks are where they belong, its metadata documents are held back.

Not here: which documents (`documents.py`) and what is written (`zarr_sink.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from time import monotonic
from typing import Self

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import WrapperStore

from pipeline.errors import OutputExistsError
from pipeline.source.hierarchy import METADATA_NAMES, NODE_NAMES, is_metadata
from pipeline.source.store import get_bytes, list_dir, list_keys, set_bytes, store_name

STAGING = ".zarrnorm"
STAGED_SUFFIX = ".staged"
MARKER = f"{STAGING}/unfinished"
MARKER_TEXT = b"zarrnorm is writing this store, or was stopped while it did. It opens when it is complete.\n"
KEYS_COPIED_AT_ONCE = 8
CHECK_SECONDS = 1.0


class UncommittedStore(WrapperStore[Store]):
    """An output before its commit, as Zarr has to see it to write chunks.

    Documents are read from where they are held back. Chunks are written through, and read as absent: whole stored units are
    written, so nothing that is there, of this run or of one that was killed, is ever merged with.

    Parameters
    ----------
    store : zarr.abc.store.Store
    check : async callable
        Raises where the output may not be written any more. Called before an object is stored where that was
        `CHECK_SECONDS` ago, because a large block takes long to encode.
    """

    def __init__(self, store: Store, check: Callable[[], Awaitable[None]]) -> None:
        super().__init__(store)
        self._check = check
        self._checked = monotonic()

    def _with_store(self, store: Store) -> Self:
        return type(self)(store, self._check)

    async def set(self, key: str, value: Buffer) -> None:
        if monotonic() - self._checked >= CHECK_SECONDS:
            await self._check()
            self._checked = monotonic()
        await self._store.set(key, value)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        return await self._store.get(staged_key(key), prototype, byte_range) if is_metadata(key) else None

    async def exists(self, key: str) -> bool:
        return await self._store.exists(staged_key(key)) if is_metadata(key) else False

    @property
    def _supports_sync_io(self) -> bool:
        """No: a codec pipeline that would read synchronously asks here and uses `get` instead."""
        return False


def staged_key(key: str) -> str:
    """Where the document `key` is held back. Nothing there has a name by which Zarr knows a node.

    Examples
    --------
    >>> staged_key("images/zarr.json")
    '.zarrnorm/images/zarr.json.staged'
    """
    return f"{STAGING}/{key}{STAGED_SUFFIX}"


def stands(store: Store, overwrite: bool) -> bool:
    """Whether a Zarr store stands in `store`; what an unfinished run left is none.

    Raises
    ------
    OutputExistsError
        Where a Zarr store stands there that `overwrite` does not allow to replace, or a folder holds something else.
    """
    names = set(list_dir(store))
    where = store_name(store)
    if names and STAGING not in names and not names.intersection(NODE_NAMES):
        raise OutputExistsError(
            "the output's folder is not empty and holds no Zarr store",
            where=where,
            found=", ".join(sorted(names)[:5]),
            remedy="choose another output.store",
        )
    found = bool(names.intersection(NODE_NAMES))
    if found and not overwrite:
        raise OutputExistsError(
            "the output exists",
            where=where,
            found="a Zarr store",
            remedy="choose another output.store, or replace it: output.overwrite: true, or --overwrite of `zarrnorm apply`",
        )
    return found


def clear(store: Store, keep: str) -> None:
    """Make `store` one that is empty but for the object `keep` and does not open: the metadata of its root goes first."""
    names = list_dir(store)
    set_bytes(store, MARKER, MARKER_TEXT)
    for name in METADATA_NAMES.intersection(names):
        sync(store.delete(name))
    for key in list(list_keys(store, STAGING)):
        if key not in (MARKER, keep):
            sync(store.delete(key))
    for name in names:
        if name != STAGING and name not in METADATA_NAMES:
            _remove(store, name)


def copy_around(source: Store, target: Store, arrays: Iterable[str], check: Callable[[], None]) -> None:
    """Copy every object of `source` outside `arrays` to `target` byte for byte, holding the documents back.

    Objects are not decoded, and a few at a time are in memory; `check` is called before each few.
    """
    skipped = tuple(arrays)
    if "" in skipped:
        return
    keys = list_keys(source, skip=(*skipped, STAGING))
    while some := list(islice(keys, KEYS_COPIED_AT_ONCE)):
        check()
        sync(_copy_all(source, target, some))


def commit(store: Store, check: Callable[[], None]) -> None:
    """Put the documents where they belong, those of the root last, and remove what held them back.

    `check` is called before each document of the root, which make the output open.
    """
    held = [key for key in list_keys(store, STAGING) if key.endswith(STAGED_SUFFIX)]
    real = [key.removeprefix(f"{STAGING}/").removesuffix(STAGED_SUFFIX) for key in held]
    for key in sorted(real, key=_commit_order):
        content = get_bytes(store, staged_key(key))
        if "/" not in key:
            check()
        if content is not None:
            set_bytes(store, key, content)
    _remove(store, STAGING)


def _commit_order(key: str) -> tuple[int, bool, str]:
    """The deepest first; within a node, what makes it a node last."""
    return -key.count("/"), key.rpartition("/")[2] in NODE_NAMES, key


async def _copy_all(source: Store, target: Store, keys: Iterable[str]) -> None:
    await asyncio.gather(*(_copy(source, target, key) for key in keys))


async def _copy(source: Store, target: Store, key: str) -> None:
    content = await source.get(key, default_buffer_prototype())
    if content is not None:
        await target.set(staged_key(key) if is_metadata(key) else key, content)


def _remove(store: Store, name: str) -> None:
    """Remove the object `name`, or everything under it."""
    sync(store.delete(name) if sync(store.exists(name)) else store.delete_dir(name))
