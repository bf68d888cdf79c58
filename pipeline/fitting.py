"""The fit: one read of the source for each planned pass, its summary, and the steps that follow from it.

Not here: which passes there are (`plan.py`) and what carries them out (`executor.py`, `cluster.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.block import Block
from pipeline.errors import DataError
from pipeline.gather import Summaries
from pipeline.normalize.chain import run_steps
from pipeline.normalize.step import FittedStep
from pipeline.source.source import Source
from pipeline.statistics.covariance import CovarianceSums
from pipeline.statistics.describe import Statistics, derive_affine
from pipeline.statistics.float_histogram import FloatHistogram
from pipeline.statistics.histogram import Histogram
from pipeline.statistics.moments import Moments

BIN_DIM = "<bin>"
STEPS_RESOLVED = 2**20


def blocks_selected(blocks: Iterable[Block], source: Source, selected: NDArray[np.bool_] | None) -> list[Block]:
    """Those of `blocks` that hold a selected sample; the others are never read."""
    if selected is None:
        return list(blocks)
    axis = source.dims.index(source.sample_dim)
    return [block for block in blocks if selected[block.slices[axis]].any()]


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
        Affine ones, or any elementwise ones where a histogram was gathered.
    per, wanted : tuple of str
        The dims that the summaries keep, and those of them that the result keeps.
    """
    histogram = summaries.get("histogram")
    if isinstance(histogram, Histogram):
        table = _table(histogram, at, between, per) if between else None
        statistics = replace(histogram.statistics(nan_policy, table), distribution=histogram.distribution(table))
    else:
        statistics = _gathered(summaries, nan_policy)
        for index, step in enumerate(between, at):
            statistics = _through(statistics, index, step, per)
    dropped = tuple(axis for axis, dim in enumerate(per) if dim not in wanted)
    return statistics.sum_features(dropped) if dropped else statistics


def _gathered(summaries: Summaries, nan_policy: str) -> Statistics:
    """The statistics of what was summarized, with whatever was gathered beside the moments."""
    moments, buckets, covariance = (summaries.get(name) for name in ("moments", "float_histogram", "covariance"))
    if not isinstance(moments, Moments):
        raise TypeError(f"no statistics are derived from {', '.join(summaries)} alone")
    return replace(
        moments.statistics(nan_policy),
        distribution=buckets.distribution() if isinstance(buckets, FloatHistogram) else None,
        covariance=covariance if isinstance(covariance, CovarianceSums) else None,
    )


def _table(histogram: Histogram, at: int, steps: Sequence[FittedStep], per: tuple[str, ...]) -> NDArray[np.float64]:
    """What the steps make of each of the histogram's values: shape features + bins.

    Values that a feature never had are replaced by one that it did, since a step may refuse them.
    """
    occurs = histogram.counts > 0
    bins = histogram.values().astype(np.float64)
    table = np.where(occurs, bins, bins[occurs.argmax(axis=-1)][..., np.newaxis])
    return run_steps(steps, table, (*per, BIN_DIM), first=at)


def _through(statistics: Statistics, index: int, step: FittedStep, per: tuple[str, ...]) -> Statistics:
    """The statistics of an affine step's output from its input's, both per `per`."""
    if step.affine is None:
        raise TypeError(f"{step.step.name} is not affine")
    center, scale, offset = (_spread(values, step.per, per) for values in step.affine)
    low, high = (run_steps([step], extreme, per, first=index) for extreme in (statistics.minimum(), statistics.maximum()))
    _check_resolved(statistics, np.abs(high - low), np.maximum(np.abs(low), np.abs(high)), index, step)
    return derive_affine(statistics, center, scale, offset, np.minimum(low, high), np.maximum(low, high))


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
