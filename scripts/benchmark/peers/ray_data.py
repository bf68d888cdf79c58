"""Ray Data's StandardScaler on a column a feature; `read_zarr` reads format 2 only, so blocks are read by `map_batches`."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pyarrow
import ray
import ray.data
from ray.data.preprocessors import StandardScaler

from benchmark.blocks import open_input, whole_rows
from benchmark.driver import Clock, Statistics, serve
from benchmark.task import Task

BLOCK_BYTES = 200 * 2**20
OBJECT_STORE_BYTES = 2 * 2**30
NO_OTHER = "fits only: Ray Data writes no Zarr"


def _columns(task: Task) -> Any:
    """A dataset with one row a sample (for images: a pixel) and one column a feature."""
    wanted = [[(part.start, part.stop) for part in box] for box in whole_rows(task, BLOCK_BYTES)]

    def read(batch: dict[str, Any]) -> pyarrow.Table:
        array = open_input(task)
        (number,) = batch["id"]
        values: Any = array[tuple(slice(*part) for part in wanted[int(number)])]
        features = int(np.prod([size for axis, size in enumerate(values.shape) if axis not in task.reduced], dtype=int))
        columns = np.ascontiguousarray(values.reshape(-1, features).T)
        return pyarrow.table({str(number): pyarrow.array(column) for number, column in enumerate(columns)})

    return ray.data.range(len(wanted), override_num_blocks=len(wanted)).map_batches(read, batch_size=1)


def fit(task: Task, clock: Clock) -> Statistics:
    """Fit mean and standard deviation of every column."""
    ray.init(
        num_cpus=task.threads,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        _node_ip_address="127.0.0.1",
        logging_level=logging.ERROR,
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        array = open_input(task)
        count = int(np.prod([size for axis, size in enumerate(array.shape) if axis not in task.reduced], dtype=int))
        names = [str(number) for number in range(count)]
        with clock.timed():
            scaler = StandardScaler(columns=names).fit(_columns(task))
        stats = scaler.stats_
        return {what: np.array([stats[f"{what}({name})"] for name in names]) for what in ("mean", "std")}
    finally:
        ray.shutdown()


def main() -> None:
    """Serve."""
    serve({"fit": fit}, ("ray", "pyarrow", "numpy", "zarr"), NO_OTHER, elsewhere=True)


if __name__ == "__main__":
    main()
