"""scikit-learn's StandardScaler by `partial_fit`: one block after another, while threads read the next ones."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from benchmark.blocks import Box, create_output, open_input, whole_rows
from benchmark.driver import Clock, Statistics, load_statistics, serve
from benchmark.task import Task

BLOCK_BYTES = 16 * 2**20


def _tables(task: Task) -> Iterator[NDArray[Any]]:
    """Blocks as samples by features, read ahead on the task's threads."""
    array = open_input(task)
    features = math.prod(size for axis, size in enumerate(array.shape) if axis not in task.reduced)

    def read(box: Box) -> NDArray[Any]:
        return np.asarray(array[box]).reshape(-1, features)

    wanted = whole_rows(task, BLOCK_BYTES)
    with ThreadPoolExecutor(task.threads) as pool:
        ahead: deque[Future[NDArray[Any]]] = deque(pool.submit(read, box) for box in islice(wanted, task.threads))
        while ahead:
            values = ahead.popleft().result()
            ahead.extend(pool.submit(read, box) for box in islice(wanted, 1))
            yield values


def _fitted(task: Task) -> StandardScaler:
    scaler = StandardScaler()
    for table in _tables(task):
        scaler.partial_fit(table)
    return scaler


def fit(task: Task, clock: Clock) -> Statistics:
    """Fit block by block."""
    with clock.timed():
        scaler = _fitted(task)
    return _found(scaler)


def apply(task: Task, clock: Clock) -> None:
    """Transform blocks and write them, each on a thread, with statistics that are known."""
    found = load_statistics(task)
    scaler = StandardScaler()
    scaler.mean_, scaler.scale_, scaler.var_ = found["mean"], found["std"], found["std"] ** 2
    scaler.n_features_in_ = len(scaler.mean_)
    with clock.timed():
        _apply(scaler, task)


def _apply(scaler: StandardScaler, task: Task) -> None:
    source, output = open_input(task), create_output(task)

    def one(box: Box) -> None:
        values = np.asarray(source[box])
        table = values.reshape(-1, scaler.n_features_in_).astype(np.float32)
        output[box] = scaler.transform(table, copy=False).reshape(values.shape)

    with ThreadPoolExecutor(task.threads) as pool:
        list(pool.map(one, whole_rows(task, BLOCK_BYTES)))


def run(task: Task, clock: Clock) -> Statistics:
    """Both."""
    with clock.timed():
        scaler = _fitted(task)
        _apply(scaler, task)
    return _found(scaler)


def _found(scaler: StandardScaler) -> dict[str, Any]:
    return {"mean": scaler.mean_, "std": np.sqrt(scaler.var_)}


def main() -> None:
    """Serve."""
    serve({"fit": fit, "apply": apply, "run": run}, ("scikit-learn", "numpy", "zarr"))


if __name__ == "__main__":
    main()
