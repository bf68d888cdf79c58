"""The least that any program does: read and decode every chunk; for a new store also convert, encode and write.

`python -m benchmark.floors NAME` is one of three: `zarr` reads through zarr-python with the compiled codecs that this program
uses, `default` with zarr-python's own, `direct` decodes the stored objects without it. None uses this program's code.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from benchmark.blocks import Box, boxes, create_output, open_input
from benchmark.driver import CannotError, Clock, Work, serve
from benchmark.task import Task

COMPILED_CODECS = {
    "codec_pipeline.path": "zarrs.ZarrsCodecPipeline",
    "codec_pipeline.strict": True,
    "codec_pipeline.chunk_concurrent_maximum": 1,
    "threading.max_workers": 1,
}
DEFAULT_PIPELINE = "zarr.core.codec_pipeline.BatchedCodecPipeline"


def each_box(threads: int, work: Callable[[Box], None], wanted: Iterable[Box]) -> None:
    """Do `work` on every box, so many at once."""
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, wanted):
            pass


def read(task: Task, clock: Clock) -> None:
    """Read and decode the task's blocks, and drop them."""
    with clock.timed():
        _read(task)
    clock.said["codec_pipeline"] = str(zarr.config.get("codec_pipeline.path"))


def _read(task: Task) -> None:
    array = open_input(task)
    each_box(task.threads, lambda box: _drop(array[box]), boxes(array.shape, task.fit_block))


def _drop(values: Any) -> None:
    """Let go of a block."""


def copy(task: Task, clock: Clock) -> None:
    """Write the same output: read the task's blocks, convert them, then encode and write."""
    values = _output_values(task)
    with clock.timed():
        _copy(task, values)


def read_and_copy(task: Task, clock: Clock) -> None:
    """What a fit and the writing pass after it cost at least: two reads, one write."""
    values = _output_values(task)
    with clock.timed():
        _read(task)
        _copy(task, values)


def _output_values(task: Task) -> NDArray[Any]:
    """A block of real output, repeated from a smaller one: encoding depends on the values, and the floor computes none."""
    small: NDArray[Any] = np.asarray(zarr.open_array(task.template, path=task.array, mode="r")[...])
    rows = np.arange(task.apply_block[0]) % len(small)
    return small[rows]


def _copy(task: Task, values: NDArray[Any]) -> None:
    source, output = open_input(task), create_output(task)

    def one(box: Box) -> None:
        block = np.asarray(source[box])
        _drop(block.astype(values.dtype))
        output[box] = values[tuple(slice(0, part.stop - part.start) for part in box)]

    each_box(task.threads, one, boxes(source.shape, task.apply_block))


def default_read(task: Task, clock: Clock) -> None:
    """As `read`, by zarr-python as it comes."""
    with zarr.config.set({"codec_pipeline.path": DEFAULT_PIPELINE}):
        read(task, clock)


def direct_read(task: Task, clock: Clock) -> None:
    """Read every stored object into one buffer a thread, and decode it into another."""
    array = open_input(task)
    if array.shards is not None or len(array.compressors) != 1 or not isinstance(array.compressors[0], BloscCodec):
        raise CannotError("only chunks that are one Blosc frame each")
    folder = Path(task.store) / task.array / "c"
    with clock.timed():
        paths = [path for path in folder.rglob("*") if path.is_file()]
        per_thread = math.ceil(len(paths) / task.threads)
        parts = [paths[first : first + per_thread] for first in range(0, len(paths), per_thread)]
        with ThreadPoolExecutor(task.threads) as pool:
            list(pool.map(partial(_decode, nbytes=math.prod(array.chunks) * array.dtype.itemsize), parts))


def _decode(paths: list[Path], nbytes: int) -> None:
    import numcodecs.blosc

    stored = np.empty(max((path.stat().st_size for path in paths), default=0), np.uint8)
    decoded = np.empty(nbytes, np.uint8)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            count = file.readinto(stored.data)
        numcodecs.blosc.decompress(stored[:count], decoded)


def adopt_codec_pipeline() -> None:
    """Read, and write, with the compiled codecs that this program reads with."""
    zarr.config.set(COMPILED_CODECS)


def main() -> None:
    """Serve the floor that the command line names."""
    name = sys.argv[1]
    if name == "zarr":
        adopt_codec_pipeline()
    works: dict[str, dict[str, Work]] = {
        "zarr": {"fit": read, "quantiles": read, "apply": copy, "run": read_and_copy, "cells": read_and_copy},
        "default": {"fit": default_read},
        "direct": {"fit": direct_read},
    }
    serve(works[name], ("zarr", "numpy"), "a floor of reading")


if __name__ == "__main__":
    main()
