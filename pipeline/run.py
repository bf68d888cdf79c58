"""The story on one page: open the source, plan, fit, write the manifest, apply, commit.

Not here: how any of it is done.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pipeline.apply import Write, write_blocks
from pipeline.block import DEFAULT_BLOCK_BYTES, Block, tile
from pipeline.cluster import DaskExecutor, connect, threads_per_worker
from pipeline.config import ApplyConfig, ApplyOutputConfig, Config, LocalClusterConfig, OutputConfig
from pipeline.errors import ConfigError, DataError
from pipeline.executor import Executor, SerialExecutor, decoded_bytes
from pipeline.fitting import blocks_selected, statistics_at
from pipeline.gather import EVERYTHING, Gather, Grouped, Summaries, gather
from pipeline.inference import Manifest
from pipeline.inference.stored import chain_for
from pipeline.job import Job, as_source, check_arguments, config_job, make_job, open_config_source
from pipeline.manifest import FittedStatistics, Unseen, check_destination
from pipeline.normalize.chain import FittedChain
from pipeline.normalize.grouped import GroupedChain
from pipeline.normalize.names import located
from pipeline.normalize.step import FittedStep, Step
from pipeline.plan import Pass, Plan, apply_step, fit_blocks, plan_apply, plan_fit, plan_passes, whole_axes
from pipeline.progress import Reporter, SilentReporter, reporting
from pipeline.sink.zarr_sink import check_output, create_output, write_unit
from pipeline.statistics.describe import Statistics
from pipeline.versions import versions

Fitted: TypeAlias = Mapping[int, list[FittedStep]]


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
    samples: slice | None = None,
    fraction: float | None = None,
    seed: int = 0,
    by: str | None = None,
    unseen: Unseen = "error",
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
        Fit on the samples with these labels only: ``{"split": "train"}``. A boolean coordinate takes True or False.
    samples : slice, optional
        Fit on these positions along the sample dim only; neither end negative.
    fraction : float, optional
        Fit on about this part of the samples, above 0 and at most 1: which ones is a function of a sample's position and of
        `seed` alone. All three conditions hold at once.
    seed : int
        From 0 to 2**64 - 1.
    by : str, optional
        Name of a coordinate along the sample dim (plate, batch, donor): the samples of each of its values are normalized by
        statistics of their own, gathered in the same reads. The manifest's `transform` then needs the labels of its samples.
    unseen : {'error', 'global', 'nan'}
        What becomes of a sample whose label was not fitted: it is refused, normalized by the statistics of all samples
        together, or becomes NaN.
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
        fraction=fraction,
        seed=seed,
        by=by,
        unseen=unseen,
    )
    source = as_source(data, given.array, given.dims, given.sample_dim, given.missing_chunks)
    scope: dict[str, Any] = {"samples": samples, "fraction": given.fraction, "seed": given.seed}
    groups: dict[str, Any] = {"by": given.by, "unseen": given.unseen}
    job = make_job(source, given.normalize, given.where, given.nan, given.dtype, int(given.block_bytes), **scope, **groups)
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
    job.require_seen()
    source.check()
    layout = _layout(config.output)
    check_output(source, config.output.store, job.output_dtype, **layout)
    with connect(config.cluster, debug) as executor:
        fitted, found = _fit_steps(job, () if on_the_way else passes, executor, reporter)
        gathering = _gather_task(job, on_the_way, fitted) if on_the_way else None
        with create_output(source, config.output.store, job.output_dtype, **layout) as sink:
            summaries = _write(Write(source, _fitted_chain(job, fitted), sink, gathering), job.block_bytes, executor, reporter)
            if on_the_way and summaries is not None:
                found = [_found(job, on_the_way, summaries[EVERYTHING], fitted[EVERYTHING], len(job.steps))]
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
    job.require_seen()
    threads = threads_per_worker(config.cluster)
    passes = tuple(each for each in plan_passes(job.steps, source) if each.fits)
    phases = [plan_fit(each, source, _blocks(job, each), threads, job.group_count) for each in passes]
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
) -> tuple[Fitted, list[FittedStatistics]]:
    """Fit the chain's steps in order, reading the source once for each pass: the steps of all samples together and of each
    group, and the statistics of all samples."""
    fitted: Fitted = {code: [] for code in (EVERYTHING, *range(job.group_count if job.grouping else 0))}
    found: list[FittedStatistics] = []
    read: dict[Pass, Grouped] = {}
    by_step = {index: each for each in passes for index in each.fits or (len(job.steps),)}
    for index in range(len(job.steps) + 1):
        each = by_step.get(index)
        if each and each not in read:
            read[each] = _read(job, each, fitted, executor, reporter)
        for code, steps in fitted.items():
            with _named(job, code):
                at_hand = _found(job, each, read[each][code], steps, index) if each else None
                if index < len(job.steps):
                    steps.append(_fit_step(job.steps[index], index, at_hand.statistics if at_hand else None))
            if at_hand and code == EVERYTHING:
                found.append(at_hand)
        if each and each.fits[-1:] == (index,):
            del read[each]
    return fitted, found


def _fit_step(step: Step, index: int, statistics: Statistics | None) -> FittedStep:
    try:
        return step.fit(statistics)
    except (ConfigError, DataError) as error:
        raise located(error, index) from None


@contextmanager
def _named(job: Job, code: int) -> Iterator[None]:
    """Adds to an error which group it was met in."""
    try:
        yield
    except DataError as error:
        if job.grouping is None or code == EVERYTHING:
            raise
        group = f"{job.grouping.by} {job.grouping.labels.tolist()[code]!r}"
        where = group if error.where is None else f"{error.where}, {group}"
        remedy = error.remedy or f"leave out this {job.grouping.by} by fit.where"
        raise DataError(error.what, where=where, found=error.found, expected=error.expected, remedy=remedy) from None


def _read(job: Job, each: Pass, fitted: Fitted, executor: Executor, reporter: Reporter) -> Grouped:
    blocks = _blocks(job, each)
    total_bytes = sum(decoded_bytes(block, job.source.dtype) for block in blocks)
    with reporting(reporter, "fit", total_bytes, len(blocks)) as advance:
        return gather(_gather_task(job, each, fitted), blocks, executor, advance)


def _gather_task(job: Job, each: Pass, fitted: Fitted) -> Gather:
    """What `each` does with a block. Groups differ in the steps before it only where some of those were fitted."""
    overall = job.chain(fitted[EVERYTHING][: each.at])
    if job.codes is None or all(step.fitted_per is None for step in job.steps[: each.at]):
        return Gather(job.source, overall, each.summaries, each.per, job.fitted_codes)
    prefixes = tuple(job.chain(fitted[code][: each.at]) for code in range(job.group_count))
    prefix = GroupedChain(overall, prefixes, job.codes)
    return Gather(job.source, prefix, each.summaries, each.per, job.fitted_codes, overall)


def _fitted_chain(job: Job, fitted: Fitted) -> FittedChain | GroupedChain:
    """What the writing pass sends the samples through."""
    overall = job.chain(fitted[EVERYTHING], job.output_dtype)
    groups = job.groups(fitted)
    return overall if groups is None or job.codes is None else groups.chain(overall, job.codes)


def _found(job: Job, each: Pass, summaries: Summaries, fitted: Sequence[FittedStep], index: int) -> FittedStatistics:
    """The statistics of the values that reach step `index`, from the pass that serves it."""
    wanted = (job.steps[index].fitted_per or ()) if index < len(job.steps) else ()
    per = tuple(dim for dim in job.source.dims if dim in wanted)
    statistics = statistics_at(summaries, each.at, fitted[each.at : index], each.per, per, job.nan_policy)
    if job.nan_policy == "error":
        statistics.check()
    return FittedStatistics(index, per, statistics)


def _write(task: Write, block_bytes: int, executor: Executor, reporter: Reporter) -> Grouped | None:
    source = task.source
    whole = whole_axes([fitted.step for fitted in task.chain.steps], source)
    blocks = list(tile(source.shape, apply_step(source, task.sink.write_unit, task.chain.output_dtype, whole, block_bytes)))
    total_bytes = sum(decoded_bytes(block, source.dtype) for block in blocks)
    with reporting(reporter, "apply", total_bytes, len(blocks)) as advance:
        return write_blocks(task, blocks, executor, advance).summaries


def _blocks(job: Job, each: Pass) -> list[Block]:
    whole = whole_axes(job.steps[: each.at], job.source, each)
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


def _manifest(job: Job, fitted: Fitted, found: Sequence[FittedStatistics]) -> Manifest:
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
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
        },
        groups=job.groups(fitted),
    )
