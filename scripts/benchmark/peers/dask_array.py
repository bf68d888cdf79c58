"""Dask arrays: mean, variance, minimum and maximum in one `dask.compute`; normalizing is arithmetic."""

from __future__ import annotations

from typing import Any

import dask
import numpy as np

from benchmark.driver import Clock, Statistics, load_statistics, serve
from benchmark.peers.lazy import lazy_input, use_threads, write
from benchmark.task import Task


def fit(task: Task, clock: Clock) -> Statistics:
    """All four statistics, read once."""
    use_threads(task)
    with clock.timed():
        return _fit(task)


def _fit(task: Task) -> dict[str, Any]:
    values, axes = lazy_input(task), task.reduced
    mean, variance, low, high = dask.compute(values.mean(axes), values.var(axes), values.min(axes), values.max(axes))
    return {"mean": mean, "std": np.sqrt(variance), "min": low, "max": high}


def apply(task: Task, clock: Clock) -> None:
    """Normalize with statistics that are known, and write."""
    use_threads(task)
    found = load_statistics(task)
    with clock.timed():
        _apply(task, found)


def _apply(task: Task, found: Statistics) -> None:
    mean, std = (np.asarray(found[name], np.float32).ravel() for name in ("mean", "std"))
    write((lazy_input(task).astype(np.float32) - mean) / std, task)


def run(task: Task, clock: Clock) -> Statistics:
    """Both."""
    use_threads(task)
    with clock.timed():
        found = _fit(task)
        _apply(task, found)
    return found


def main() -> None:
    """Serve."""
    serve({"fit": fit, "apply": apply, "run": run}, ("dask", "numpy", "zarr"))


if __name__ == "__main__":
    main()
