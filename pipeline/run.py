"""The story on one page: open the source, plan, fit, write the manifest, apply, commit.

Not here: how any of it is done.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pipeline.apply import Write, write_blocks
from pipeline.block import DEFAULT_BLOCK_BYTES, Block, tile
from pipeline.cluster import DaskExecutor, connect, threads_per_worker
from pipeline.config import ApplyConfig, ApplyOutputConfig, Config, LocalClusterConfig, OutputConfig
from pipeline.errors import ConfigError, DataError
from pipeline.executor import Executor, SerialExecutor, decoded_bytes
from pipeline.fitting import blocks_selected, statistics_at
from pipeline.gather import Gather, gather
from pipeline.inference import Manifest
from pipeline.inference.stored import chain_for
from pipeline.job import Job, as_source, check_arguments, config_job, make_job, open_config_source
from pipeline.manifest import FittedStatistics, check_destination
from pipeline.normalize.names import located
from pipeline.normalize.step import FittedStep, Step
from pipeline.plan import Pass, Plan, apply_step, fit_blocks, plan_apply, plan_fit, plan_passes, whole_axes
from pipeline.progress import Reporter, SilentReporter, reporting
from pipeline.sink.zarr_sink import check_output, create_output, write_unit
from pipeline.statistics.describe import Statistics
from pipeline.statistics.summary import Summary
from pipeline.versions import versions


@dataclass(frozen=True)
class RunResult:
    """What `zarrnorm run` made."""

    manifest: Manifest
    manifest_path: Path
    output_store: str


def fit(
    data: Any,
    array: str | None = None,
    *,
    normalize: Sequence[Mapping[str, Any] | str],
    dims: Sequence[str] | None = None,
    sample_dim: str | None = None,
    where: Mapping[str, Any] | None = None,
    nan: str = "skip",
    dtype: Any = None,
    describe: bool = False,
    missing_chunks: Literal["error", "fill"] = "error",
    block_bytes: int | str = DEFAULT_BLOCK_BYTES,
    client: Any = None,
) -> Manifest:
    """Fit a chain of normalizations in as few reads of the data as it allows.

    Parameters
    ----------
    data : path, URL, Zarr store, zarr.Array, xarray.DataArray, dask.array.Array or array_like
    array : str, optional
        Path of the array within a store; not needed where there is only one.
    normalize : sequence of mappings
        The steps, as in a configuration: ``[{"zscore": {"per": ["channel"]}}]``.
    dims : sequence of str, optional
        Names of the dims, where the data does not name them.
    sample_dim : str, optional
        The dim along which there are more and more observations; the first by default.
    where : mapping, optional
        Fit on the samples with these labels only: ``{"split": "train"}``.
    nan : {'skip', 'error', 'propagate'}
    dtype : dtype-like, optional
        Of what the manifest's `transform` returns. By default a float keeps its own (float16 becomes float32), integers of
        16 bits or fewer give float32 and wider ones float64.
    describe : bool
        Gather statistics even where no step needs them.
    missing_chunks : {'error', 'fill'}
    block_bytes : int or str
        Decoded bytes of one unit of work.
    client : distributed.Client, optional
        Where to run. By default in this process: on all of its cores where there are several blocks.

    Returns
    -------
    Manifest

    Raises
    ------
    PipelineError
        One of its kinds, see `pipeline.errors`.

    Examples
    --------
    >>> import numpy as np
    >>> manifest = fit(np.array([[0.0, 5.0], [10.0, 6.0]]), dims=["cell", "gene"], normalize=[{"minmax": {"per": ["gene"]}}])
    >>> manifest.transform(np.array([[5.0, 5.5]]))
    array([[0.5, 0.5]])
    """
    given = check_arguments(
        client,
        array=array,
        normalize=normalize,
        dims=dims,
        sample_dim=sample_dim,
        where=where,
        nan=nan,
        dtype=dtype,
        describe=describe,
        missing_chunks=missing_chunks,
        block_bytes=block_bytes,
    )
    source = as_source(data, given.array, given.dims, given.sample_dim, given.missing_chunks)
    job = make_job(source, given.normalize, given.where, given.nan, given.dtype, int(given.block_bytes))
    job.source.check()
    passes = plan_passes(job.steps, job.source, describe)
    with _executor(client, small=all(len(_blocks(job, each)) <= 1 for each in passes)) as executor:
        return fit_job(job, passes, executor, SilentReporter())


def fit_config(config: Config, reporter: Reporter, debug: bool = False) -> Manifest:
    """Fit as `config` says and save the manifest.

    A chain with nothing to fit is described all the same, in one read, unless `fit.describe` is false: its statistics are
    all that could be asked for here.
    """
    refuse_existing_manifest(config.output)
    source = open_config_source(config.source, config.source.dims)
    job = config_job(config, source)
    passes = plan_passes(job.steps, source, describe=config.fit.describe is not False)
    source.check()
    with connect(config.cluster, debug) as executor:
        manifest = fit_job(job, passes, executor, reporter)
    manifest.save(config.output.manifest, overwrite=config.output.overwrite)
    return manifest


def run_config(config: Config, reporter: Reporter, debug: bool = False) -> RunResult:
    """Fit as `config` says, write the normalized store, then what makes it open, then the manifest.

    A chain with nothing to fit is described while it is written, at no read of its own, unless `fit.describe` is false.
    """
    refuse_existing_manifest(config.output)
    source = open_config_source(config.source, config.source.dims)
    job = config_job(config, source)
    passes = plan_passes(job.steps, source, describe=config.fit.describe is not False)
    on_the_way = passes[0] if passes and not passes[0].fits else None
    source.check()
    layout = _layout(config.output)
    check_output(source, config.output.store, job.output_dtype, **layout)
    with connect(config.cluster, debug) as executor:
        fitted, found = _fit_steps(job, () if on_the_way else passes, executor, reporter)
        gathering = _gather_task(job, on_the_way, fitted) if on_the_way else None
        with create_output(source, config.output.store, job.output_dtype, **layout) as sink:
            task = Write(source, job.chain(fitted, job.output_dtype), sink, gathering)
            summary = _write(task, job.block_bytes, executor, reporter)
            if on_the_way and summary is not None:
                found = [_found(job, on_the_way, summary, fitted, len(fitted))]
            sink.commit()
    manifest = _manifest(job, fitted, found)
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
    layout = _layout(config.output)
    check_output(source, config.output.store, chain.output_dtype, **layout)
    with (
        connect(config.cluster, debug) as executor,
        create_output(source, config.output.store, chain.output_dtype, **layout) as sink,
    ):
        _write(Write(source, chain, sink), config.block_bytes, executor, reporter)
        sink.commit()
    return config.output.store


def plan_config(config: Config) -> Plan:
    """What `run_config` would do; reads metadata and labels, no data."""
    source = open_config_source(config.source, config.source.dims)
    job = config_job(config, source)
    threads = threads_per_worker(config.cluster)
    passes = tuple(each for each in plan_passes(job.steps, source) if each.fits)
    phases = [plan_fit(each, source, _blocks(job, each), threads) for each in passes]
    unit = write_unit(source, config.output.chunks, config.output.shards)
    shape = apply_step(source, unit, job.output_dtype, whole_axes(job.steps, job.source), job.block_bytes)
    phases.append(plan_apply(source, shape, job.output_dtype, threads))
    return Plan(passes, tuple(phases), threads)


def refuse_existing_manifest(output: OutputConfig) -> None:
    """Raise, before any work is done, what saving the manifest would raise at the end."""
    check_destination(output.manifest, output.overwrite)


def fit_job(job: Job, passes: Sequence[Pass], executor: Executor, reporter: Reporter) -> Manifest:
    """The manifest of `job`, read in `passes`; writes nothing."""
    fitted, found = _fit_steps(job, passes, executor, reporter)
    return _manifest(job, fitted, found)


def _fit_steps(
    job: Job, passes: Sequence[Pass], executor: Executor, reporter: Reporter
) -> tuple[list[FittedStep], list[FittedStatistics]]:
    """Fit the chain's steps in order, reading the source once for each pass."""
    fitted: list[FittedStep] = []
    found: list[FittedStatistics] = []
    summaries: dict[Pass, Summary] = {}
    by_step = {index: each for each in passes for index in each.fits or (len(job.steps),)}
    for index in range(len(job.steps) + 1):
        statistics = None
        if each := by_step.get(index):
            if each not in summaries:
                summaries[each] = _read(job, each, fitted, executor, reporter)
            found.append(_found(job, each, summaries[each], fitted, index))
            statistics = found[-1].statistics
        if index < len(job.steps):
            fitted.append(_fit_step(job.steps[index], index, statistics))
    return fitted, found


def _fit_step(step: Step, index: int, statistics: Statistics | None) -> FittedStep:
    try:
        return step.fit(statistics)
    except (ConfigError, DataError) as error:
        raise located(error, index) from None


def _read(job: Job, each: Pass, fitted: Sequence[FittedStep], executor: Executor, reporter: Reporter) -> Summary:
    blocks = _blocks(job, each)
    total_bytes = sum(decoded_bytes(block, job.source.dtype) for block in blocks)
    with reporting(reporter, "fit", total_bytes, len(blocks)) as advance:
        return gather(_gather_task(job, each, fitted), blocks, executor, advance)


def _gather_task(job: Job, each: Pass, fitted: Sequence[FittedStep]) -> Gather:
    return Gather(job.source, job.chain(fitted[: each.at]), each.summary, each.per, job.selected)


def _found(job: Job, each: Pass, summary: Summary, fitted: Sequence[FittedStep], index: int) -> FittedStatistics:
    """The statistics of the values that reach step `index`, from the pass that serves it."""
    wanted = (job.steps[index].fitted_per or ()) if index < len(job.steps) else ()
    per = tuple(dim for dim in job.source.dims if dim in wanted)
    statistics = statistics_at(summary, each.at, fitted[each.at : index], each.per, per, job.nan_policy)
    if job.nan_policy == "error":
        statistics.check()
    return FittedStatistics(index, per, statistics)


def _write(task: Write, block_bytes: int, executor: Executor, reporter: Reporter) -> Summary | None:
    source = task.source
    whole = whole_axes([fitted.step for fitted in task.chain.steps], source)
    blocks = list(tile(source.shape, apply_step(source, task.sink.write_unit, task.chain.output_dtype, whole, block_bytes)))
    total_bytes = sum(decoded_bytes(block, source.dtype) for block in blocks)
    with reporting(reporter, "apply", total_bytes, len(blocks)) as advance:
        return write_blocks(task, blocks, executor, advance).summary


def _blocks(job: Job, each: Pass) -> list[Block]:
    whole = whole_axes(job.steps[: each.at], job.source)
    return blocks_selected(fit_blocks(job.source, whole, job.block_bytes), job.source, job.selected)


@contextmanager
def _executor(client: Any, small: bool) -> Iterator[Executor]:
    if client is not None:
        yield DaskExecutor(client)
    elif small:
        yield SerialExecutor()
    else:
        with connect(LocalClusterConfig()) as executor:
            yield executor


def _layout(output: ApplyOutputConfig) -> dict[str, Any]:
    """What `output` says of how the store is laid out, as `create_output` takes it."""
    return output.model_dump(include={"chunks", "shards", "compressors", "overwrite"})


def _manifest(job: Job, fitted: Sequence[FittedStep], found: Sequence[FittedStatistics]) -> Manifest:
    source = job.source
    return Manifest.build(
        chain=job.chain(fitted, job.output_dtype),
        sizes=job.sizes,
        labels=job.labels,
        statistics=found,
        nan_policy=job.nan_policy,
        provenance={
            "source": source.provenance(),
            "fitted_on": {"where": job.where, "samples": job.samples},
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
        },
    )
