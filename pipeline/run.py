"""The story on one page: open the source, plan, fit, write the manifest, apply, commit.

Not here: how any of it is done.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.apply import Write
from pipeline.block import tile_count
from pipeline.cluster import (
    MACHINE_SHARED,
    connect,
    memory_per_worker,
    room_of,
    threads_per_worker,
    worker_count,
    workers_of,
)
from pipeline.config import ApplyConfig, ApplyOutputConfig, Config, OutputConfig
from pipeline.executor import Executor
from pipeline.gather import EVERYTHING
from pipeline.inference import Manifest
from pipeline.inference.stored import chain_for
from pipeline.job import Job, config_job, open_config_source
from pipeline.manifest import QUANTILE_ERROR, FittedStatistics, check_destination
from pipeline.normalize.chain import FittedChain
from pipeline.normalize.grouped import GroupedChain
from pipeline.passes import (
    Errors,
    FitOfJob,
    Fitted,
    fit_steps,
    fitted_chain,
    gather_task,
    pass_blocks,
    statistics_found,
    write_pass,
)
from pipeline.plan import (
    Pass,
    Phase,
    Plan,
    apply_step,
    fits_held,
    output_sizes,
    plan_apply,
    plan_fit,
    plan_held,
    plan_passes,
    read_step,
    require_memory,
    whole_axes,
)
from pipeline.progress import Reporter, reporting
from pipeline.sink.extent import Extent
from pipeline.sink.zarr_sink import ZarrSink, check_output, create_output, write_unit
from pipeline.source.held import HeldSource
from pipeline.source.zarr_source import ZarrSource
from pipeline.versions import versions


@dataclass(frozen=True)
class RunResult:
    """What `zarrnorm run` made."""

    manifest: Manifest
    manifest_path: Path
    output_store: str


@dataclass(frozen=True)
class Prepared:
    """What is to be fitted, from which store, in which reads; nothing is read yet."""

    source: ZarrSource
    job: Job
    passes: tuple[Pass, ...]

    @property
    def on_the_way(self) -> Pass | None:
        """The pass that only describes, which a run does while it writes; None where steps are fitted."""
        return self.passes[0] if self.passes and not self.passes[0].fits else None


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
        prepared = hold_input(prepared, config, executor, reporter)
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
    """
    source = open_config_source(config.source, config.source.dims or manifest.chain.dims)
    chain = chain_for(manifest, source)
    source.check()
    layout = {**_layout(config.output), "extent": extent_of(chain, source)}
    check_output(source, config.output.store, chain.output_dtype, **layout)
    with (
        connect(config.cluster, debug) as executor,
        create_output(source, config.output.store, chain.output_dtype, **layout) as sink,
    ):
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
    threads, limit_bytes = threads_per_worker(config.cluster), memory_per_worker(config.cluster)
    phases = _held_phases(prepared, config, threads, worker_count(config.cluster), limit_bytes)
    passes = () if prepared.on_the_way else prepared.passes
    planned = Plan(passes, phases or _phases(prepared, config, threads), threads)
    require_memory(planned, limit_bytes, MACHINE_SHARED)
    return planned


def _phases(prepared: Prepared, config: Config, threads: int) -> tuple[Phase, ...]:
    """The figures of each fit pass and of the writing one."""
    job, source = prepared.job, prepared.job.source
    groups = job.group_count * job.weight_count
    passes = () if prepared.on_the_way else prepared.passes
    fits = (plan_fit(each, source, pass_blocks(job, each), threads, groups) for each in passes)
    shape = _written_step(prepared, config)
    return (*fits, plan_apply(source, shape, job.output_dtype, threads, planned_extent(job).sizes))


def _held_phases(
    prepared: Prepared, config: Config, threads: int, workers: int, limit_bytes: int | None
) -> tuple[Phase, ...] | None:
    """The figures where the input is held in memory; None where that was not asked for, saves no read or does not fit."""
    if not config.hold_input or prepared.on_the_way or not prepared.passes:
        return None
    held = HeldSource(prepared.source, _held_step(prepared), {})
    phases = _phases(replace(prepared, job=replace(prepared.job, source=held)), config, threads)
    phases = plan_held(phases, held, threads, workers)
    return phases if fits_held(phases, limit_bytes) else None


def _held_step(prepared: Prepared) -> tuple[int, ...]:
    """The box size in which the input is held: such that most blocks of every phase lie in one box."""
    job = prepared.job
    return read_step(prepared.source, whole_axes(job.steps, prepared.source), job.block_bytes)


def _written_step(prepared: Prepared, config: Config) -> tuple[int, ...]:
    """The box size of the writing pass."""
    source, job, extent = prepared.source, prepared.job, planned_extent(prepared.job)
    unit = write_unit(source, config.output.chunks, config.output.shards, extent)
    return apply_step(source, unit, job.output_dtype, whole_axes(job.steps, source), job.block_bytes, extent.sizes)


def hold_input(prepared: Prepared, config: Config, executor: Executor, reporter: Reporter) -> Prepared:
    """`prepared` with its input in the memory of `executor`, where `config` asks for that and it fits."""
    threads, limit_bytes, _ = room_of(executor)
    if _held_phases(prepared, config, threads, workers_of(executor), limit_bytes) is None:
        return prepared
    source, step = prepared.source, _held_step(prepared)
    total_bytes = math.prod(source.shape) * source.dtype.itemsize
    with reporting(reporter, "read", total_bytes, tile_count(source.shape, step)) as advance:
        held = executor.hold(source, step, advance)
    return replace(prepared, job=replace(prepared.job, source=held))


def planned_extent(job: Job) -> Extent:
    """The dims of the output, with as many positions as will be kept of each of which it has a part: any, not yet those."""
    sizes = output_sizes(job.steps, job.source)
    selected = {step.selected_dim for step in job.steps}
    return Extent(sizes, {dim: np.arange(sizes[dim]) for dim in job.source.dims if dim in selected and dim in sizes})


def extent_of(chain: FittedChain | GroupedChain, source: ZarrSource) -> Extent:
    """The dims of the output of `chain` for `source`."""
    return Extent(chain.output_sizes(dict(zip(source.dims, source.shape, strict=True))), chain.kept)


def refuse_existing_manifest(output: OutputConfig) -> None:
    """Raise, before any work is done, what saving the manifest would raise at the end."""
    check_destination(output.manifest, output.overwrite)


def prepare(config: Config) -> Prepared:
    """What `config` says is to be fitted and the reads that it takes, one of them for a description where that is wanted."""
    source = open_config_source(config.source, config.source.dims)
    job = config_job(config, source)
    return Prepared(source, job, plan_passes(job.steps, source, describe=config.fit.describe is not False))


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
            **({QUANTILE_ERROR: errors} if errors else {}),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
        },
        groups=job.groups(fitted),
    )
