"""bridgescaler: a DStandardScaler for each block, on threads, then their sum."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from bridgescaler.distributed import DStandardScaler

from benchmark.blocks import Box, create_output, open_input, whole_rows
from benchmark.driver import Clock, Statistics, load_statistics, serve
from benchmark.task import Task

BLOCK_BYTES = 16 * 2**20


def _fitted(task: Task) -> DStandardScaler:
    array = open_input(task)

    def one(box: Box) -> DStandardScaler:
        scaler = DStandardScaler()
        scaler.fit(_floats(array[box], task))  # it keeps means in the type of the values, which must not be integers
        return scaler

    with ThreadPoolExecutor(task.threads) as pool:
        return reduce(add, pool.map(one, whole_rows(task, BLOCK_BYTES)))


def _floats(values: Any, task: Task) -> Any:
    """`values` with the features last, as the scaler wants them; one column where there is one feature."""
    floats = np.asarray(values, np.float32)
    return floats if task.per else floats.reshape(-1, 1)


def fit(task: Task, clock: Clock) -> Statistics:
    """Fit blocks apart and add."""
    with clock.timed():
        scaler = _fitted(task)
    return _found(scaler)


def apply(task: Task, clock: Clock) -> None:
    """Transform blocks and write them, with statistics that are known."""
    found = load_statistics(task)
    scaler = DStandardScaler()
    scaler.mean_x_, scaler.var_x_ = found["mean"].astype(np.float32), (found["std"] ** 2).astype(np.float32)
    scaler.x_columns_, scaler.n_, scaler._fit = np.arange(len(scaler.mean_x_)), 1, True
    with clock.timed():
        _apply(scaler, task)


def _apply(scaler: DStandardScaler, task: Task) -> None:
    source, output = open_input(task), create_output(task)

    def one(box: Box) -> None:
        values = _floats(source[box], task)
        output[box] = scaler.transform(values).reshape(tuple(part.stop - part.start for part in box))

    with ThreadPoolExecutor(task.threads) as pool:
        list(pool.map(one, whole_rows(task, BLOCK_BYTES)))


def run(task: Task, clock: Clock) -> Statistics:
    """Both."""
    with clock.timed():
        scaler = _fitted(task)
        _apply(scaler, task)
    return _found(scaler)


def _found(scaler: DStandardScaler) -> dict[str, Any]:
    mean, variance = scaler.get_scales()
    return {"mean": mean, "std": np.sqrt(variance)}


def main() -> None:
    """Serve."""
    serve({"fit": fit, "apply": apply, "run": run}, ("bridgescaler", "numpy", "zarr"))


if __name__ == "__main__":
    main()
