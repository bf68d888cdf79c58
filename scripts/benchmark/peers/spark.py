"""Spark MLlib's StandardScaler on a column of vectors; rows are read from Zarr by `mapInArrow`: Spark has no reader."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow
from pyspark.ml.feature import StandardScaler
from pyspark.ml.functions import array_to_vector
from pyspark.sql import DataFrame, SparkSession

from benchmark.blocks import open_input, whole_rows
from benchmark.driver import Clock, Statistics, serve
from benchmark.task import Task

BLOCK_BYTES = 16 * 2**20
RECORD_BATCH_BYTES = 4 * 2**20
NO_OTHER = "fits only: Spark writes no Zarr"


def session(task: Task) -> SparkSession:
    """Spark in this process's machine, on as many threads as the task says."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    return (
        SparkSession.builder.master(f"local[{task.threads}]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "6g")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .getOrCreate()
    )


def _rows(spark: SparkSession, task: Task) -> DataFrame:
    """One row a sample (for images: a pixel), whose only column is an array of its features."""
    wanted = [[(part.start, part.stop) for part in box] for box in whole_rows(task, BLOCK_BYTES)]

    def read(batches: Iterator[pyarrow.RecordBatch]) -> Iterator[pyarrow.RecordBatch]:
        array = open_input(task)
        for batch in batches:
            for number in batch.column(0).to_pylist():
                yield from _record_batches(array[tuple(slice(*part) for part in wanted[number])], task)

    numbers = spark.range(0, len(wanted), 1, numPartitions=len(wanted))
    return numbers.mapInArrow(read, "features array<float>")


def _record_batches(values: Any, task: Task) -> Iterator[pyarrow.RecordBatch]:
    features = int(np.prod([size for axis, size in enumerate(values.shape) if axis not in task.reduced], dtype=int))
    table = np.ascontiguousarray(values, np.float32).reshape(-1, features)
    rows = max(1, RECORD_BATCH_BYTES // (4 * features))
    for first in range(0, len(table), rows):
        part = table[first : first + rows]
        offsets = np.arange(0, part.size + 1, features, dtype=np.int32)
        column = pyarrow.ListArray.from_arrays(pyarrow.array(offsets), pyarrow.array(part.ravel()))
        yield pyarrow.RecordBatch.from_arrays([column], ["features"])


def fit(task: Task, clock: Clock) -> Statistics:
    """Fit mean and standard deviation."""
    spark = session(task)
    with clock.timed():
        vectors = _rows(spark, task).select(array_to_vector("features").alias("vector"))
        model = StandardScaler(withMean=True, withStd=True, inputCol="vector", outputCol="scaled").fit(vectors)
    array = open_input(task)
    counted = math.prod(array.shape[axis] for axis in task.reduced)
    return {"mean": model.mean.toArray(), "std": model.std.toArray() * math.sqrt(1 - 1 / counted)}  # its ddof is 1


def main() -> None:
    """Serve."""
    serve({"fit": fit}, ("pyspark", "pyarrow", "numpy", "zarr"), NO_OTHER, elsewhere=True)


if __name__ == "__main__":
    main()
