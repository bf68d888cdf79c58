"""The normalized array among everything that stood around the input, in a Zarr store that opens when it is complete.

Not here: the layout (`layout.py`), the documents (`documents.py`) and how they are held back (`staging.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from dataclasses import replace as replace_fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.storage import StorePath

from pipeline.block import Block, block_step, is_aligned, overlapping, tile
from pipeline.errors import ConfigError, PipelineError, WriteError
from pipeline.sink.around import Cut, arrays_to_cut
from pipeline.sink.claim import CLAIM, Claim, claim_output, refuse_running
from pipeline.sink.documents import array_documents, patch_consolidated
from pipeline.sink.extent import Extent
from pipeline.sink.layout import Compressors, resolve_layout
from pipeline.sink.replacement import (
    clear_hidden,
    hidden_folder,
    refuse_mount,
    remove_hidden,
    replace,
    replaceable_folder,
    restore,
)
from pipeline.sink.staging import UncommittedStore, clear, commit, copy_around, staged_key, stands
from pipeline.source.chunks import ChunkGrid, ZarrArray
from pipeline.source.compiled import CompiledChunks, compiled_chunks
from pipeline.source.hierarchy import NODE_NAMES, join_path, parent_path
from pipeline.source.store import StoreLike, get_bytes, local_path, normalize_address, open_store, set_bytes, store_name
from pipeline.source.zarr_source import ZarrSource

WITH_EMPTY_CHUNKS: Any = {"write_empty_chunks": True}
CHECKED_BYTES = 32 * 2**20  # written between two looks at whether another run took the output over


@dataclass(frozen=True)
class ZarrSink:
    """An array that is being written. `create_output` makes one.

    Pickles as these fields alone and opens its store where it is used. As a context it is abandoned at the end, which changes
    nothing after a commit.

    Parameters
    ----------
    store : str or zarr.abc.store.Store
        An address, or a store that is open already.
    array : str
        Path of the array from the root of the store.
    claim : Claim
        Of the run that writes.
    replaces : str, optional
        The folder whose place the store takes when it is committed.
    """

    store: str | Store
    array: str
    claim: Claim
    replaces: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()

    @property
    def name(self) -> str:
        """The output and the array, for messages."""
        return f"{self.claim.output}:{self.array}" if self.array else self.claim.output

    @cached_property
    def opened_store(self) -> Store:
        """The store, opened in this process."""
        return open_store(self.store, "w")

    @cached_property
    def zarr_array(self) -> ZarrArray:
        """The array, opened in this process for writing; raises WriteError where it is not being written."""
        with _translated(self.name):
            self.claim.check()
            store = UncommittedStore(self.opened_store, self.claim.check_async)
            metadata: Any = zarr.open_array(store, path=self.array, mode="r+").metadata
            return zarr.Array(zarr.AsyncArray(metadata, StorePath(store, self.array), WITH_EMPTY_CHUNKS))

    @cached_property
    def _compiled(self) -> CompiledChunks | None:
        """The chunks for compiled code, where that knows the store and the codecs."""
        return compiled_chunks(self.zarr_array, self.opened_store)

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
            Where another run took the output over, the block does not cover whole stored units, the values do not fit it, or
            the store refuses them.
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
            for part in tile(block.shape, block_step(block.shape, self.write_unit, self.dtype.itemsize, CHECKED_BYTES)):
                self.claim.check()
                self._write(part.shifted(block.start), values[part.slices])

    def _write(self, block: Block, values: NDArray[Any]) -> None:
        if self._compiled is None:
            self.zarr_array[block.slices] = values
            return
        grid, root = self._compiled.grid, Path(store_name(self.opened_store))
        units = [(unit, root / grid.key_at(unit)) for unit in overlapping(block, grid.unit)]
        for unit, file in units:
            # Compiled code merges with what is there where the array's edge cuts a unit,
            if unit.shape != grid.unit:
                file.unlink(missing_ok=True)
        self._compiled.write(block, values)
        for unit, file in units:
            # and leaves out what holds only the fill value, whatever it is told.
            if not file.exists():
                self.zarr_array[unit.slices] = values[unit.shifted(-first for first in block.start).slices]

    def beside(self, array: str) -> ZarrSink:
        """Another array of the same output, under the same claim."""
        return replace_fields(self, array=array)

    def check_written(self) -> None:
        """Raise WriteError where another run took the output over, or a chunk of the array is missing."""
        with _translated(self.name):
            self.claim.check()
            missing, first = ChunkGrid(self.zarr_array).missing(self.opened_store)
        if missing:
            raise WriteError(
                "a part of the output was not written", where=self.name, found=f"{missing} chunks missing, first {first}"
            )

    def commit(self) -> None:
        """Make the output one that opens: check that every chunk is there, then put the metadata in place, the root's last.

        Where an older output is replaced, that happens last.

        Raises
        ------
        WriteError
            Where another run took the output over, a chunk is missing, the store refuses, or the output is not being written.
        """
        self.check_written()
        # Durability against a power cut belongs here: sync every chunk file before the first document is put in place.
        with _translated(self.name):
            commit(self.opened_store, self.claim.check)
            if self.replaces is not None:
                replace(Path(self.replaces), Path(str(self.store)))
        self.abandon()

    def abandon(self) -> None:
        """Give the output up: no worker writes to it any more, and the next run may begin it anew.

        What was written for an output that was to be replaced is removed, and the old one stays; what was written anywhere
        else stays for the next run to remove. Nothing happens where another run has the output or it is complete.
        """
        with _translated(self.name):
            if self.claim.held():
                self.claim.release()
                if self.replaces is not None:
                    remove_hidden(Path(self.replaces), self.claim.token)


def check_output(
    template: ZarrSource,
    store: StoreLike,
    dtype: np.dtype[Any],
    chunks: Sequence[int] | None = None,
    shards: Sequence[int] | None = None,
    compressors: Compressors | None = None,
    overwrite: bool = False,
    extent: Extent | None = None,
) -> None:
    """Raise what `create_output` would raise now, unless that is a store that cannot be written; nothing is changed."""
    target = open_store(store, "w")
    _check_apart(template, target)
    layout = resolve_layout(template, np.dtype(dtype), chunks, shards, compressors, extent)
    array_documents(template, np.dtype(dtype), layout, extent)
    arrays_to_cut(template, extent.kept if extent else {})
    with _translated(store_name(target)):
        address, _ = _place(normalize_address(store), target, overwrite)
        refuse_running(address, store_name(target), overwrite)


def create_output(
    template: ZarrSource,
    store: StoreLike,
    dtype: np.dtype[Any],
    chunks: Sequence[int] | None = None,
    shards: Sequence[int] | None = None,
    compressors: Compressors | None = None,
    overwrite: bool = False,
    extent: Extent | None = None,
) -> ZarrSink:
    """Begin an output that is `template`'s store with its array normalized, and copy everything around the array.

    An output that is a local folder and is replaced stays as it is until the new one is complete, which needs room for both.
    In any other store the old one is lost now.

    Parameters
    ----------
    template : ZarrSource
        The input.
    store : str, path-like or zarr.abc.store.Store
        Where the output goes. What a run that is over left there is removed.
    dtype : numpy.dtype
        Of the normalized values.
    chunks, shards, compressors
        See `resolve_layout`.
    overwrite : bool
        Replace a Zarr store that stands there, and take the output over from another run that has begun it.
    extent : Extent, optional
        The dims of the output, by default those of `template`. Arrays around that lie along a dim of which it keeps a part are
        cut as well.

    Returns
    -------
    ZarrSink
        To be abandoned, or used as a context, unless it is committed.

    Raises
    ------
    ConfigError
        Where the layout does not fit, one of the two stores is inside the other, or it cannot be known whether an array around
        is to be cut.
    OutputExistsError
        Where something stands there that may not be removed, or another run is writing there.
    WriteError
        Where the store cannot be written.
    """
    layout = resolve_layout(template, np.dtype(dtype), chunks, shards, compressors, extent)
    documents = {template.array: array_documents(template, np.dtype(dtype), layout, extent)}
    return begin_output(template, store, documents, arrays_to_cut(template, extent.kept if extent else {}), overwrite)


def begin_output(
    template: ZarrSource,
    store: StoreLike,
    documents: Mapping[str, Mapping[str, bytes]],
    cuts: Mapping[str, Cut],
    overwrite: bool,
) -> ZarrSink:
    """Begin an output that is `template`'s store with other arrays in the place of some.

    Parameters
    ----------
    documents : mapping of str to mapping of str to bytes
        The metadata documents of each such array by the array's path, see `array_documents`.
    cuts : mapping of str to Cut
        What the arrays around them are cut to, by path.

    Returns
    -------
    ZarrSink
        Of the first of them.
    """
    target = open_store(store, "w")
    _check_apart(template, target)
    replaced = {**documents, **{path: cut.documents(template) for path, cut in cuts.items()}}
    with _translated(store_name(target)):
        sink = _begin(normalize_address(store), target, next(iter(replaced)), overwrite)
        try:
            _make_empty(sink, target, overwrite)
            copy_around(template.opened_store, sink.opened_store, replaced, sink.claim.check)
            for array, staged in replaced.items():
                _stage(sink.opened_store, array, staged)
            for path, cut in cuts.items():
                beside = sink.beside(path)
                with _translated(beside.name):
                    cut.write(template, beside.zarr_array, sink.claim.check)
        except BaseException:
            sink.abandon()
            raise
    return sink


def write_unit(
    template: ZarrSource,
    chunks: Sequence[int] | None = None,
    shards: Sequence[int] | None = None,
    extent: Extent | None = None,
) -> tuple[int, ...]:
    """The `write_unit` that an output of `create_output` would have; raises ConfigError where the layout does not fit."""
    return resolve_layout(template, template.dtype, chunks, shards, "none", extent).unit


def _begin(address: str | Store, store: Store, array: str, overwrite: bool) -> ZarrSink:
    """A sink that has the claim to the output; what is there is untouched."""
    place, folder = _place(address, store, overwrite)
    claim = claim_output(place, store_name(store), overwrite)
    if folder is None:
        return ZarrSink(place, array, claim)
    return ZarrSink(str(hidden_folder(folder) / claim.token), array, claim, str(folder))


def _place(address: str | Store, store: Store, overwrite: bool) -> tuple[str | Store, Path | None]:
    """Where the claim to an output is kept, and the folder that will be replaced; raises OutputExistsError."""
    folder = replaceable_folder(store)
    if folder is not None:
        restore(folder)
    if not stands(store, overwrite) or folder is None:
        return address, None
    refuse_mount(folder)
    return str(hidden_folder(folder)), folder


def _make_empty(sink: ZarrSink, target: Store, overwrite: bool) -> None:
    """Remove what stands where `sink` writes, which is all that was there in `target` unless that is replaced later."""
    if sink.replaces is not None:
        clear_hidden(Path(sink.replaces))
        return
    stands(target, overwrite)  # another run may have completed the output before this one had the claim
    clear(target, keep=CLAIM)


def _stage(store: Store, array: str, documents: Mapping[str, bytes]) -> None:
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
