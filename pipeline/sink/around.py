"""The arrays around the normalized one that lie along a dim of which the output has a part: cut to that part.

Not here: everything else around the array, which is copied as it is (`staging.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.block import Block, block_step, tile
from pipeline.errors import ConfigError, SourceError
from pipeline.sink.extent import Kept
from pipeline.source.chunks import ZarrArray, stored_unit
from pipeline.source.coordinates import stored_dims
from pipeline.source.hierarchy import find_arrays, join_path, parent_path
from pipeline.source.reader import BlockReader
from pipeline.source.store import get_bytes, store_name
from pipeline.source.zarr_source import ZarrSource, open_array


@dataclass(frozen=True)
class Cut:
    """An array that is cut.

    Parameters
    ----------
    array : zarr.Array
        In the input.
    kept : tuple of (ndarray of intp or None)
        For each axis the positions that are kept, None where all are.
    """

    array: ZarrArray
    kept: tuple[NDArray[np.intp] | None, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the output."""
        sizes = zip(self.array.shape, self.kept, strict=True)
        return tuple(size if positions is None else len(positions) for size, positions in sizes)

    def documents(self, source: ZarrSource) -> dict[str, bytes]:
        """The array's own metadata documents with the output's shape, by key."""
        keys = (join_path(self.array.path, name) for name in ("zarr.json", ".zarray", ".zattrs"))
        held = {key: content for key in keys if (content := get_bytes(source.opened_store, key)) is not None}
        return {key: content if key.endswith(".zattrs") else self._resized(content) for key, content in held.items()}

    def _resized(self, content: bytes) -> bytes:
        return json.dumps({**json.loads(content), "shape": list(self.shape)}, indent=2).encode()

    def write(self, source: ZarrSource, target: ZarrArray, check: Callable[[], None]) -> None:
        """Write what is kept to `target`, in whole stored units, about 128 MiB at a time."""
        cut = frozenset(axis for axis, positions in enumerate(self.kept) if positions is not None)
        step = block_step(self.array.shape, stored_unit(self.array), max(1, self.array.dtype.itemsize), whole=cut)
        reader = BlockReader(self.array, source.opened_store, "fill")
        for block in tile(self.array.shape, step):
            check()
            values = reader.read(block)
            stop = list(block.stop)
            for axis, positions in enumerate(self.kept):
                if positions is not None:
                    values, stop[axis] = values.take(positions, axis=axis), len(positions)
            target[Block(block.start, tuple(stop)).slices] = values


def arrays_to_cut(source: ZarrSource, kept: Kept) -> dict[str, Cut]:
    """The arrays around that of `source` that lie along one of the dims `kept`, by path.

    An array lies along a dim that it names, or, where it is a coordinate beside the array, along the one that it labels.

    Raises
    ------
    ConfigError
        Where it cannot be known whether an array lies along such a dim: it names none, and is as long.
    """
    found: dict[str, Cut] = {}
    unclear: list[str] = []
    sizes = {dim: size for dim, size in zip(source.dims, source.shape, strict=True) if dim in kept}
    for node in find_arrays(source.opened_store) if kept and source.array else ():
        if node.path == source.array or node.shape is None or not set(node.shape) & set(sizes.values()):
            continue
        array = open_array(source.opened_store, node.path)
        dims = stored_dims(array) or _coordinate_dims(source, node.path, array)
        if dims is None:
            unclear.append(node.path)
            continue
        along = [
            dim if dim is not None and sizes.get(dim) == size else None for dim, size in zip(dims, node.shape, strict=True)
        ]
        if any(along):
            found[node.path] = Cut(array, tuple(None if dim is None else kept[dim] for dim in along))
    if unclear:
        raise ConfigError(
            "arrays that may lie along a dim of which a part is kept, and do not name their dims",
            where=store_name(source.store),
            found=", ".join(unclear[:5]) + (f", and {len(unclear) - 5} more" if len(unclear) > 5 else ""),
            expected=f"dimension_names (format 3) or _ARRAY_DIMENSIONS (format 2) where a size is that of {', '.join(sizes)}",
            remedy="name their dims, or give a store without them",
        )
    return found


def _coordinate_dims(source: ZarrSource, path: str, array: ZarrArray) -> tuple[str, ...] | None:
    """The dim that a one-dimensional array beside that of `source` labels, None where it is something else."""
    if array.ndim != 1 or parent_path(path) != parent_path(source.array):
        return None
    name = path.rpartition("/")[2]
    if name in source.dims and array.shape == (source.shape[source.dims.index(name)],):
        return (name,)
    try:
        return (source.coordinate(name)[0],)
    except SourceError:
        return None
