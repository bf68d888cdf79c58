"""scanpy on Dask arrays: `normalize_total`, `log1p` and `scale` of an AnnData whose X is lazy, then written."""

from __future__ import annotations

import warnings
from typing import Any

import anndata
import dask
import numpy as np
import scanpy

from benchmark.blocks import create_output
from benchmark.driver import CannotError, Clock, Statistics, serve
from benchmark.peers.lazy import lazy_input, use_threads
from benchmark.task import Task

NO_OTHER = "its scale fits and applies in one call, and takes cells by genes only"
TARGET = 10_000


def cells(task: Task, clock: Clock) -> Statistics:
    """The three steps, written."""
    return _written(task, clock, whole_chain=True)


def run(task: Task, clock: Clock) -> Statistics:
    """`scale` alone, written."""
    if task.dims != ("cell", "gene"):
        raise CannotError(NO_OTHER)
    return _written(task, clock, whole_chain=False)


def _written(task: Task, clock: Clock, whole_chain: bool) -> dict[str, Any]:
    use_threads(task)
    with clock.timed(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lazy = lazy_input(task)
        data = anndata.AnnData(lazy.rechunk({1: -1}))  # normalize_total sums over whole cells
        if whole_chain:
            scanpy.pp.normalize_total(data, target_sum=TARGET)
            scanpy.pp.log1p(data)
        scaled, mean, std = scanpy.pp.scale(data.X, return_mean_std=True)
        stored = scaled.astype(np.float32).store(create_output(task), lock=False, compute=False)
        _, mean, std = dask.compute(stored, mean, std)
    return {"mean": mean, "std": std * np.sqrt(1 - 1 / lazy.shape[0])}  # its ddof is 1


def main() -> None:
    """Serve."""
    serve({"run": run, "cells": cells}, ("scanpy", "anndata", "dask", "numpy", "zarr"), NO_OTHER)


if __name__ == "__main__":
    main()
