"""The metadata documents of an output: those of the new array, and those around it that repeat them.

Not here: where they are kept until the output is complete (`staging.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import zarr
from zarr.storage import MemoryStore

from pipeline.errors import ConfigError
from pipeline.sink.extent import Extent
from pipeline.sink.layout import Layout, creation_options
from pipeline.source.coordinates import NAMES_ATTRIBUTE
from pipeline.source.hierarchy import join_path, parent_path
from pipeline.source.store import get_bytes, list_keys
from pipeline.source.zarr_source import ZarrSource

STALE_ATTRIBUTES = frozenset(
    {
        # how the stored numbers stood for the real ones
        "scale_factor",
        "add_offset",
        "_FillValue",
        "missing_value",
        "_Unsigned",
        "dtype",
        "flag_values",
        "flag_masks",
        "flag_meanings",
        # which numbers there were, in which unit
        "valid_range",
        "valid_min",
        "valid_max",
        "actual_range",
        "units",
    }
)


def array_documents(
    template: ZarrSource, dtype: np.dtype[Any], layout: Layout, extent: Extent | None = None
) -> dict[str, bytes]:
    """The metadata documents of the new array, and of the groups that it is in where those need one, by key.

    The array keeps the path, format, dimension names, key encoding and attributes of `template`, except for
    `STALE_ATTRIBUTES`: what described the stored numbers, their range and their unit is not true of normalized ones. The fill
    value is 0 in format 3 and null in format 2, where xarray takes it for a mark of missing values and would mask every 0.
    Shape and dims are those of `template` unless `extent` is given.

    Raises
    ------
    ConfigError
        Where Zarr refuses the layout.
    """
    source, extent = template.zarr_array, extent or Extent.of(template)
    memory = MemoryStore()
    attributes = {name: value for name, value in source.attrs.asdict().items() if name not in STALE_ATTRIBUTES}
    if NAMES_ATTRIBUTE in attributes:
        attributes[NAMES_ATTRIBUTE] = _dim_names(template, extent, attributes[NAMES_ATTRIBUTE])
    options = creation_options(template, layout)
    if options["zarr_format"] == 3:
        options["dimension_names"] = _dim_names(template, extent, getattr(source.metadata, "dimension_names", None))
    try:
        zarr.create_array(
            memory,
            name=template.array or None,
            shape=extent.shape,
            dtype=dtype,
            fill_value=0 if options["zarr_format"] == 3 else None,
            attributes=attributes,
            **options,
        )
    except Exception as error:
        raise ConfigError(
            "the output cannot be laid out so",
            where="output",
            found=f"chunks {layout.chunks}, shards {layout.shards}, compressors {list(layout.compressors)}",
            expected=f"what Zarr accepts; it says: {error}",
        ) from error
    return {key: get_bytes(memory, key) or b"" for key in list_keys(memory)}


def _dim_names(template: ZarrSource, extent: Extent, stored: Any) -> Any:
    """The names that the output stores of its dims, where `template` stores these: none where it has none."""
    if not isinstance(stored, (list, tuple)) or len(stored) != len(template.dims):
        return stored
    own = dict(zip(template.dims, stored, strict=True))
    return [own.get(dim, dim) for dim in extent.sizes]


def patch_consolidated(key: str, content: bytes, array: str, documents: Mapping[str, bytes]) -> bytes:
    """`content` of the document `key` with what it repeats of the array's metadata brought up to date.

    Parameters
    ----------
    key : str
        Of a `.zmetadata` (format 2) or a group's `zarr.json` (format 3), from the root of the store on.
    content : bytes
    array : str
        Path of the new array.
    documents : mapping of str to bytes
        The new array's documents by key.

    Returns
    -------
    bytes
        `content` itself where it repeats nothing of the array.
    """
    group, name = parent_path(key), key.rpartition("/")[2]
    below = f"{group}/" if group else ""
    if not array.startswith(below) or name not in ("zarr.json", ".zmetadata"):
        return content
    whole = json.loads(content)
    held = whole if name == ".zmetadata" else whole.get("consolidated_metadata") or {}
    entries = held.get("metadata") or {}
    relative = array[len(below) :]
    names = {relative: "zarr.json"} if name == "zarr.json" else {f"{relative}/{each}": each for each in (".zarray", ".zattrs")}
    repeated = {entry: document for entry, document in names.items() if entry in entries}
    if not repeated:
        return content
    for entry, document in repeated.items():
        entries[entry] = json.loads(documents[join_path(array, document)])
    return json.dumps(whole, indent=2).encode()
