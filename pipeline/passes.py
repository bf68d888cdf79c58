"""A job carried through its passes: each read, what is found in it, the steps fitted from that; and the writing pass.

Not here: which passes there are (`plan.py`), and what is made of the fitted steps (`run.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeAlias

from pipeline.apply import Write, write_blocks
from pipeline.block import Tiling
from pipeline.errors import ConfigError, DataError
from pipeline.executor import Executor, Workers
from pipeline.fitting import blocks_selected, centered, statistics_at, with_deviation
from pipeline.gather import EVERYTHING, Gather, Grouped, Summaries, gather
from pipeline.job import Job
from pipeline.manifest import QUANTILE_ERROR, RANK_ERROR, FittedStatistics
from pipeline.normalize.chain import FittedChain
from pipeline.normalize.grouped import GroupedChain
from pipeline.normalize.memory import parameter_bytes, together
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
    plan_fit,
    whole_axes,
)
from pipeline.progress import Reporter, reporting
from pipeline.statistics.describe import Statistics

Fitted: TypeAlias = Mapping[int, list[FittedStep]]
Errors: TypeAlias = dict[str, dict[str, float]]
FitOfJob: TypeAlias = tuple[Fitted, list[FittedStatistics], Errors]


def fit_steps(job: Job, passes: Sequence[Pass], executor: Executor, reporter: Reporter) -> FitOfJob:
    """Fit the chain's steps in order, reading the source once for each pass: the steps of all samples together and of each
    group, the statistics of all samples, and how far off each step's quantiles may be."""
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
            _fit_observing(job, index, observed, fitted, errors, executor, reporter)
            continue
        if each and each not in read:
            read[each] = _read(job, each, fitted, executor, reporter)
        if each and index < len(job.steps) and job.steps[index].selected_dim is not None:
            selecting = statistics_found(job, each, read[each][EVERYTHING], fitted[EVERYTHING], index)
            found.append(_kept(_fit_selection(job, selecting, deviating.get(index), fitted, executor, reporter)))
            _forget(read, each, index)
            continue
        for code, steps in fitted.items():
            with _named(job, code):
                at_hand = statistics_found(job, each, read[each][code], steps, index) if each else None
                if index < len(job.steps):
                    _note_errors(job, index, at_hand.statistics if at_hand else None, errors)
                    steps.append(_fit_step(job.steps[index], index, at_hand.statistics if at_hand else None))
            if at_hand and code == EVERYTHING:
                found.append(_kept(at_hand))
        if each:
            _forget(read, each, index)
    return fitted, found, errors


def _kept(found: FittedStatistics) -> FittedStatistics:
    """What a manifest keeps of statistics: not the distribution nor the covariance, which take far more memory."""
    return replace(found, statistics=replace(found.statistics, distribution=None, covariance=None))


def _note_errors(job: Job, index: int, statistics: Statistics | None, errors: Errors) -> None:
    """Put into `errors` how far off the quantiles that step `index` is fitted to may be, in this group or another."""
    step = job.steps[index]
    distribution = None if statistics is None else statistics.distribution
    if distribution is None or "distribution" not in step.needs:
        return
    place = f"{index}.{step.name}"
    for name, error in ((QUANTILE_ERROR, distribution.relative_error), (RANK_ERROR, distribution.rank_error)):
        known = errors.setdefault(name, {})
        known[place] = max(error, known.get(place, 0.0))


def fit_plan(job: Job, passes: Sequence[Pass], workers: Workers) -> Plan:
    """The figures of the reads `passes` on `workers`."""
    own = parameter_bytes(job.steps, job.sizes)
    phases = []
    for each in passes:
        fitted = together(own[: max(each.fits, default=-1) + 1], job.chain_count)
        quantiles = max((own[index].stored for index in each.fits if "distribution" in job.steps[index].needs), default=0)
        groups = (job.group_count + _groups_have_prefixes(job, each)) * job.weight_count
        phases.append(plan_fit(each, job.source, pass_blocks(job, each), workers, groups, fitted, quantiles))
    return Plan(tuple(passes), tuple(phases), workers.threads)


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
    job: Job, index: int, passes: Sequence[Pass], fitted: Fitted, errors: Errors, executor: Executor, reporter: Reporter
) -> None:
    """Fit step `index`, which observes, in one read for each of its stages; append it to the steps of each group."""
    first, *stages = observed_stages(job.steps[index])
    observers = {code: [*steps, first.fit(None)] for code, steps in fitted.items()}
    for stage, each in zip(stages, passes, strict=True):
        read = _read(job, each, observers, executor, reporter)
        for code, steps in observers.items():
            with _named(job, code):
                statistics = statistics_at(read[code], each.at, (), each.per, each.per, job.nan_policy)
                if stage is stages[-1]:
                    _note_errors(job, index, statistics, errors)
                steps[index] = _fit_step(stage, index, statistics, steps[index])
    for code, steps in observers.items():
        fitted[code].append(steps[index])


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
    return _gathered(job, each, gather_task(job, each, fitted), executor, reporter)


def _gathered(job: Job, each: Pass, task: Gather, executor: Executor, reporter: Reporter) -> Grouped:
    blocks = pass_blocks(job, each)
    with reporting(reporter, "fit", blocks.size * job.source.dtype.itemsize, len(blocks)) as advance:
        return gather(task, blocks, executor, advance)


def gather_task(job: Job, each: Pass, fitted: Fitted) -> Gather:
    """What `each` does with a block."""
    overall = job.chain(fitted[EVERYTHING][: each.at])
    weights = None if job.weights is None else job.weights[1]
    if not _groups_have_prefixes(job, each) or job.codes is None:
        return Gather(job.source, overall, each.summaries, each.per, job.fitted_codes, weights=weights)
    prefixes = tuple(job.chain(fitted[code][: each.at]) for code in range(job.group_count))
    prefix = GroupedChain(overall, prefixes, job.codes)
    return Gather(job.source, prefix, each.summaries, each.per, job.fitted_codes, overall, weights)


def _groups_have_prefixes(job: Job, each: Pass) -> bool:
    """Whether groups differ in the steps before `each`: it then keeps summaries of all samples beside theirs."""
    return job.codes is not None and any(step.fitted_per is not None for step in job.steps[: each.at])


def fitted_chain(job: Job, fitted: Fitted) -> FittedChain | GroupedChain:
    """What the writing pass sends the samples through."""
    overall = job.chain(fitted[EVERYTHING], job.output_dtype)
    groups = job.groups(fitted)
    return overall if groups is None or job.codes is None else groups.chain(overall, job.codes)


def statistics_found(job: Job, each: Pass, summaries: Summaries, fitted: Sequence[FittedStep], index: int) -> FittedStatistics:
    """The statistics of the values that reach step `index`, from the pass that serves it."""
    wanted = (job.steps[index].fitted_per or ()) if index < len(job.steps) else ()
    per = tuple(dim for dim in output_sizes(job.steps[:index], job.source) if dim in wanted)
    statistics = statistics_at(summaries, each.at, fitted[each.at : index], each.per, per, job.nan_policy)
    if job.nan_policy == "error":
        statistics.check()
    return FittedStatistics(index, per, statistics)


def write_pass(task: Write, block_bytes: int, executor: Executor, reporter: Reporter) -> Grouped | None:
    """Write every block that `task` is to write; what was gathered on the way, where it was to gather."""
    source = task.source
    whole = whole_axes([fitted.step for fitted in task.chain.steps], source)
    unit, dtype = task.sink.write_unit, task.chain.output_dtype
    output = task.chain.output_sizes(dict(zip(source.dims, source.shape, strict=True)))
    blocks = Tiling.regular(source.shape, apply_step(source, unit, dtype, whole, block_bytes, output))
    with reporting(reporter, "apply", blocks.size * source.dtype.itemsize, len(blocks)) as advance:
        return write_blocks(task, blocks, executor, advance)


def pass_blocks(job: Job, each: Pass) -> Tiling:
    """The blocks that `each` reads: those with a selected sample."""
    whole = whole_axes(job.steps[: each.at], job.source, each)
    blocks = fit_blocks(job.source, whole, job.block_bytes, each, job.group_count * job.weight_count)
    return blocks_selected(blocks, job.source, job.selected)
