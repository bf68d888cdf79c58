"""dask-ml: `python -m benchmark.peers.dask_ml StandardScaler`, or MinMaxScaler."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from dask_ml.preprocessing import MinMaxScaler, StandardScaler

from benchmark.driver import Clock, Statistics, Work, load_statistics, serve
from benchmark.peers.lazy import as_table, lazy_input, use_threads, write
from benchmark.task import Task

SCALERS = {"StandardScaler": StandardScaler, "MinMaxScaler": MinMaxScaler}


class Driver:
    """One of the scalers."""

    def __init__(self, name: str) -> None:
        self._scaler = SCALERS[name]

    def fit(self, task: Task, clock: Clock) -> Statistics:
        """Fit on the array as a table."""
        use_threads(task)
        with clock.timed():
            scaler = self._fitted(task)
        return _found(scaler)

    def _fitted(self, task: Task) -> Any:
        return self._scaler().fit(as_table(lazy_input(task), task).rechunk({1: -1}))  # it takes no chunks of columns

    def apply(self, task: Task, clock: Clock) -> None:
        """Transform and write with a scaler that has known statistics."""
        use_threads(task)
        scaler = self._restored(task)
        with clock.timed():
            _apply(scaler, task)

    def run(self, task: Task, clock: Clock) -> Statistics:
        """Both."""
        use_threads(task)
        with clock.timed():
            scaler = self._fitted(task)
            _apply(scaler, task)
        return _found(scaler)

    def _restored(self, task: Task) -> Any:
        found = {name: values.astype(np.float32) for name, values in load_statistics(task).items()}
        scaler = self._scaler()
        if isinstance(scaler, StandardScaler):
            scaler.mean_, scaler.scale_ = found["mean"], found["std"]
        else:
            scaler.scale_ = 1 / (found["max"] - found["min"])
            scaler.min_ = -found["min"] * scaler.scale_
        return scaler


def _apply(scaler: Any, task: Task) -> None:
    values = lazy_input(task)
    table = as_table(values, task).astype(np.float32)
    write(scaler.transform(table).reshape(values.shape).astype(np.float32), task)


def _found(scaler: Any) -> dict[str, Any]:
    if isinstance(scaler, StandardScaler):
        return {"mean": scaler.mean_, "std": np.sqrt(scaler.var_)}
    return {"min": scaler.data_min_, "max": scaler.data_max_}


def main() -> None:
    """Serve."""
    driver = Driver(sys.argv[1])
    works: dict[str, Work] = {"fit": driver.fit, "apply": driver.apply, "run": driver.run}
    serve(works, ("dask-ml", "dask", "scikit-learn", "numpy", "zarr"))


if __name__ == "__main__":
    main()
