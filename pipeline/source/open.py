"""Finding the array that a request means, and settling its dims.

Not here: reading it (`zarr_source.py`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import zarr
from zarr.abc.store import Store

from pipeline.dtypes import is_supported
from pipeline.errors import SourceError
from pipeline.source.chunks import ZarrArray
from pipeline.source.coordinates import stored_dims
from pipeline.source.hierarchy import Node, find_arrays, find_node
from pipeline.source.reader import MissingChunks
from pipeline.source.store import StoreLike, list_dir, normalize_address, open_store, store_name
from pipeline.source.zarr_source import ZarrSource, open_array

SHOWN_ARRAYS = 20


def open_source(
    store: StoreLike,
    array: str | None = None,
    dims: Sequence[str] | None = None,
    sample_dim: str | None = None,
    missing_chunks: MissingChunks = "error",
) -> ZarrSource:
    """One array of a Zarr store as a source.

    Parameters
    ----------
    store : str, path-like or zarr.abc.store.Store
    array : str, optional
        Path of the array in the store. Without it, the only array of two or more dims, or the only array.
    dims : sequence of str, optional
        Names of the dims. Needed where the store does not name them; must be the stored names where it does.
    sample_dim : str, optional
        The dim along which there are more and more observations; the first by default.
    missing_chunks : {'error', 'fill'}
        Whether a chunk that is not in the store is an error or holds the fill value.

    Returns
    -------
    ZarrSource

    Raises
    ------
    SourceError
        Where the store, the array or the dims are not there or do not fit, or the array does not hold real numbers.
    """
    if missing_chunks not in ("error", "fill"):
        raise SourceError("unknown policy", where="missing_chunks", found=missing_chunks, expected="error or fill")
    opened = open_store(store, "r")
    path = _pick_array(opened, array.strip("/") if array is not None else None)
    found = open_array(opened, path)
    where = f"{store_name(opened)}:{path}" if path else store_name(opened)
    _check_array(found, where)
    names = _settle_dims(found, tuple(dims) if dims is not None else None, where)
    if sample_dim is not None and sample_dim not in names:
        raise SourceError("no such dim", where=f"{where}, sample_dim", found=sample_dim, expected=", ".join(names))
    return ZarrSource(normalize_address(store), path, names, sample_dim or names[0], missing_chunks)


def stored_place(data: Any) -> tuple[StoreLike | None, str | None]:
    """The store that `data` is, or the store and the path of the Zarr array that it is; None and None for anything else."""
    if isinstance(data, str | os.PathLike | Store):
        return data, None
    if isinstance(data, zarr.Array):
        return data.store, data.path
    return None, None


def _pick_array(store: Store, wanted: str | None) -> str:
    if wanted is not None:
        node = find_node(store, wanted)
        if node is None or node.shape is None:
            raise _no_such_array(store, wanted, node)
        return wanted
    arrays = list(find_arrays(store))
    matrices = [node for node in arrays if len(node.shape or ()) >= 2]
    for candidates in (matrices, arrays):
        if len(candidates) == 1:
            return candidates[0].path
    if not arrays:
        raise SourceError("the store holds no array", where=store_name(store), found=_contents(store), expected="a Zarr store")
    raise SourceError(
        "the store holds several arrays",
        where=store_name(store),
        found=_shown(arrays),
        expected="the name of one of them",
        remedy=f"set `source.array: {(matrices or arrays)[0].path}` or another",
    )


def _no_such_array(store: Store, wanted: str, node: Node | None) -> SourceError:
    arrays = list(find_arrays(store))
    close = get_close_matches(wanted, [each.path for each in arrays], 1)
    return SourceError(
        "no such array" if node is None else "this is a group, not an array",
        where=store_name(store),
        found=wanted,
        expected=_shown(arrays) if arrays else f"an array; the store holds {_contents(store)}",
        remedy=f"use {close[0]!r}" if close else None,
    )


def _shown(arrays: Sequence[Node]) -> str:
    shown = [f"{node.path or 'the root'} {node.shape}" for node in arrays[:SHOWN_ARRAYS]]
    return ", ".join(shown) + (", …" if len(arrays) > SHOWN_ARRAYS else "")


def _contents(store: Store) -> str:
    names = list_dir(store)
    return (", ".join(names[:SHOWN_ARRAYS]) + (", …" if len(names) > SHOWN_ARRAYS else "")) or "nothing"


def _check_array(array: ZarrArray, where: str) -> None:
    if not is_supported(array.dtype):
        raise SourceError(
            "the array does not hold real numbers of up to 64 bits",
            where=where,
            found=str(array.dtype),
            expected="bool, integers or floats",
        )
    if array.ndim == 0:
        raise SourceError("the array has no dim", where=where, found="a single value", expected="at least one dim")
    try:
        _ = array.chunks, array.shards
    except NotImplementedError as error:
        raise SourceError(
            "the array's chunks have different sizes along a dim", where=where, expected="a regular grid"
        ) from error


def _settle_dims(array: ZarrArray, wanted: tuple[str, ...] | None, where: str) -> tuple[str, ...]:
    stored = stored_dims(array)
    if wanted is None:
        if stored is None or None in stored:
            raise SourceError(
                "the store does not name the array's dims",
                where=where,
                found=f"shape {tuple(array.shape)}" + (f", dims {_listed(stored)}" if stored else ""),
                expected=f"{array.ndim} names",
                remedy="set `source.dims`, such as [sample, y, x]",
            )
        wanted = tuple(name for name in stored if name is not None)
    if len(wanted) != array.ndim or len(set(wanted)) != len(wanted):
        raise SourceError(
            "dims do not fit the array",
            where=where,
            found=_listed(wanted),
            expected=f"{array.ndim} different names for shape {tuple(array.shape)}",
        )
    if stored is not None and any(name not in (None, given) for name, given in zip(stored, wanted, strict=True)):
        raise SourceError(
            "dims contradict those of the store",
            where=where,
            found=_listed(wanted),
            expected=_listed(stored),
            remedy="leave `source.dims` out",
        )
    return wanted


def _listed(names: Sequence[str | None]) -> str:
    return ", ".join(name or "(unnamed)" for name in names) or "none"
