"""Arrays written to a Zarr store the way these scripts need them: whole, with every chunk, and with named dims."""

from __future__ import annotations

from typing import Any

import zarr
from numpy.typing import NDArray


def write_array(group: zarr.Group, name: str, values: NDArray[Any], dims: tuple[str, ...], chunks: tuple[int, ...]) -> None:
    """Write `values` as the array `name`; the dims are named as the store's format has it."""
    version = group.metadata.zarr_format
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=str if values.dtype.kind == "U" else values.dtype,
        chunks=chunks,
        dimension_names=dims if version == 3 else None,
        attributes={} if version == 3 else {"_ARRAY_DIMENSIONS": list(dims)},
        config={"write_empty_chunks": True},
    )
    array[...] = values
