"""Stores that tests read: written by Zarr itself, in every layout; and one that counts what is fetched from it."""

from __future__ import annotations

import asyncio
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.errors import UnstableSpecificationWarning
from zarr.storage import WrapperStore


@dataclass(frozen=True)
class Stored:
    """How a test array is stored."""

    zarr_format: int
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None = None
    encoding: str = "default"
    separator: str = "/"

    def __str__(self) -> str:
        sharded = f"-in{self.shards}" if self.shards else ""
        return f"v{self.zarr_format}-{self.chunks}{sharded}-{self.encoding}{self.separator}".replace(" ", "")


SHAPE = (7, 5, 6)
LAYOUTS = (
    Stored(2, (2, 5, 6), separator="."),
    Stored(2, (3, 2, 4), separator="/"),
    Stored(2, (7, 1, 5), separator="."),
    Stored(3, (2, 5, 6)),
    Stored(3, (3, 2, 4), separator="."),
    Stored(3, (10, 3, 1), encoding="v2", separator="."),
    Stored(3, (1, 2, 3), encoding="v2", separator="/"),
    Stored(3, (1, 2, 3), shards=(2, 4, 6)),
    Stored(3, (2, 1, 2), shards=(4, 5, 4), separator="."),
    Stored(3, (7, 5, 6), shards=(7, 5, 6)),
)


def numbered(shape: tuple[int, ...] = SHAPE, dtype: Any = np.float32) -> NDArray[Any]:
    """Values that all differ, none of them a fill value."""
    return np.arange(1, np.prod(shape) + 1).reshape(shape).astype(dtype)


def write_array(
    group: zarr.Group, name: str, values: NDArray[Any], stored: Stored, dims: tuple[str, ...] | None, **options: Any
) -> zarr.Array[Any]:
    """`values` as an array of `group`, its dims named as the format does it."""
    attributes = dict(options.pop("attributes", {}))
    if dims is not None and stored.zarr_format == 2:
        attributes["_ARRAY_DIMENSIONS"] = list(dims)
    if dims is not None and stored.zarr_format == 3:
        options["dimension_names"] = dims
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=options.pop("dtype", values.dtype),
        chunks=stored.chunks,
        shards=stored.shards,
        chunk_key_encoding={"name": "v2" if stored.zarr_format == 2 else stored.encoding, "separator": stored.separator},
        attributes=attributes,
        config={"write_empty_chunks": True},
        **options,
    )
    array[...] = values
    return array


def write_store(path: Path, stored: Stored, values: NDArray[Any] | None = None, **options: Any) -> Path:
    """A store with `images` (sample, y, x), labels beside it, and a group with another array."""
    values = numbered() if values is None else values
    group = zarr.create_group(path, zarr_format=stored.zarr_format, attributes={"title": "test"})
    write_array(group, "images", values, stored, options.pop("dims", ("sample", "y", "x")), **options)
    flat = Stored(stored.zarr_format, (3,))
    write_array(group, "split", np.array(["train", "test", "train", "val", "train", "test", "é"]), flat, ("sample",), dtype=str)
    write_array(group, "label", np.arange(7, dtype=np.int16), flat, ("sample",))
    write_array(group, "good", np.arange(7) % 2 == 0, flat, None)
    write_array(group, "y", np.array([10, 20, 30, 40, 50]), flat, ("y",))
    write_array(group, "masks/mean", np.ones((5, 6)), Stored(stored.zarr_format, (5, 6)), ("y", "x"))
    return path


def write_quietly(group: zarr.Group, name: str, values: NDArray[Any], **options: Any) -> None:
    """An array of a dtype about which Zarr warns in format 3, such as strings of fixed width and dates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnstableSpecificationWarning)
        array = group.create_array(name, shape=values.shape, chunks=values.shape, dtype=values.dtype, **options)
        array[...] = values


def stored_files(path: Path) -> dict[str, bytes]:
    """Every file under `path` with its content."""
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


class CountingStore(WrapperStore[Store]):
    """Counts how often each key is fetched, in part or whole."""

    def __init__(self, store: Store, fetched: Counter[str] | None = None) -> None:
        super().__init__(store)
        self.fetched: Counter[str] = Counter() if fetched is None else fetched

    def _with_store(self, store: Store) -> CountingStore:
        return CountingStore(store, self.fetched)

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        self.fetched[key] += 1
        return await self._store.get(key, prototype, byte_range)

    def get_sync(self, key: str, *, prototype: Any = None, byte_range: Any = None) -> Any:
        self.fetched[key] += 1
        return self._store.get_sync(key, prototype=prototype, byte_range=byte_range)  # type: ignore[attr-defined]

    async def get_partial_values(self, prototype: Any, key_ranges: Any) -> Any:
        return await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges))

    async def get_ranges(self, key: str, byte_ranges: Any, *, prototype: Any, **_: Any) -> Any:
        for index, part in enumerate(byte_ranges):
            yield [(index, await self.get(key, prototype, part))]

    def chunks(self, array: str) -> Counter[str]:
        """Fetches of chunks of `array`."""
        documents = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
        return Counter(
            {key: n for key, n in self.fetched.items() if key.startswith(f"{array}/") and not key.endswith(documents)}
        )
