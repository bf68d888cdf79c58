"""The story on one page: open the source, plan, fit, write the manifest, apply, commit.

Not here: how any of it is done.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from pipeline.apply import Write, write_blocks
from pipeline.block import DEFAULT_BLOCK_BYTES, Block, tile
from pipeline.cluster import MACHINE_SHARED, DaskExecutor, connect, memory_per_worker, room_of, threads_per_worker
from pipeline.config import ApplyConfig, ApplyOutputConfig, Config, LocalClusterConfig, OutputConfig
from pipeline.errors import ConfigError, DataError
from pipeline.executor import Executor, SerialExecutor, decoded_bytes
from pipeline.fitting import blocks_selected, centered, statistics_at, with_deviation
from pipeline.gather import EVERYTHING, Gather, Grouped, Summaries, gather
from pipeline.inference import Manifest, ManifestCollection
from pipeline.inference.collection import naming
from pipeline.inference.stored import chain_for
from pipeline.job import Job, arrays_of, as_source, check_arguments, config_job, holds_arrays, make_job, open_config_source
from pipeline.manifest import QUANTILE_ERROR, FittedStatistics, Unseen, check_destination
from pipeline.normalize.chain import FittedChain
from pipeline.normalize.grouped import GroupedChain
from pipeline.normalize.names import located
from pipeline.normalize.step import FittedStep, Step
from pipeline.plan import (
    DEVIATIONS,
    Pass,
    Plan,
    apply_step,
    fit_blocks,
    observed_stages,
    output_sizes,
    plan_apply,
    plan_fit,
    plan_passes,
    require_memory,
    whole_axes,
)
from pipeline.progress import Reporter, SilentReporter, reporting
from pipeline.sink.zarr_sink import ZarrSink, check_output, create_output, write_unit
from pipeline.source.zarr_source import ZarrSource
from pipeline.statistics.describe import Statistics
from pipeline.versions import versions

Fitted: TypeAlias = Mapping[int, list[FittedStep]]
Errors: TypeAlias = dict[str, float]
FitOfJob: TypeAlias = tuple[Fitted, list[FittedStatistics], Errors]


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


class FitOptions(TypedDict, total=False):
    """The options of `fit`, for its two signatures: steps of one array, and steps of several."""

    dims: Sequence[str] | None
    sample_dim: str | None
    where: Mapping[str, Any] | None
    samples: slice | None
    fraction: float | None
    seed: int
    by: str | None
    unseen: Unseen
    weights: str | None
    nan: str
    dtype: Any
    describe: bool
    missing_chunks: Literal["error", "fill"]
    block_bytes: int | str
    client: Any


@overload
def fit(
    data: Any, array: str | None = None, *, normalize: Sequence[Mapping[str, Any] | str], **options: Unpack[FitOptions]
) -> Manifest: ...


@overload
def fit(
    data: Any, *, normalize: Mapping[str, Sequence[Mapping[str, Any] | str]], **options: Unpack[FitOptions]
) -> ManifestCollection: ...


def fit(
    data: Any,
    array: str | None = None,
    *,
    normalize: Sequence[Mapping[str, Any] | str] | Mapping[str, Sequence[Mapping[str, Any] | str]],
    dims: Sequence[str] | None = None,
    sample_dim: str | None = None,
    where: Mapping[str, Any] | None = None,
    samples: slice | None = None,
    fraction: float | None = None,
    seed: int = 0,
    by: str | None = None,
    unseen: Unseen = "error",
    weights: str | None = None,
    nan: str = "skip",
    dtype: Any = None,
    describe: bool = False,
    missing_chunks: Literal["error", "fill"] = "error",
    block_bytes: int | str = DEFAULT_BLOCK_BYTES,
    client: Any = None,
) -> Manifest | ManifestCollection:
    """Fit a chain of normalizations in as few reads of the data as it allows.

    Parameters
    ----------
    data : path, URL, Zarr store, zarr.Array, xarray.DataArray, dask.array.Array or array_like
        Where `normalize` names several arrays also an xarray.Dataset or a mapping of arrays.
    array : str, optional
        Path of the array within a store; not needed where there is only one.
    normalize : sequence of mappings, or mapping of str to such a sequence
        The steps, as in a configuration: ``[{"zscore": {"per": ["channel"]}}]``. For several arrays of an xarray.Dataset, a
        mapping of arrays or a store, the steps of each by its name; what is not named is left alone.
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
    weights : str, optional
        Name of a coordinate along the sample dim: how much each sample weighs in moments and quantiles. Finite numbers, 0 or
        more, of 1024 different values at most; 0 leaves a sample out, and a whole number counts the sample that often.
    nan : {'skip', 'error', 'propagate'}
    dtype : dtype-like, optional
        Of what the manifest's `transform` returns. By default a float keeps its own (float16 becomes float32), integers of
        16 bits or fewer give float32 and wider ones float64. For several arrays one for all, or a mapping from their names.
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
        Or a ManifestCollection, where `normalize` is a mapping.

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

    def job_of(data: Any, array: str | None, normalize: Any, dtype: Any) -> Job:
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
            samples=samples,
            fraction=fraction,
            seed=seed,
            by=by,
            unseen=unseen,
            weights=weights,
        )
        source = as_source(data, given.array, given.dims, given.sample_dim, given.missing_chunks)
        positions = given.samples.as_slice if given.samples else None
        scope: dict[str, Any] = {"samples": positions, "fraction": given.fraction, "seed": given.seed}
        groups: dict[str, Any] = {"by": given.by, "unseen": given.unseen, "weights": given.weights}
        return make_job(source, given.normalize, given.where, given.nan, given.dtype, int(given.block_bytes), **scope, **groups)

    if not isinstance(normalize, Mapping) or not holds_arrays(data):
        return _fit_here(job_of(data, array, normalize, dtype), describe, client)
    jobs: dict[str, Job] = {}
    for name, (values, path) in arrays_of(data, array, normalize).items():
        with naming(name):
            jobs[name] = job_of(values, path, normalize[name], dtype.get(name) if isinstance(dtype, Mapping) else dtype)
    found: dict[str, Manifest] = {}
    for name, job in jobs.items():
        with naming(name):
            found[name] = _fit_here(job, describe, client)
    return ManifestCollection(found)


def _fit_here(job: Job, describe: bool, client: Any) -> Manifest:
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
    check_output(prepared.source, config.output.store, prepared.job.output_dtype, **layout, kept=to_be_kept(prepared.job))
    with connect(config.cluster, debug) as executor:
        fit_of_job = fit_before_writing(prepared, executor, reporter)
        kept = prepared.job.chain(fit_of_job[0][EVERYTHING]).kept
        with create_output(prepared.source, config.output.store, prepared.job.output_dtype, **layout, kept=kept) as sink:
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
    layout = _layout(config.output)
    check_output(source, config.output.store, chain.output_dtype, **layout, kept=chain.kept)
    with (
        connect(config.cluster, debug) as executor,
        create_output(source, config.output.store, chain.output_dtype, **layout, kept=chain.kept) as sink,
    ):
        write_chain(source, chain, sink, config.block_bytes, executor, reporter)
        sink.commit()
    return config.output.store


def write_chain(
    source: ZarrSource,
    chain: FittedChain | GroupedChain,
    sink: ZarrSink,
    block_bytes: int,
    executor: Executor,
    reporter: Reporter,
) -> None:
    """Write every block of `source`, normalized by `chain`, to `sink`, which is not committed."""
    _write(Write(source, chain, sink), block_bytes, executor, reporter)


def plan_config(config: Config) -> Plan:
    """What `run_config` would do; reads metadata and labels, no data.

    Raises
    ------
    ConfigError
        Where it would take more memory than this machine has, if it is to run here.
    """
    source = open_config_source(config.source, config.source.dims)
    job = config_job(config, source)
    job.require_seen()
    threads = threads_per_worker(config.cluster)
    passes = tuple(each for each in plan_passes(job.steps, source) if each.fits)
    phases = [plan_fit(each, source, _blocks(job, each), threads, job.group_count * job.weight_count) for each in passes]
    unit = write_unit(source, config.output.chunks, config.output.shards)
    output_shape = tuple(output_sizes(job.steps, source).values())
    shape = apply_step(source, unit, job.output_dtype, whole_axes(job.steps, job.source), job.block_bytes, output_shape)
    phases.append(plan_apply(source, shape, job.output_dtype, threads, output_shape))
    planned = Plan(passes, tuple(phases), threads)
    require_memory(planned, memory_per_worker(config.cluster), MACHINE_SHARED)
    return planned


def to_be_kept(job: Job) -> dict[str, NDArray[np.intp]]:
    """As many positions as will be kept of each dim of which the output has a part, before it is known which they are."""
    sizes = output_sizes(job.steps, job.source)
    dims = (step.selected_dim for step in job.steps)
    return {dim: np.arange(sizes[dim]) for dim in dims if dim is not None}


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
    return _fit_steps(prepared.job, () if prepared.on_the_way else prepared.passes, executor, reporter)


def write_job(prepared: Prepared, fit_of_job: FitOfJob, sink: ZarrSink, executor: Executor, reporter: Reporter) -> Manifest:
    """Write every block of a fitted job to `sink`, which is not committed; the manifest, which is not saved."""
    job, on_the_way = prepared.job, prepared.on_the_way
    fitted, found, errors = fit_of_job
    gathering = _gather_task(job, on_the_way, fitted) if on_the_way else None
    task = Write(prepared.source, _fitted_chain(job, fitted), sink, gathering)
    summaries = _write(task, job.block_bytes, executor, reporter)
    if on_the_way and summaries is not None:
        found = [_found(job, on_the_way, summaries[EVERYTHING], fitted[EVERYTHING], len(job.steps))]
    return _manifest(job, fitted, found, errors)


def fit_job(job: Job, passes: Sequence[Pass], executor: Executor, reporter: Reporter) -> Manifest:
    """The manifest of `job`, read in `passes`; writes nothing."""
    fitted, found, errors = _fit_steps(job, passes, executor, reporter)
    return _manifest(job, fitted, found, errors)


def _fit_steps(job: Job, passes: Sequence[Pass], executor: Executor, reporter: Reporter) -> FitOfJob:
    """Fit the chain's steps in order, reading the source once for each pass: the steps of all samples together and of each
    group, the statistics of all samples, and how far off each step's quantiles may be."""
    _require_room(job, passes, executor)
    fitted: Fitted = {code: [] for code in (EVERYTHING, *range(job.group_count if job.grouping else 0))}
    found: list[FittedStatistics] = []
    errors: Errors = {}
    read: dict[Pass, Grouped] = {}
    by_step = {index: each for each in passes for index in each.fits or (len(job.steps),) if each.summaries != DEVIATIONS}
    deviating = {each.fits[0]: each for each in passes if each.summaries == DEVIATIONS}
    for index in range(len(job.steps) + 1):
        each = by_step.get(index)
        if each and each.observes:
            observed = [one for one in passes if one.fits == each.fits]
            errors |= _fit_observing(job, index, observed, fitted, executor, reporter)
            continue
        if each and each not in read:
            read[each] = _read(job, each, fitted, executor, reporter)
        if each and index < len(job.steps) and job.steps[index].selected_dim is not None:
            selecting = _found(job, each, read[each][EVERYTHING], fitted[EVERYTHING], index)
            found.append(_fit_selection(job, selecting, deviating.get(index), fitted, executor, reporter))
            _forget(read, each, index)
            continue
        for code, steps in fitted.items():
            with _named(job, code):
                at_hand = _found(job, each, read[each][code], steps, index) if each else None
                if index < len(job.steps):
                    errors |= _quantile_error(job, index, at_hand.statistics if at_hand else None, errors)
                    steps.append(_fit_step(job.steps[index], index, at_hand.statistics if at_hand else None))
            if at_hand and code == EVERYTHING:
                found.append(at_hand)
        if each:
            _forget(read, each, index)
    return fitted, found, errors


def _quantile_error(job: Job, index: int, statistics: Statistics | None, errors: Errors) -> Errors:
    """How far off the quantiles that step `index` is fitted to may be, relative to the values, in this group or another."""
    step = job.steps[index]
    distribution = None if statistics is None else statistics.distribution
    if distribution is None or "distribution" not in step.needs:
        return {}
    place = f"{index}.{step.name}"
    return {place: max(distribution.relative_error, errors.get(place, 0.0))}


def _require_room(job: Job, passes: Sequence[Pass], executor: Executor) -> None:
    """Raise ConfigError, before anything is read, where `passes` take more memory than the workers of `executor` have."""
    threads, limit_bytes, whose = room_of(executor)
    groups = job.group_count * job.weight_count
    phases = tuple(plan_fit(each, job.source, _blocks(job, each), threads, groups) for each in passes)
    require_memory(Plan(tuple(passes), phases, threads), limit_bytes, whose)


def _forget(read: dict[Pass, Grouped], each: Pass, index: int) -> None:
    """Let go of what `each` gathered once the last step is fitted from it."""
    if each.fits[-1:] == (index,):
        del read[each]


def _fit_selection(
    job: Job, found: FittedStatistics, deviating: Pass | None, fitted: Fitted, executor: Executor, reporter: Reporter
) -> FittedStatistics:
    """Fit a step that keeps a part of the features to all samples together, and append it to the steps of every group."""
    statistics, index = found.statistics, found.before_step
    if deviating is not None:
        overall = job.chain([*fitted[EVERYTHING], centered(statistics, found.per)])
        task = Gather(job.source, overall, deviating.summaries, deviating.per, job.selected_codes)
        statistics = with_deviation(statistics, _gathered(job, deviating, task, executor, reporter)[EVERYTHING])
    selection = _fit_step(job.steps[index], index, statistics)
    for steps in fitted.values():
        steps.append(selection)
    return found


def _fit_observing(
    job: Job, index: int, passes: Sequence[Pass], fitted: Fitted, executor: Executor, reporter: Reporter
) -> Errors:
    """Fit step `index`, which observes, in one read for each of its stages; append it to the steps of each group.

    Returns how far off its quantiles may be.
    """
    errors: Errors = {}
    first, *stages = observed_stages(job.steps[index])
    observers = {code: [*steps, first.fit(None)] for code, steps in fitted.items()}
    for stage, each in zip(stages, passes, strict=True):
        read = _read(job, each, observers, executor, reporter)
        for code, steps in observers.items():
            with _named(job, code):
                statistics = statistics_at(read[code], each.at, (), each.per, each.per, job.nan_policy)
                if stage is stages[-1]:
                    errors |= _quantile_error(job, index, statistics, errors)
                steps[index] = _fit_step(stage, index, statistics, steps[index])
    for code, steps in observers.items():
        fitted[code].append(steps[index])
    return errors


def _fit_step(step: Step, index: int, statistics: Statistics | None, observer: FittedStep | None = None) -> FittedStep:
    try:
        return step.fit(statistics) if statistics is None or observer is None else step.fit_observed(statistics, observer)
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
    return _gathered(job, each, _gather_task(job, each, fitted), executor, reporter)


def _gathered(job: Job, each: Pass, task: Gather, executor: Executor, reporter: Reporter) -> Grouped:
    blocks = _blocks(job, each)
    total_bytes = sum(decoded_bytes(block, job.source.dtype) for block in blocks)
    with reporting(reporter, "fit", total_bytes, len(blocks)) as advance:
        return gather(task, blocks, executor, advance)


def _gather_task(job: Job, each: Pass, fitted: Fitted) -> Gather:
    """What `each` does with a block. Groups differ in the steps before it only where some of those were fitted."""
    overall = job.chain(fitted[EVERYTHING][: each.at])
    weights = None if job.weights is None else job.weights[1]
    if job.codes is None or all(step.fitted_per is None for step in job.steps[: each.at]):
        return Gather(job.source, overall, each.summaries, each.per, job.fitted_codes, weights=weights)
    prefixes = tuple(job.chain(fitted[code][: each.at]) for code in range(job.group_count))
    prefix = GroupedChain(overall, prefixes, job.codes)
    return Gather(job.source, prefix, each.summaries, each.per, job.fitted_codes, overall, weights)


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
    unit, dtype = task.sink.write_unit, task.chain.output_dtype
    blocks = list(tile(source.shape, apply_step(source, unit, dtype, whole, block_bytes, task.sink.shape)))
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
