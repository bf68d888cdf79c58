"""The normalized array among everything that stood around the input, in a Zarr store that opens when it is complete.

Not here: the layout (`layout.py`), the documents (`documents.py`) and how they are held back (`staging.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.storage import StorePath

from pipeline.block import Block, is_aligned
from pipeline.errors import ConfigError, PipelineError, WriteError
from pipeline.sink.documents import array_documents, patch_consolidated
from pipeline.sink.layout import Compressors, resolve_layout
from pipeline.sink.staging import UncommittedStore, begin, commit, copy_around, staged_key
from pipeline.source.chunks import ChunkGrid, ZarrArray
from pipeline.source.hierarchy import NODE_NAMES, join_path, parent_path
from pipeline.source.store import StoreLike, get_bytes, local_path, normalize_address, open_store, set_bytes, store_name
from pipeline.source.zarr_source import ZarrSource


@dataclass(frozen=True)
class ZarrSink:
    """An array that is being written. `create_output` makes one.

    Pickles as these fields alone and opens its store where it is used.

    Parameters
    ----------
    store : str or zarr.abc.store.Store
        An address, or a store that is open already.
    array : str
        Path of the array from the root of the store.
    """

    store: str | Store
    array: str

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def name(self) -> str:
        """The store and the array, for messages."""
        return f"{store_name(self.store)}:{self.array}" if self.array else store_name(self.store)

    @cached_property
    def opened_store(self) -> Store:
        """The store, opened in this process."""
        return open_store(self.store, "w")

    @cached_property
    def zarr_array(self) -> ZarrArray:
        """The array, opened in this process for writing; raises WriteError where it is not being written."""
        store = UncommittedStore(self.opened_store)
        try:
            metadata: Any = zarr.open_array(store, path=self.array, mode="r+").metadata
            config: Any = {"write_empty_chunks": True}  # open_array passes it on in newer versions of Zarr only
            return zarr.Array(zarr.AsyncArray(metadata, StorePath(store, self.array), config))
        except Exception as error:
            raise WriteError(
                "the output is not being written: it is complete, or was never begun, or was removed",
                where=self.name,
                found=f"{type(error).__name__}: {error}",
            ) from error

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.zarr_array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.zarr_array.dtype)

    @property
    def write_unit(self) -> tuple[int, ...]:
        return ChunkGrid(self.zarr_array).unit

    def write(self, block: Block, values: NDArray[Any]) -> None:
        """Store `values` as those of `block`; nothing is read.

        Chunks that hold only the fill value are stored like any other, so that a missing one always means a loss.

        Raises
        ------
        WriteError
            Where the block does not cover whole stored units, the values do not fit it, or the store refuses them.
        """
        if not is_aligned(block, self.write_unit, self.shape):
            raise WriteError(
                "a block that would share a stored object with another",
                where=f"{self.name}{block}",
                expected=f"whole units of {self.write_unit} in shape {self.shape}",
            )
        if values.shape != block.shape or values.dtype != self.dtype:
            raise WriteError(
                "values that do not fit the block",
                where=f"{self.name}{block}",
                found=f"{values.dtype} {values.shape}",
                expected=f"{self.dtype} {block.shape}",
            )
        with _translated(f"{self.name}{block}"):
            self.zarr_array[block.slices] = values

    def commit(self) -> None:
        """Make the output one that opens: check that every chunk is there, then put the metadata in place, the root's last.

        Raises
        ------
        WriteError
            Where a chunk is missing, the store refuses, or the output is not being written.
        """
        missing, first = ChunkGrid(self.zarr_array).missing(self.opened_store)
        if missing:
            raise WriteError(
                "a part of the output was not written", where=self.name, found=f"{missing} chunks missing, first {first}"
            )
        # Durability against a power cut belongs here: sync every chunk file before the first document is put in place.
        with _translated(self.name):
            commit(self.opened_store)


def create_output(
    template: ZarrSource,
    store: StoreLike,
    dtype: np.dtype[Any],
    chunks: Sequence[int] | None = None,
    shards: Sequence[int] | None = None,
    compressors: Compressors | None = None,
    overwrite: bool = False,
) -> ZarrSink:
    """Begin an output that is `template`'s store with its array normalized, and copy everything around the array.

    Parameters
    ----------
    template : ZarrSource
        The input.
    store : str, path-like or zarr.abc.store.Store
        Where the output goes. What an unfinished run left there is removed.
    dtype : numpy.dtype
        Of the normalized values.
    chunks, shards, compressors
        See `resolve_layout`.
    overwrite : bool
        Replace a Zarr store that stands there.

    Returns
    -------
    ZarrSink

    Raises
    ------
    ConfigError
        Where the layout does not fit, or one of the two stores is inside the other.
    OutputExistsError
        Where something stands there that may not be removed.
    WriteError
        Where the store cannot be written.
    """
    dtype = np.dtype(dtype)
    target = open_store(store, "w")
    _check_apart(template, target)
    documents = array_documents(template, dtype, resolve_layout(template, dtype, chunks, shards, compressors))
    with _translated(store_name(target)):
        begin(target, overwrite)
        copy_around(template.opened_store, target, template.array)
        _stage(target, template.array, documents)
    return ZarrSink(normalize_address(store), template.array)


def write_unit(
    template: ZarrSource, chunks: Sequence[int] | None = None, shards: Sequence[int] | None = None
) -> tuple[int, ...]:
    """The `write_unit` that an output of `create_output` would have; raises ConfigError where the layout does not fit."""
    return resolve_layout(template, template.dtype, chunks, shards, "none").unit


def _stage(store: Store, array: str, documents: dict[str, bytes]) -> None:
    """Hold `documents` back beside those of the input, whose groups stay what they were."""
    groups = list(_ancestors(array))
    kept = {group for group in groups if any(get_bytes(store, staged_key(join_path(group, name))) for name in NODE_NAMES)}
    for key, content in documents.items():
        if parent_path(key) not in kept:
            set_bytes(store, staged_key(key), content)
    for key in (join_path(group, name) for group in groups for name in ("zarr.json", ".zmetadata")):
        held = get_bytes(store, staged_key(key))
        if held is not None:
            set_bytes(store, staged_key(key), patch_consolidated(key, held, array, documents))


def _ancestors(path: str) -> Iterator[str]:
    while path:
        path = parent_path(path)
        yield path


def _check_apart(template: ZarrSource, target: Store) -> None:
    source, output = local_path(template.store), local_path(target)
    if source is None or output is None:
        same = template.store is target or template.opened_store == target
    else:
        source, output = source.resolve(), output.resolve()
        same = source == output or source in output.parents or output in source.parents
    if same:
        raise ConfigError(
            "the output and the source are the same store, or one is inside the other",
            where="output.store",
            found=store_name(target),
            expected=f"a place apart from {store_name(template.store)}",
        )


@contextmanager
def _translated(where: str) -> Iterator[None]:
    """Whatever a store or a codec raises, as a WriteError."""
    try:
        yield
    except PipelineError:
        raise
    except (Exception, BaseExceptionGroup) as error:
        raise WriteError(
            "the output cannot be written",
            where=where,
            found=f"{type(error).__name__}: {error}",
            remedy="check free space and permissions, then run again",
        ) from error
