"""The story for several arrays of one store: one plan, the reads of each, one output, one collection of manifests.

Not here: how one array is planned, fitted and written (`run.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.apply import Write
from pipeline.arrays_config import ArraysConfig, ArraysOutputConfig, of_array
from pipeline.cluster import connect, workers_of, workers_planned
from pipeline.config import ApplyConfig, ApplyOutputConfig, SourceConfig
from pipeline.errors import ConfigError, some_of
from pipeline.executor import Workers
from pipeline.gather import EVERYTHING
from pipeline.inference import ManifestCollection
from pipeline.inference.stored import chain_for
from pipeline.job import open_config_source
from pipeline.manifest import check_destination
from pipeline.manifest.collection import member_folder
from pipeline.passes import fit_plan, write_pass
from pipeline.plan import Plan, require_memory
from pipeline.prepare import Prepared, extent_of, plan_of_apply, plan_run, planned_extent, prepare
from pipeline.progress import Reporter, SilentReporter
from pipeline.run import fit_before_writing, fit_job, write_job
from pipeline.sink.several import Part, arrays_cut, create_outputs
from pipeline.sink.zarr_sink import check_output
from pipeline.source.zarr_source import ZarrSource


@dataclass(frozen=True)
class ArraysResult:
    """What `zarrnorm run` made of several arrays."""

    manifest: ManifestCollection
    manifest_path: Path
    output_store: str


@dataclass(frozen=True)
class ArraysPlan:
    """Everything that a run of several arrays will do.

    Parameters
    ----------
    plans : mapping of str to Plan
        Of each array.
    """

    plans: Mapping[str, Plan]

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON types: totals, then every pass and phase with its array, in the order in which a run does them."""
        each = {name: plan.to_json() for name, plan in self.plans.items()}
        phases = [{"array": name, **phase} for name, content in each.items() for phase in content["phases"]]
        totals = {
            key: sum(content[key] for content in each.values())
            for key in ("fit_passes", "reads", "blocks", "tasks", "bytes_read", "bytes_written")
        }
        return {
            "arrays": len(each),
            **totals,
            "peak_bytes_per_worker": max(content["peak_bytes_per_worker"] for content in each.values()),
            "threads_per_worker": max(content["threads_per_worker"] for content in each.values()),
            "passes": [{"array": name, **one} for name, content in each.items() for one in content["passes"]],
            "phases": sorted(phases, key=lambda phase: phase["name"] == "apply"),
        }


class NamingReporter(SilentReporter):
    """Tells another reporter of phases, with the array's name behind theirs.

    Parameters
    ----------
    reporter : Reporter
    name : str
        The array's.
    """

    def __init__(self, reporter: Reporter, name: str) -> None:
        self._reporter = reporter
        self._name = name

    def start(self, phase: str, total_bytes: int, total_blocks: int) -> None:
        """Begin a phase of this array."""
        self._reporter.start(f"{phase} {self._name}", total_bytes, total_blocks)

    def advance(self, nbytes: int, blocks: int = 1) -> None:
        """Pass it on."""
        self._reporter.advance(nbytes, blocks)

    def finish(self) -> None:
        """Pass it on."""
        self._reporter.finish()


def plan_arrays(config: ArraysConfig) -> ArraysPlan:
    """What `run_arrays` would do; reads metadata and labels, no data."""
    prepared = _prepare_all(config)
    for name, each in prepared.items():
        with of_array(name):
            each.job.require_seen()
    workers = workers_planned(config.cluster)
    plans = _plan_all(config, prepared, workers)
    _require_memory(plans, workers)
    return ArraysPlan(plans)


def _plan_all(config: ArraysConfig, prepared: Mapping[str, Prepared], workers: Workers) -> dict[str, Plan]:
    plans = {}
    for name, each in prepared.items():
        with of_array(name):
            plans[name] = plan_run(each, config.each[name], replace(workers, memory_bytes=None))
    return _beside_each_other(plans)


def _beside_each_other(plans: Mapping[str, Plan]) -> dict[str, Plan]:
    """The plan of each array, beside the parameters of all the others."""
    total = sum(found.parameter_bytes for found in plans.values())
    return {name: found.beside(total - found.parameter_bytes) for name, found in plans.items()}


def _require_memory(plans: Mapping[str, Plan], workers: Workers) -> None:
    for name, found in plans.items():
        with of_array(name):
            require_memory(found, workers)


def fit_arrays(config: ArraysConfig, reporter: Reporter, debug: bool = False) -> ManifestCollection:
    """Fit each array as `config` says, one after the other, and save the manifests together; see `fit_config`."""
    check_destination(config.output.manifest, config.output.overwrite)
    prepared = _prepare_all(config)
    _check_all(prepared)
    found = {}
    with connect(config.cluster, debug) as executor:
        workers = workers_of(executor)
        plans = {name: fit_plan(each.job, each.passes, workers) for name, each in prepared.items()}
        _require_memory(_beside_each_other(plans), workers)
        for name, each in prepared.items():
            with of_array(name):
                found[name] = fit_job(each.job, each.passes, executor, NamingReporter(reporter, name))
    collection = ManifestCollection(found)
    collection.save(config.output.manifest, overwrite=config.output.overwrite)
    return collection


def run_arrays(config: ArraysConfig, reporter: Reporter, debug: bool = False) -> ArraysResult:
    """Fit each array as `config` says, write all of them, then what makes the store open, then the manifests.

    All are fitted before anything is written; a failure in any array leaves nothing that opens. See `run_config`.
    """
    output = config.output
    check_destination(output.manifest, output.overwrite)
    prepared = _prepare_all(config)
    for name, each in prepared.items():
        with of_array(name):
            each.job.require_seen()
    _check_all(prepared)
    parts = {}
    for name, each in prepared.items():
        given = config.arrays[name]
        parts[name] = Part(each.source, each.job.output_dtype, planned_extent(each.job), given.chunks, given.shards)
    _check_output(parts, output)
    manifests = {}
    with connect(config.cluster, debug) as executor:
        workers = workers_of(executor)
        _require_memory(_plan_all(config, prepared, workers), workers)
        fits = {}
        for name, each in prepared.items():
            with of_array(name):
                fits[name] = fit_before_writing(each, executor, NamingReporter(reporter, name))
            extent = extent_of(each.job.chain(fits[name][0][EVERYTHING]), each.source)
            parts[name] = replace(parts[name], extent=extent)
        with create_outputs(parts, output.store, output.compressors, output.overwrite) as sinks:
            for name, each in prepared.items():
                with of_array(name):
                    manifests[name] = write_job(each, fits.pop(name), sinks[name], executor, NamingReporter(reporter, name))
            sinks.commit()
    collection = ManifestCollection(manifests)
    collection.save(output.manifest, overwrite=output.overwrite)
    return ArraysResult(collection, Path(output.manifest), output.store)


def apply_collection(collection: ManifestCollection, config: ApplyConfig, reporter: Reporter, debug: bool = False) -> str:
    """Write the arrays of a store, each transformed by its manifest, to the output of `config`; returns the store's path.

    Raises
    ------
    ConfigError
        Where `config` says of one array what there is one of for each.
    InputMismatchError
        Where an array does not fit its manifest.
    """
    _refuse_what_is_of_one(config, collection)
    output, sources, chains = config.output, {}, {}
    for name, manifest in collection.items():
        with of_array(name):
            sources[name] = _open(config.source, name, manifest.chain.dims)
            chains[name] = chain_for(manifest, sources[name])
            sources[name].check()
    parts = {name: Part(source, chains[name].output_dtype, extent_of(chains[name], source)) for name, source in sources.items()}
    _check_output(parts, output)
    with connect(config.cluster, debug) as executor:
        workers = workers_of(executor)
        each = {name: plan_of_apply(collection[name], chains[name], sources[name], config, workers) for name in collection}
        _require_memory(_beside_each_other(each), workers)
        with create_outputs(parts, output.store, output.compressors, output.overwrite) as sinks:
            for name, source in sources.items():
                named = NamingReporter(reporter, name)
                with of_array(name):
                    write_pass(Write(source, chains[name], sinks[name]), int(config.block_bytes), executor, named)
            sinks.commit()
    return output.store


def _prepare_all(config: ArraysConfig) -> dict[str, Prepared]:
    found = {}
    for name, each in config.each.items():
        with of_array(name):
            found[name] = prepare(each)
    return found


def _check_all(prepared: Mapping[str, Prepared]) -> None:
    """Raise ChunkError where a chunk of any array is missing."""
    for name, each in prepared.items():
        with of_array(name):
            each.source.check()


def _check_output(parts: Mapping[str, Part], output: ArraysOutputConfig | ApplyOutputConfig) -> None:
    """Raise, before any work is done, what `create_outputs` would raise."""
    for name, part in parts.items():
        with of_array(name):
            check_output(
                part.template,
                output.store,
                part.dtype,
                part.chunks,
                part.shards,
                output.compressors,
                output.overwrite,
                part.extent,
            )
    arrays_cut(parts)


def _open(config: SourceConfig, name: str, dims: tuple[str, ...]) -> ZarrSource:
    return open_config_source(config.model_copy(update={"array": name}), dims)


def _refuse_what_is_of_one(config: ApplyConfig, collection: ManifestCollection) -> None:
    folders = [member_folder(index, name) for index, name in enumerate(collection)]
    given = {
        "source.array": config.source.array,
        "source.dims": config.source.dims,
        "source.sample_dim": config.source.sample_dim,
        "output.chunks": config.output.chunks,
        "output.shards": config.output.shards,
    }
    for where, value in given.items():
        if value is not None:
            raise ConfigError(
                "does not go with a collection of manifests, which has several arrays",
                where=where,
                found=value,
                expected="nothing: arrays are found by their names, and keep their layout",
                remedy=f"leave it out, or give the folder of one array in that of the collection: {some_of(folders)}",
            )
