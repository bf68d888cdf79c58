"""What drivers on Dask arrays share: reading lazily on threads, in chunks of a size that measured best."""

from __future__ import annotations

import math
from typing import Any

import dask
import dask.array as da

from benchmark.blocks import create_output, open_input
from benchmark.task import Task

CHUNK_BYTES = 6 * 2**20


def use_threads(task: Task) -> None:
    """Compute on as many threads as the task says, without a cluster."""
    dask.config.set(scheduler="threads", num_workers=task.threads)


def lazy_input(task: Task) -> Any:
    """The array as a Dask array; small chunks are taken together along the first dim."""
    array = open_input(task)
    unit = array.shards or array.chunks
    count = max(1, CHUNK_BYTES // (math.prod(unit) * array.dtype.itemsize))
    return da.from_zarr(array, chunks=(unit[0] * count, *unit[1:]))


def as_table(values: Any, task: Task) -> Any:
    """`values` as samples by features, for what takes nothing else."""
    features = math.prod(size for axis, size in enumerate(values.shape) if axis not in task.reduced)
    return values.reshape(-1, features)


def write(values: Any, task: Task) -> None:
    """Store a Dask array of the input's shape as the output."""
    output: Any = create_output(task)
    da.store(values, output, lock=False, compute=True)
