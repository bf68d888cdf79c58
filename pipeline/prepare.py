"""A run before it begins: what is fitted, from which store, in which reads, what that takes; and its input brought into memory.

Not here: doing it (`run.py`), and the figures of one pass (`plan.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from pipeline.block import tile_count
from pipeline.config import ApplyConfig, ApplyOutputConfig, Config
from pipeline.executor import Executor, Workers
from pipeline.inference import Manifest
from pipeline.job import Job, config_job, open_config_source
from pipeline.normalize.chain import FittedChain
from pipeline.normalize.grouped import GroupedChain
from pipeline.normalize.memory import ParameterBytes, parameter_bytes, together
from pipeline.passes import fit_plan
from pipeline.plan import Pass, Plan, apply_step, output_sizes, plan_apply, plan_held, plan_passes, read_step, whole_axes
from pipeline.progress import Reporter, reporting
from pipeline.sink.extent import Extent
from pipeline.sink.zarr_sink import write_unit
from pipeline.source.held import HeldSource
from pipeline.source.zarr_source import ZarrSource

HELD_SHARE = 0.6


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


def prepare(config: Config) -> Prepared:
    """What `config` says is to be fitted and the reads that it takes, one of them for a description where that is wanted."""
    source = open_config_source(config.source, config.source.dims)
    job = config_job(config, source)
    return Prepared(source, job, plan_passes(job.steps, source, describe=config.fit.describe is not False))


def plan_run(prepared: Prepared, config: Config, workers: Workers) -> Plan:
    """What a run on `workers` will do.

    The input is held in their memory where `config` asks for that, it saves a read, and there is room for it beside what
    tasks work on; not where it is not known how much memory workers have.
    """
    planned = _plan(prepared, config.output, workers)
    if not config.hold_input or not planned.passes or workers.memory_bytes is None:
        return planned
    source = HeldSource(prepared.source, _held_step(prepared), {})
    reading_it = _plan(replace(prepared, job=replace(prepared.job, source=source)), config.output, workers)
    held = plan_held(reading_it, source, workers)
    return held if held.peak_bytes_per_worker <= HELD_SHARE * workers.memory_bytes else planned


def hold_input(prepared: Prepared, planned: Plan, executor: Executor, reporter: Reporter) -> Prepared:
    """`prepared`, its input in the memory of what `executor` runs tasks on, where that is `planned`."""
    if not planned.is_held:
        return prepared
    source, step = prepared.source, _held_step(prepared)
    total_bytes = math.prod(source.shape) * source.dtype.itemsize
    with reporting(reporter, "read", total_bytes, tile_count(source.shape, step)) as advance:
        held = executor.hold(source, step, advance)
    return replace(prepared, job=replace(prepared.job, source=held))


def _plan(prepared: Prepared, output: ApplyOutputConfig, workers: Workers) -> Plan:
    source, job = prepared.job.source, prepared.job
    reads = fit_plan(job, () if prepared.on_the_way else prepared.passes, workers)
    whole, extent = whole_axes(job.steps, source), planned_extent(job)
    unit = write_unit(prepared.source, output.chunks, output.shards, extent)
    shape = apply_step(source, unit, job.output_dtype, whole, job.block_bytes, extent.sizes)
    parameters = together(parameter_bytes(job.steps, job.sizes), job.chain_count)
    writing = plan_apply(source, shape, job.output_dtype, workers, extent.sizes, parameters, saves=True)
    return replace(reads, phases=(*reads.phases, writing))


def _held_step(prepared: Prepared) -> tuple[int, ...]:
    """The box size in which the input is held: in whole stored units, such that most blocks of every phase lie in one box."""
    job = prepared.job
    return read_step(prepared.source, whole_axes(job.steps, prepared.source), job.block_bytes)


def plan_of_apply(
    manifest: Manifest, chain: FittedChain | GroupedChain, source: ZarrSource, config: ApplyConfig, workers: Workers
) -> Plan:
    """What transforming `source` by `chain`, that of `manifest` for it, will do on `workers`."""
    output, extent = config.output, extent_of(chain, source)
    unit = write_unit(source, output.chunks, output.shards, extent)
    whole = whole_axes([fitted.step for fitted in chain.steps], source)
    shape = apply_step(source, unit, chain.output_dtype, whole, config.block_bytes, extent.sizes)
    picked = bool(chain.selections) if isinstance(chain, GroupedChain) else chain is not manifest.chain
    held = ParameterBytes(manifest.held_bytes + (workers.threads * manifest.chain.held_bytes if picked else 0))
    return Plan((), (plan_apply(source, shape, chain.output_dtype, workers, extent.sizes, held),), workers.threads)


def planned_extent(job: Job) -> Extent:
    """The dims of the output, with as many positions as will be kept of each of which it has a part: any, not yet those."""
    sizes = output_sizes(job.steps, job.source)
    selected = {step.selected_dim for step in job.steps}
    return Extent(sizes, {dim: np.arange(sizes[dim]) for dim in job.source.dims if dim in selected and dim in sizes})


def extent_of(chain: FittedChain | GroupedChain, source: ZarrSource) -> Extent:
    """The dims of the output of `chain` for `source`."""
    return Extent(chain.output_sizes(dict(zip(source.dims, source.shape, strict=True))), chain.kept)
