"""xarray over Dask: mean, variance, minimum and maximum by name, in one `dask.compute`."""

from __future__ import annotations

from typing import Any

import dask
import numpy as np
import xarray

from benchmark.driver import Clock, Statistics, load_statistics, serve
from benchmark.peers.lazy import lazy_input, use_threads, write
from benchmark.task import Task


def _open(task: Task) -> xarray.DataArray:
    """As `open_zarr`, in the chunks that measured best."""
    chunks = dict(zip(task.dims, lazy_input(task).chunksize, strict=True))
    values: xarray.DataArray = xarray.open_zarr(task.store, chunks=chunks, consolidated=False)[task.array]
    return values


def fit(task: Task, clock: Clock) -> Statistics:
    """All four statistics, read once."""
    use_threads(task)
    with clock.timed():
        return _fit(task)


def _fit(task: Task) -> dict[str, Any]:
    values = _open(task)
    dims = [task.dims[axis] for axis in task.reduced]
    found = dask.compute(values.mean(dims), values.var(dims), values.min(dims), values.max(dims))
    mean, variance, low, high = (each.values for each in found)
    return {"mean": mean, "std": np.sqrt(variance), "min": low, "max": high}


def apply(task: Task, clock: Clock) -> None:
    """Normalize with statistics that are known, and write."""
    use_threads(task)
    found = load_statistics(task)
    with clock.timed():
        _apply(task, found)


def _apply(task: Task, found: Statistics) -> None:
    sizes = _open(task).sizes
    shape = tuple(sizes[dim] for dim in task.per)
    mean, std = (
        xarray.DataArray(np.asarray(found[name], np.float32).reshape(shape), dims=task.per) for name in ("mean", "std")
    )
    normalized = (_open(task).astype(np.float32) - mean) / std
    write(normalized.transpose(*task.dims).data, task)


def run(task: Task, clock: Clock) -> Statistics:
    """Both."""
    use_threads(task)
    with clock.timed():
        found = _fit(task)
        _apply(task, found)
    return found


def main() -> None:
    """Serve."""
    serve({"fit": fit, "apply": apply, "run": run}, ("xarray", "dask", "numpy", "zarr"))


if __name__ == "__main__":
    main()
