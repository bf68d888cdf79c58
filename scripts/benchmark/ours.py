"""This program as a contender: the route of a configuration, in one warm process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.driver import Clock, Statistics, Work, serve
from benchmark.task import Task
from pipeline import Manifest
from pipeline.config import ApplyConfig, Config, parse_config
from pipeline.plan import Plan
from pipeline.progress import SilentReporter
from pipeline.run import apply_manifest, fit_config, plan_config, run_config


def chain(kind: str, per: tuple[str, ...]) -> list[Any]:
    """The steps of each kind of task."""
    if kind == "quantiles":
        return [{"robust": {"per": list(per)}}]
    if kind == "cells":
        return [{"library_size": {"target": 10_000}}, "log1p", {"zscore": {"per": list(per)}}]
    return [{"zscore": {"per": list(per)}}]


def configuration(task: Task) -> Config:
    """What this program is told."""
    document = {**_places(task), "normalize": chain(task.kind, task.per)}
    document["output"] = {**document["output"], "manifest": str(_manifest_path(task)), "dtype": "float32"}
    return parse_config(document, Config)


def planned(task: Task) -> Plan:
    """What this program would do."""
    return plan_config(configuration(task))


def _places(task: Task) -> dict[str, Any]:
    return {
        "source": {"store": task.store, "array": task.array, "dims": list(task.dims)},
        "output": {"store": task.output, "overwrite": True},
        "cluster": {"kind": "local", "workers": 1, "threads_per_worker": task.threads},
        "block_bytes": task.block_bytes,
    }


def _manifest_path(task: Task) -> Path:
    return Path(task.output).with_suffix(".manifest")


def fit(task: Task, clock: Clock) -> Statistics:
    """Fit the chain; what it found."""
    _predict(task, clock)
    with clock.timed():
        manifest = fit_config(configuration(task), SilentReporter())
    return found(manifest)


def apply(task: Task, clock: Clock) -> None:
    """Write a store with the manifest beside the statistics that everybody applies."""
    _predict(task, clock)
    with clock.timed():
        manifest = Manifest.load(Path(task.statistics).with_suffix(".manifest"))
        apply_manifest(manifest, parse_config(_places(task), ApplyConfig), SilentReporter())


def run(task: Task, clock: Clock) -> Statistics:
    """Fit and write."""
    _predict(task, clock)
    with clock.timed():
        result = run_config(configuration(task), SilentReporter())
    return found(result.manifest)


def _predict(task: Task, clock: Clock) -> None:
    phases = planned(task).phases
    wanted = {"fit": phases[:-1], "quantiles": phases[:-1], "apply": phases[-1:]}.get(task.kind, phases)
    clock.extra["predicted_bytes"] = max(phase.peak_bytes_per_worker for phase in wanted)
    clock.said["codec_pipeline"] = "that of zarrs, without zarr-python"


def found(manifest: Manifest) -> dict[str, Any]:
    """What the last pass found per feature, as `numpy.savez` takes it; the deviation with ddof 0."""
    statistics = manifest.statistics[-1].statistics
    return {
        "mean": statistics.mean(),
        "std": statistics.std(0),
        "min": statistics.minimum(),
        "max": statistics.maximum(),
    }


def main() -> None:
    """Serve."""
    works: Mapping[str, Work] = {"fit": fit, "quantiles": fit, "apply": apply, "run": run, "cells": run}
    serve(works, ("zarrnorm", "dask", "numba", "numpy", "zarr"))


if __name__ == "__main__":
    main()
