"""The statistics that a step is fitted to, from what a pass gathered and the steps in between: derived, not read.

Not here: which passes there are (`plan.py`) and what carries a job through them (`passes.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.block import Tiling
from pipeline.errors import DataError
from pipeline.gather import Summaries
from pipeline.normalize.chain import run_steps
from pipeline.normalize.standard import ZScore
from pipeline.normalize.step import FittedStep
from pipeline.source.source import Source
from pipeline.statistics.covariance import CovarianceSums
from pipeline.statistics.describe import Statistics, derive_affine
from pipeline.statistics.deviations import Deviations
from pipeline.statistics.distribution import Distribution
from pipeline.statistics.float_histogram import FloatHistogram
from pipeline.statistics.histogram import Histogram
from pipeline.statistics.moments import Moments
from pipeline.statistics.weighted import Weighted

Numbered: TypeAlias = tuple[int, FittedStep]

BIN_DIM = "<bin>"
STEPS_RESOLVED = 2**20


def blocks_selected(blocks: Tiling, source: Source, selected: NDArray[np.bool_] | None) -> Tiling:
    """Those of `blocks`, which cover all samples, that hold a selected one; the others are never read."""
    if selected is None:
        return blocks
    axis = source.dims.index(source.sample_dim)
    wanted = np.logical_or.reduceat(selected, np.array(blocks.starts[axis], np.intp))
    return blocks.keep(axis, np.flatnonzero(wanted).tolist())


def statistics_at(
    summaries: Summaries,
    at: int,
    between: Sequence[FittedStep],
    per: tuple[str, ...],
    wanted: tuple[str, ...],
    nan_policy: str,
) -> Statistics:
    """The statistics, per `wanted`, of the summarized values after the steps `between`: derived, not read.

    Parameters
    ----------
    summaries : mapping of str to Summary
        Of the values before the steps.
    at : int
        Which number of its chain the first of the steps is, for messages.
    between : sequence of FittedStep
        Affine ones, or any elementwise ones where a histogram was gathered; and selections along dims of `per`.
    per, wanted : tuple of str
        The dims that the summaries keep, and those of them that the result keeps.
    """
    histogram = summaries.get("histogram")
    elementwise, kept = _without_selections(between, at)
    axes = {per.index(dim): positions for dim, positions in kept.items()}
    if isinstance(histogram, Histogram | Weighted):
        for axis, positions in axes.items():
            histogram = histogram.take_features(axis, positions)
    whole = histogram.merged if isinstance(histogram, Weighted) else histogram
    table = _table(whole, elementwise, per) if isinstance(whole, Histogram) and elementwise else None
    if isinstance(histogram, Weighted):
        statistics = histogram.statistics(nan_policy, table)
    elif isinstance(histogram, Histogram):
        statistics = replace(histogram.statistics(nan_policy, table), distribution=histogram.distribution(table))
    else:
        statistics = _gathered(summaries, nan_policy)
        for axis, positions in axes.items():
            statistics = statistics.take_features(axis, positions)
        for index, step in elementwise:
            statistics = _through(statistics, index, step, per)
    dropped = tuple(axis for axis, dim in enumerate(per) if dim not in wanted)
    return statistics.sum_features(dropped) if dropped else statistics


def centered(statistics: Statistics, per: tuple[str, ...]) -> FittedStep:
    """The step that subtracts each feature's mean, 0 where there is none, for a read of deviations."""
    mean = np.nan_to_num(statistics.mean(), nan=0.0)
    return ZScore(per=per).restore({"mean": mean, "std": np.ones(mean.shape)})


def with_deviation(statistics: Statistics, summaries: Summaries) -> Statistics:
    """`statistics` with the means of the absolute deviations that were summarized."""
    deviations = summaries["deviations"]
    if not isinstance(deviations, Deviations):
        raise TypeError("deviations are not weighted")
    return replace(statistics, deviation=np.where(np.isnan(statistics.mean()), np.nan, deviations.mean()))


def _without_selections(steps: Sequence[FittedStep], at: int) -> tuple[list[Numbered], dict[str, NDArray[np.intp]]]:
    """What `steps` keep of each dim, and steps that do with that part what the others among `steps` do with all.

    All but the selections are elementwise, so that a selection may be put first: it picks from the parameters of the steps
    before it. Each step comes with its number in the chain, in which the first of `steps` is number `at`.
    """
    rest: list[Numbered] = []
    kept: dict[str, NDArray[np.intp]] = {}
    for index, step in enumerate(steps, at):
        dim = step.step.selected_dim
        mask = None if dim is None else step.keeps(dim)
        if dim is None or mask is None:
            rest.append((index, step))
        else:
            kept[dim] = np.flatnonzero(mask)
            rest = [(number, each.select({dim: kept[dim]})) for number, each in rest]
    return rest, kept


def _gathered(summaries: Summaries, nan_policy: str) -> Statistics:
    """The statistics of what was summarized, with whatever was gathered beside the moments."""
    moments, buckets, covariance = (summaries.get(name) for name in ("moments", "float_histogram", "covariance"))
    if isinstance(moments, Weighted):
        distribution = buckets.distribution() if isinstance(buckets, Weighted) else None
        return replace(moments.statistics(nan_policy), distribution=distribution)
    if not isinstance(moments, Moments):
        raise TypeError(f"no statistics are derived from {', '.join(summaries)} alone")
    return replace(
        moments.statistics(nan_policy),
        distribution=buckets.distribution() if isinstance(buckets, FloatHistogram) else None,
        covariance=covariance if isinstance(covariance, CovarianceSums) else None,
    )


def _table(histogram: Histogram, steps: Sequence[Numbered], per: tuple[str, ...]) -> NDArray[np.float64]:
    """What the steps make of each of the histogram's values: shape features + bins.

    Values that a feature never had are replaced by one that it did, since a step may refuse them.
    """
    occurs = histogram.counts > 0
    bins = histogram.values().astype(np.float64)
    table = np.where(occurs, bins, bins[occurs.argmax(axis=-1)][..., np.newaxis])
    for index, step in steps:
        table = run_steps([step], table, (*per, BIN_DIM), first=index)
    return table


def _through(statistics: Statistics, index: int, step: FittedStep, per: tuple[str, ...]) -> Statistics:
    """The statistics of an affine step's output from its input's, both per `per`."""
    center, scale, offset = _parameters(step, per)
    low, high = (run_steps([step], extreme, per, first=index) for extreme in (statistics.minimum(), statistics.maximum()))
    _check_resolved(statistics, np.abs(high - low), np.maximum(np.abs(low), np.abs(high)), index, step)
    given = statistics.distribution
    distribution = None if given is None else mapped_distribution(given, step, per, index)
    return derive_affine(statistics, center, scale, offset, np.minimum(low, high), np.maximum(low, high), distribution)


def mapped_distribution(given: Distribution, step: FittedStep, per: tuple[str, ...], index: int = 0) -> Distribution:
    """The distribution of what an affine step puts out, to the last bit, since ties and plateaus are found by equality.

    A feature whose parameters are NaN loses its values. `relative_error` stays what it is, `origin` becomes what the step
    makes of it, but for rounding.

    Parameters
    ----------
    given : Distribution
        Of the step's input, per the dims `per`.
    step : FittedStep
    per : tuple of str
    index : int
        Which number of its chain the step is, for messages.
    """
    if not given.values.size:
        return given
    center, scale, offset = _parameters(step, per)
    return given.affine(center, scale, offset, _mapped(given, index, step, per))


def _mapped(given: Distribution, index: int, step: FittedStep, per: tuple[str, ...]) -> NDArray[np.float64]:
    """The values that the step itself puts out, to the last bit: ties and plateaus are found by equality."""
    parts = []
    for feature, values, _ in given.each():
        place = np.unravel_index(feature, given.feature_shape) if per else ()
        one = step.select({dim: slice(int(at), int(at) + 1) for dim, at in zip(per, place, strict=True)})
        shaped = values.reshape((1,) * len(per) + values.shape)
        parts.append(run_steps([one], shaped, (*per, BIN_DIM), first=index).ravel())
    return np.concatenate(parts)


def _parameters(step: FittedStep, per: tuple[str, ...]) -> tuple[NDArray[np.float64], ...]:
    """Center, scale and offset of an affine step, each to broadcast against the features along `per`."""
    if step.affine is None:
        raise TypeError(f"{step.step.name} is not affine")
    return tuple(_spread(values, step.per, per) for values in step.affine)


def _check_resolved(
    statistics: Statistics, spread: NDArray[np.float64], magnitude: NDArray[np.float64], index: int, step: FittedStep
) -> None:
    """Raise DataError where what a step puts out is rounded so coarsely that nothing follows from what it was given."""
    varies = statistics.minimum() < statistics.maximum()
    lost = varies & (spread < STEPS_RESOLVED * np.spacing(magnitude))
    if lost.any():
        raise DataError(
            "the step's output is too coarse for the steps after it",
            where=f"normalize.{index}.{step.step.name}",
            found=f"{int(lost.sum())} of {lost.size} features whose range is less than {STEPS_RESOLVED} float64 roundings",
            expected="a range that is not tiny beside the values' magnitude",
            remedy="give the step a range or shift near 0",
        )


def _spread(values: NDArray[np.float64], own: tuple[str, ...], dims: tuple[str, ...]) -> NDArray[np.float64]:
    """`values` along the dims `own` as an array that broadcasts against one along `dims`."""
    if values.ndim == 0:
        return values
    sizes = dict(zip(own, values.shape, strict=True))
    return values.reshape([sizes.get(dim, 1) for dim in dims])
