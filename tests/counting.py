"""Counts what is fetched from local stores, for tests of how often a chunk is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from zarr.storage import LocalStore

from pipeline.block import Block
from pipeline.source.compiled import CompiledChunks
from pipeline.source.store import local_path

METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")


@contextmanager
def counted_reads(store: Path, array: str) -> Iterator[Counter[str]]:
    """How often each chunk of `array` in the local store `store` is fetched, by key."""
    counts: Counter[str] = Counter()
    fetch = LocalStore.get

    async def counting(self: LocalStore, key: str, *arguments: Any, **options: Any) -> Any:
        if self.root == store and key.startswith(f"{array}/") and not key.endswith(METADATA):
            counts[key] += 1
        return await fetch(self, key, *arguments, **options)

    decode = CompiledChunks.read

    def counting_chunks(self: CompiledChunks, block: Block, *arguments: Any) -> Any:
        if local_path(self.grid.array.store) == store:
            counts.update(key for key in self.grid.keys(block) if key.startswith(f"{array}/"))
        return decode(self, block, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CompiledChunks, "read", counting_chunks)
        patch.setattr(LocalStore, "get", counting)
        if hasattr(LocalStore, "get_sync"):
            patch.setattr(LocalStore, "_supports_sync_io", False, raising=False)
        yield counts


def stored_chunks(store: Path, array: str) -> set[str]:
    """The keys of every stored chunk of `array`."""
    files = (path for path in (store / array).rglob("*") if path.is_file())
    return {str(path.relative_to(store)) for path in files if path.name not in METADATA}
