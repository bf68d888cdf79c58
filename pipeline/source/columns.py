"""Columns of a table as AnnData writes them: arrays, and groups that hold a categorical or a nullable one in parts.

Not here: which column is meant, and along which dim it lies (`coordinates.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import Store

from pipeline.errors import SourceError
from pipeline.source.hierarchy import Node, attributes_of, find_node, join_path
from pipeline.source.labels import as_text
from pipeline.source.store import store_name

CATEGORICAL = "categorical"
ROWS: Mapping[str, str] = {
    CATEGORICAL: "codes",
    "nullable-integer": "values",
    "nullable-boolean": "values",
    "nullable-string-array": "values",
}


def find_column(store: Store, path: str) -> Node | None:
    """The array at `path`, or, where a group there stands for one, the array in it with a value for each row; None without."""
    node = find_node(store, path)
    if node is None or node.shape is not None:
        return node
    part = ROWS.get(_encoding(store, path))
    found = None if part is None else find_node(store, join_path(path, part))
    return found if found is not None and found.shape is not None else None


def read_column(store: Store, path: str, read: Callable[[str, bool], NDArray[Any]]) -> NDArray[Any]:
    """The values of the column at `path`, which `find_column` finds.

    A categorical one has those of its categories. What is missing is NaN among floats, else None.

    Parameters
    ----------
    store : zarr.abc.store.Store
    path : str
    read : callable
        Given the path of an array, all of its values, and whether an absent chunk of it is no loss.

    Raises
    ------
    SourceError
        Where the parts do not fit together.
    """
    node = find_node(store, path)
    if node is not None and node.shape is not None:
        return as_text(read(path, False))
    encoding = _encoding(store, path)
    rows = read(join_path(path, ROWS[encoding]), False)
    if encoding != CATEGORICAL:  # a mask of which every value is false is often not stored
        return _without(as_text(rows), read(join_path(path, "mask"), True))
    categories = read_column(store, join_path(path, "categories"), read)
    if rows.dtype.kind not in "iu" or (rows >= len(categories)).any():
        raise SourceError(
            "codes that are no categories",
            where=f"{store_name(store)}: {path}",
            found=f"codes of dtype {rows.dtype}, up to {rows.max(initial=0)}",
            expected=f"whole numbers below {len(categories)}",
        )
    known = categories if len(categories) else np.array([None], dtype=object)
    return _without(known[np.maximum(rows, 0)], rows < 0)


def _without(values: NDArray[Any], missing: NDArray[Any]) -> NDArray[Any]:
    """`values` with NaN, or None, where they are `missing`."""
    if not missing.any():
        return values
    if values.dtype.kind == "f":
        return np.where(missing, np.nan, values)
    objects = values.astype(object)
    objects[missing.astype(bool)] = None
    return objects


def _encoding(store: Store, path: str) -> str:
    return str(attributes_of(store, path).get("encoding-type"))
