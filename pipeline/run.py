"""The story on one page: open the source, plan, fit, write the manifest, apply, commit.

Not here: how any of it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.apply import Write
from pipeline.arrays_config import ArraysOutputConfig
from pipeline.cluster import connect, workers_of, workers_planned
from pipeline.config import ApplyConfig, ApplyOutputConfig, Config, OutputConfig
from pipeline.errors import ConfigError, PipelineError
from pipeline.executor import Executor
from pipeline.gather import EVERYTHING
from pipeline.inference import Manifest
from pipeline.inference.stored import chain_for
from pipeline.job import Job, open_config_source
from pipeline.manifest import FittedStatistics, check_destination
from pipeline.manifest.folder import check_free, folder_path
from pipeline.passes import (
    Errors,
    FitOfJob,
    Fitted,
    fit_plan,
    fit_steps,
    fitted_chain,
    gather_task,
    statistics_found,
    write_pass,
)
from pipeline.plan import (
    Pass,
    Plan,
    require_memory,
)
from pipeline.prepare import Prepared, extent_of, hold_input, plan_of_apply, plan_run, planned_extent, prepare
from pipeline.progress import Reporter
from pipeline.sink.staging import stands
from pipeline.sink.zarr_sink import ZarrSink, check_output, create_output
from pipeline.source.store import open_store
from pipeline.versions import versions


@dataclass(frozen=True)
class RunResult:
    """What `zarrnorm run` made."""

    manifest: Manifest
    manifest_path: Path
    output_store: str


def fit_config(config: Config, reporter: Reporter, debug: bool = False) -> Manifest:
    """Fit as `config` says and save the manifest.

    A chain with nothing to fit is described all the same, in one read, unless `fit.describe` is false: its statistics are
    all that could be asked for here.
    """
    refuse_existing_manifest(config.output)
    prepared = prepare(config)
    prepared.source.check()
    with connect(config.cluster, debug) as executor:
        manifest = fit_job(prepared.job, prepared.passes, executor, reporter)
    manifest.save(config.output.manifest, overwrite=config.output.overwrite)
    return manifest


def run_config(config: Config, reporter: Reporter, debug: bool = False) -> RunResult:
    """Fit as `config` says, write the normalized store, then what makes it open, then the manifest.

    A chain with nothing to fit is described while it is written, at no read of its own, unless `fit.describe` is false.
    """
    refuse_existing_manifest(config.output)
    prepared = prepare(config)
    prepared.job.require_seen()
    prepared.source.check()
    layout = _layout(config.output)
    check_output(prepared.source, config.output.store, prepared.job.output_dtype, **layout, extent=planned_extent(prepared.job))
    with connect(config.cluster, debug) as executor:
        workers = workers_of(executor)
        planned = plan_run(prepared, config, workers)
        require_memory(planned, workers)
        prepared = hold_input(prepared, planned, executor, reporter)
        fit_of_job = fit_before_writing(prepared, executor, reporter)
        extent = extent_of(prepared.job.chain(fit_of_job[0][EVERYTHING]), prepared.source)
        with create_output(prepared.source, config.output.store, prepared.job.output_dtype, **layout, extent=extent) as sink:
            manifest = write_job(prepared, fit_of_job, sink, executor, reporter)
            sink.commit()
    manifest.save(config.output.manifest, overwrite=config.output.overwrite)
    return RunResult(manifest, Path(config.output.manifest), config.output.store)


def apply_manifest(manifest: Manifest, config: ApplyConfig, reporter: Reporter, debug: bool = False) -> str:
    """Write the source of `config`, transformed by `manifest`, to its output; returns the store's path.

    Raises
    ------
    InputMismatchError
        Where the source does not fit the manifest.
    ConfigError
        Where it would take more memory than the workers have.
    """
    source = open_config_source(config.source, config.source.dims or manifest.chain.dims)
    chain = chain_for(manifest, source)
    source.check()
    layout = {**_layout(config.output), "extent": extent_of(chain, source)}
    check_output(source, config.output.store, chain.output_dtype, **layout)
    with connect(config.cluster, debug) as executor:
        workers = workers_of(executor)
        require_memory(plan_of_apply(manifest, chain, source, config, workers), workers)
        with create_output(source, config.output.store, chain.output_dtype, **layout) as sink:
            write_pass(Write(source, chain, sink), config.block_bytes, executor, reporter)
            sink.commit()
    return config.output.store


def plan_config(config: Config) -> Plan:
    """What `run_config` would do; reads metadata and labels, no data.

    Raises
    ------
    ConfigError
        Where it would take more memory than this machine has, if it is to run here.
    """
    prepared = prepare(config)
    prepared.job.require_seen()
    workers = workers_planned(config.cluster)
    planned = plan_run(prepared, config, workers)
    require_memory(planned, workers)
    return planned


def refuse_existing_manifest(output: OutputConfig) -> None:
    """Raise, before any work is done, what saving the manifest would raise at the end."""
    check_destination(output.manifest, output.overwrite)


def in_the_way(output: OutputConfig | ArraysOutputConfig) -> list[PipelineError]:
    """What a run would raise now because of what stands where it is to write; only looks."""
    found = []
    looks: tuple[Callable[[], bool], ...] = (
        lambda: stands(open_store(output.store, "w"), output.overwrite),
        lambda: check_free(folder_path(output.manifest, ConfigError), output.overwrite),
    )
    for look in looks:
        try:
            look()
        except PipelineError as error:
            found.append(error)
    return found


def fit_before_writing(prepared: Prepared, executor: Executor, reporter: Reporter) -> FitOfJob:
    """Fit the steps; what only describes is left to the writing pass, at no read of its own."""
    return fit_steps(prepared.job, () if prepared.on_the_way else prepared.passes, executor, reporter)


def write_job(prepared: Prepared, fit_of_job: FitOfJob, sink: ZarrSink, executor: Executor, reporter: Reporter) -> Manifest:
    """Write every block of a fitted job to `sink`, which is not committed; the manifest, which is not saved."""
    job, on_the_way = prepared.job, prepared.on_the_way
    fitted, found, errors = fit_of_job
    gathering = gather_task(job, on_the_way, fitted) if on_the_way else None
    task = Write(job.source, fitted_chain(job, fitted), sink, gathering)
    summaries = write_pass(task, job.block_bytes, executor, reporter)
    if on_the_way and summaries is not None:
        found = [statistics_found(job, on_the_way, summaries[EVERYTHING], fitted[EVERYTHING], len(job.steps))]
    return _manifest(job, fitted, found, errors)


def fit_job(job: Job, passes: Sequence[Pass], executor: Executor, reporter: Reporter) -> Manifest:
    """The manifest of `job`, read in `passes`; writes nothing."""
    workers = workers_of(executor)
    require_memory(fit_plan(job, passes, workers), workers)
    fitted, found, errors = fit_steps(job, passes, executor, reporter)
    return _manifest(job, fitted, found, errors)


def _layout(output: ApplyOutputConfig) -> dict[str, Any]:
    """What `output` says of how the store is laid out, as `create_output` takes it."""
    return output.model_dump(include={"chunks", "shards", "compressors", "overwrite"})


def _manifest(job: Job, fitted: Fitted, found: Sequence[FittedStatistics], errors: Errors) -> Manifest:
    source = job.source
    return Manifest.build(
        chain=job.chain(fitted[EVERYTHING], job.output_dtype),
        sizes=job.sizes,
        labels=job.labels,
        statistics=found,
        nan_policy=job.nan_policy,
        provenance={
            "source": source.provenance(),
            "fitted_on": job.fitted_on,
            **errors,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
        },
        groups=job.groups(fitted),
    )
