"""Where a store is opened, its keys listed and its documents read: the only place that knows kinds of stores.

Not here: what the keys mean (`hierarchy.py`, `chunks.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import unquote, urlsplit, urlunsplit

from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore, WrapperStore

from pipeline.errors import ConfigError, PipelineError, SourceError

StoreLike: TypeAlias = str | os.PathLike[str] | Store
KEYS_AT_ONCE = 10_000
SHOWN_NAMES = 12
SHOWN_CHARACTERS = 160


def open_store(store: StoreLike, mode: Literal["r", "w"]) -> Store:
    """A Zarr store for an address; a store that is open already is returned as it is.

    Parameters
    ----------
    store : str, path-like or zarr.abc.store.Store
        A local path or a ``file://`` URL.
    mode : {'r', 'w'}
        `r` needs an existing folder; `w` makes it when something is written.

    Raises
    ------
    SourceError, ConfigError
        Where there is no such store or the kind of address is not known: SourceError when reading, else ConfigError.
    """
    if isinstance(store, Store):
        return store
    path = local_path(store)
    if path is None:
        raise _refusal(mode)(
            "this kind of store address is not known", where=store_name(store), expected="a local path or a file:// URL"
        )
    exists = _exists(path, _refusal(mode))
    if mode == "r" and not exists:
        raise SourceError(
            "the store does not exist",
            where=str(path),
            found=_surroundings(path),
            expected="a folder with a Zarr store",
            remedy="name one that is there, on the command line with --set source.store=PATH",
        )
    if exists and not path.is_dir():
        raise _refusal(mode)(
            "the store is not a folder", where=str(path), found="a file", expected="a folder with a Zarr store"
        )
    return LocalStore(path, read_only=mode == "r")


def normalize_address(store: StoreLike) -> str | Store:
    """`store` as something that means the same in another process: a local path becomes absolute."""
    if isinstance(store, Store):
        return store
    path = local_path(store)
    return os.fspath(store) if path is None else str(path)


def local_path(store: StoreLike) -> Path | None:
    """The absolute path of a store on the local file system, looking through wrappers; None for any other."""
    while isinstance(store, WrapperStore):
        store = store._store
    if isinstance(store, LocalStore):
        return Path(os.path.abspath(store.root))
    if isinstance(store, Store):
        return None
    address = os.fspath(store)
    if "://" not in address:
        return Path(os.path.abspath(os.path.expanduser(address)))
    parts = urlsplit(address)
    return Path(os.path.abspath(unquote(parts.path))) if parts.scheme == "file" and parts.netloc in ("", "localhost") else None


def store_name(store: StoreLike) -> str:
    """How a store is called in messages and manifests: its path, or its URL without credentials.

    Examples
    --------
    >>> store_name("s3://key:secret@bucket/images.zarr?token=1")
    's3://bucket/images.zarr'
    """
    path = local_path(store)
    if path is not None:
        return str(path)
    address = str(store) if isinstance(store, Store) else os.fspath(store)
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def get_bytes(store: Store, key: str) -> bytes | None:
    """The object stored as `key`, None where there is none; raises SourceError where the file system refuses."""
    try:
        buffer = sync(store.get(key, default_buffer_prototype()))
    except (OSError, ValueError) as error:
        where = f"{store_name(store)}: {key}"
        raise SourceError("an object of the store cannot be read", where=_shown(where), found=_reason(error)) from error
    return None if buffer is None else buffer.to_bytes()


def set_bytes(store: Store, key: str, content: bytes) -> None:
    """Store `content` as `key`, whatever was there."""
    sync(store.set(key, default_buffer_prototype().buffer.from_bytes(content)))


def list_dir(store: Store, prefix: str = "") -> list[str]:
    """Names of what is directly under `prefix`, sorted."""

    async def names() -> list[str]:
        return [name.rstrip("/") async for name in store.list_dir(prefix)]

    return sorted(sync(names()))


def list_keys(store: Store, prefix: str = "", skip: Iterable[str] = ()) -> Iterator[str]:
    """Every key under `prefix`, from the root of the store on, leaving out what is under the prefixes `skip`.

    A folder of the local file system is walked without a look at each file, and links to folders are followed as reading
    follows them.
    """
    skipped = frozenset(skip)
    if type(store) is LocalStore:
        yield from _walk_folder(Path(store.root), prefix, skipped)
        return
    under = tuple(f"{each}/" for each in skipped)
    listed = store.list_prefix(f"{prefix}/" if prefix else "")

    async def some() -> list[str]:
        keys: list[str] = []
        async for key in listed:
            keys.append(key)
            if len(keys) == KEYS_AT_ONCE:
                break
        return keys

    while keys := sync(some()):
        yield from (key for key in keys if not key.startswith(under))


def list_branches(store: Store, prefix: str, depth: int, tail: str) -> Iterator[str]:
    """Every key that is `prefix`, then `depth` names, then `tail`; of a store that is no local folder, all under `prefix`.

    Where each chunk has a folder of its own, or one in another, listing all of them takes ten times as long as looking for
    what is known to be in them.
    """
    if type(store) is not LocalStore:
        yield from list_keys(store, prefix)
        return
    root = os.fspath(store.root)
    branches = [prefix]
    for _ in range(depth - 1):
        branches = [below for branch in branches for below in _names_under(root, branch)]
    for branch in branches:
        keys = (f"{below}/{tail}" for below in _names_under(root, branch))
        yield from (key for key in keys if os.path.isfile(f"{root}/{key}"))


def _names_under(root: str, prefix: str) -> Iterator[str]:
    """What is directly under `prefix`, from `root` on; nothing where that is no folder."""
    above = f"{prefix}/" if prefix else ""
    try:
        with os.scandir(f"{root}/{prefix}") as entries:
            yield from (above + entry.name for entry in entries)
    except OSError:
        return


def _walk_folder(root: Path, prefix: str, skipped: frozenset[str]) -> Iterator[str]:
    for folder, folders, files in os.walk(root / prefix, followlinks=True):
        relative = os.path.relpath(folder, root).replace(os.sep, "/")
        above = "" if relative == "." else f"{relative}/"
        folders[:] = [name for name in folders if above + name not in skipped]
        yield from (above + name for name in files)


def _refusal(mode: Literal["r", "w"]) -> type[PipelineError]:
    return SourceError if mode == "r" else ConfigError


def _exists(path: Path, refusal: type[PipelineError]) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise refusal(
            "the store's path cannot be used", where=_shown(str(path)), found=_reason(error), expected="the path of a folder"
        ) from None
    return True


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)


def _shown(place: str) -> str:
    text = place.replace("\0", "\\0")
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def _surroundings(path: Path) -> str:
    parent = next(folder for folder in path.parents if folder.is_dir())
    try:
        names = sorted(each.name for each in parent.iterdir() if not each.name.startswith("."))
    except OSError:
        return f"{parent} cannot be listed"
    more = ", …" if len(names) > SHOWN_NAMES else ""
    return f"{parent} holds {', '.join(names[:SHOWN_NAMES]) or 'nothing'}{more}"
