"""The nodes of a Zarr hierarchy of either format, found from their metadata documents alone.

Not here: opening an array and reading its chunks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from zarr.abc.store import Store

from pipeline.errors import SourceError
from pipeline.source.store import get_bytes, list_dir, store_name

METADATA_NAMES = frozenset({"zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata"})
NODE_NAMES = ("zarr.json", ".zarray", ".zgroup")


@dataclass(frozen=True, slots=True)
class Node:
    """A group or an array.

    Parameters
    ----------
    path : str
        From the root of the store, which is ``""`` itself.
    shape : tuple of int, optional
        None for a group.
    """

    path: str
    shape: tuple[int, ...] | None


def join_path(prefix: str, name: str) -> str:
    """The path of `name` under the node `prefix`."""
    return f"{prefix}/{name}" if prefix else name


def parent_path(path: str) -> str:
    """The path of the group that the node `path` is in."""
    return path.rpartition("/")[0]


def is_metadata(key: str) -> bool:
    """Whether `key` holds a metadata document rather than a chunk."""
    return key.rpartition("/")[2] in METADATA_NAMES


def read_document(store: Store, key: str) -> dict[str, Any] | None:
    """The JSON object stored as `key`, None where there is none; raises SourceError where it is something else."""
    content = get_bytes(store, key)
    if content is None:
        return None
    try:
        document = json.loads(content)
    except ValueError as error:
        raise SourceError("a metadata document is not JSON", where=f"{store_name(store)}: {key}", found=error) from error
    if not isinstance(document, dict):
        raise SourceError(
            "a metadata document is not a JSON object", where=f"{store_name(store)}: {key}", found=type(document).__name__
        )
    return document


def attributes_of(store: Store, path: str) -> dict[str, Any]:
    """The attributes of the node at `path`, none where there is no node."""
    document = read_document(store, join_path(path, "zarr.json"))
    if document is None:
        return read_document(store, join_path(path, ".zattrs")) or {}
    attributes = document.get("attributes")
    return attributes if isinstance(attributes, dict) else {}


def find_node(store: Store, path: str) -> Node | None:
    """The node at `path`, None where there is none."""
    for name in NODE_NAMES:
        document = read_document(store, join_path(path, name))
        if document is None:
            continue
        if name == ".zgroup" or document.get("node_type") == "group":
            return Node(path, None)
        try:
            return Node(path, tuple(int(size) for size in document["shape"]))
        except (KeyError, TypeError, ValueError) as error:
            raise SourceError(
                "an array's metadata has no shape", where=f"{store_name(store)}: {join_path(path, name)}"
            ) from error
    return None


def children(store: Store, path: str) -> Iterator[Node]:
    """The nodes directly in the group `path`, by name; folders and files that are no node are passed over."""
    for name in list_dir(store, path):
        if name not in METADATA_NAMES and (node := find_node(store, join_path(path, name))) is not None:
            yield node


def find_arrays(store: Store, path: str = "") -> Iterator[Node]:
    """Every array at or under `path`, those of a group by name."""
    node = find_node(store, path)
    if node is not None and node.shape is not None:
        yield node
    elif node is not None:
        for child in children(store, path):
            yield from find_arrays(store, child.path)
