"""Boxes of indices and arrays like another, for those who compete with this program: written without it.

Needs Zarr and NumPy only.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, TypeAlias

import zarr

from benchmark.task import Task

Box: TypeAlias = tuple[slice, ...]


def boxes(shape: tuple[int, ...], step: tuple[int, ...]) -> Iterator[Box]:
    """Boxes of `step` that tile `shape`.

    Examples
    --------
    >>> list(boxes((5,), (3,)))
    [(slice(0, 3, None),), (slice(3, 5, None),)]
    """
    ranges = (range(0, size, width) for size, width in zip(shape, step, strict=True))
    for start in product(*ranges):
        yield tuple(slice(at, min(at + width, size)) for at, width, size in zip(start, step, shape, strict=True))


def whole_rows(task: Task, bytes_wanted: int) -> Iterator[Box]:
    """Boxes of whole samples, of about `bytes_wanted` and whole chunks."""
    array = open_input(task)
    unit = (array.shards or array.chunks)[0]
    row_bytes = array.nbytes // array.shape[0]
    rows = max(1, bytes_wanted // (row_bytes * unit)) * unit
    yield from boxes(array.shape, (rows, *array.shape[1:]))


def open_input(task: Task) -> zarr.Array[Any]:
    """The array that `task` is about."""
    return zarr.open_array(task.store, path=task.array, mode="r")


def create_output(task: Task) -> zarr.Array[Any]:
    """An empty array of the shape of the input, stored as the template is."""
    template = zarr.open_array(task.template, path=task.array, mode="r")
    return zarr.create_array(
        task.output,
        name=task.array,
        shape=open_input(task).shape,
        dtype=template.dtype,
        chunks=template.chunks,
        shards=template.shards,
        compressors=template.compressors,
        dimension_names=task.dims,
        config={"write_empty_chunks": True},
    )
