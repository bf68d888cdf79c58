"""TensorFlow Transform: an analysis of mean and variance on Beam's runner for one machine."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import apache_beam
import numpy as np
import pyarrow
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.tfxio.tensor_adapter import TensorAdapterConfig

from benchmark.blocks import open_input, whole_rows
from benchmark.driver import Clock, Statistics, serve
from benchmark.task import Task

BLOCK_BYTES = 64 * 2**20
BATCH_BYTES = 8 * 2**20
NO_OTHER = "fits only: it writes no Zarr, and its batches come in no order"


def _batches(bounds: list[tuple[int, int]], task: Task) -> Iterator[pyarrow.RecordBatch]:
    """A block as record batches with one list of values a sample."""
    values: Any = open_input(task)[tuple(slice(*part) for part in bounds)]
    samples = values.reshape(len(values), -1).astype(np.float32, copy=False)
    rows = max(1, BATCH_BYTES // samples[0].nbytes)
    for first in range(0, len(samples), rows):
        part = samples[first : first + rows]
        offsets = np.arange(0, part.size + 1, part.shape[1])
        column = pyarrow.LargeListArray.from_arrays(pyarrow.array(offsets), pyarrow.array(part.ravel()))
        yield pyarrow.RecordBatch.from_arrays([column], ["x"])


def _dense(size: int) -> TensorAdapterConfig:
    """How a record batch becomes a tensor of so many values a sample."""
    tensor = schema_pb2.TensorRepresentation()
    tensor.dense_tensor.column_name = "x"
    tensor.dense_tensor.shape.dim.add().size = size
    return TensorAdapterConfig(pyarrow.schema([("x", pyarrow.large_list(pyarrow.float32()))]), {"x": tensor})


def fit(task: Task, clock: Clock) -> Statistics:
    """Analyze; mean and standard deviation are read from the transformation it gives."""
    folder = tempfile.mkdtemp()
    shape = open_input(task).shape
    size = int(np.prod(shape[1:]))
    features = int(np.prod([length for axis, length in enumerate(shape) if axis not in task.reduced], dtype=int))

    def preprocess(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        table = tf.reshape(inputs["x"], [-1, features])
        mean = tft.mean(table, reduce_instance_dims=False)
        variance = tft.var(table, reduce_instance_dims=False)
        ones = tf.ones_like(inputs["x"][:, :1])
        return {"mean": ones * mean, "std": ones * tf.sqrt(variance)}

    wanted = [[(part.start, part.stop) for part in box] for box in whole_rows(task, BLOCK_BYTES)]
    options = PipelineOptions(direct_num_workers=task.threads, direct_running_mode="multi_threading")
    try:
        with (
            clock.timed(),
            apache_beam.Pipeline(runner=FnApiRunner(), options=options) as pipeline,
            tft_beam.Context(temp_dir=folder),
        ):
            raw = pipeline | apache_beam.Create(wanted) | apache_beam.Reshuffle() | apache_beam.FlatMap(_batches, task)
            function = (raw, _dense(size)) | tft_beam.AnalyzeDataset(preprocess)
            function | tft_beam.WriteTransformFn(f"{folder}/function")
        transform = tft.TFTransformOutput(f"{folder}/function").transform_features_layer()
        found = transform({"x": tf.zeros([1, size])})
        return {name: found[name].numpy()[0] for name in ("mean", "std")}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Serve."""
    serve({"fit": fit}, ("tensorflow-transform", "tensorflow", "apache-beam", "numpy", "zarr"), NO_OTHER, elsewhere=True)


if __name__ == "__main__":
    main()
