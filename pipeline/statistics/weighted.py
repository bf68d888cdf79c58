"""Weighted samples: a summary for each weight that occurs, and what all of them together come to.

Not here: how much samples weigh together (`weights.py`), and where their weights come from (`pipeline.source.weights`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.block import Block
from pipeline.statistics.describe import Counts, Statistics
from pipeline.statistics.distribution import Distribution, Frequencies, from_entries
from pipeline.statistics.exact import PowerSums
from pipeline.statistics.float_histogram import FloatHistogram
from pipeline.statistics.histogram import Histogram
from pipeline.statistics.moments import Moments
from pipeline.statistics.weights import WeightSums, scaled

AnyPart: TypeAlias = Any
WHOLE_AT_MOST = 2**62


@dataclass(frozen=True, eq=False)
class Weighted:
    """The summaries of one kind of samples that have weights, those of equal weight together.

    As every part obeys the laws of a summary, so does the whole: it is a function of the pairs of values and weights alone,
    and the weights enter exactly, at the end and once.

    Parameters
    ----------
    parts : mapping of float to Summary
        The summary of the values of the samples of each weight, by ascending weight; at least one.

    Examples
    --------
    >>> values = np.array([1.0, 2.0, 7.0])
    >>> def of(some): return Moments.empty((), values.dtype).update(some, ())
    >>> weighted = Weighted({0.5: of(values[:1])}).merge(Weighted({0.5: of(values[1:2]), 3.0: of(values[2:])}))
    >>> float(weighted.statistics().mean()), float(np.average(values, weights=[0.5, 0.5, 3.0]))
    (5.625, 5.625)
    """

    parts: Mapping[float, AnyPart]

    @property
    def feature_shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = next(iter(self.parts.values())).feature_shape
        return shape

    @property
    def merged(self) -> AnyPart:
        """The summary of all values, whatever their weight."""
        return reduce(lambda one, other: one.merge(other), self.parts.values())

    def merge(self, other: Weighted) -> Weighted:
        """The summaries of the values of both."""
        merged = {}
        for weight in sorted({*self.parts, *other.parts}):
            own = [each.parts[weight] for each in (self, other) if weight in each.parts]
            merged[weight] = own[0] if len(own) == 1 else own[0].merge(own[1])
        return Weighted(merged)

    def take_features(self, axis: int, positions: NDArray[np.intp]) -> Weighted:
        """The summaries of the features at `positions` along one feature axis, where their kind can tell them apart."""
        return Weighted({weight: part.take_features(axis, positions) for weight, part in self.parts.items()})

    @classmethod
    def join(cls, parts: Sequence[tuple[Block, Weighted]], feature_shape: tuple[int, ...]) -> Weighted:
        """One from those of disjoint boxes of features that tile `feature_shape`, all of them of the same samples."""
        first = parts[0][1].parts
        return cls(
            {
                weight: type(summary).join([(box, each.parts[weight]) for box, each in parts], feature_shape)
                for weight, summary in first.items()
            }
        )

    def statistics(self, nan_policy: str = "skip", table: NDArray[np.float64] | None = None) -> Statistics:
        """The weighted statistics, of moments; or of histograms, with their distribution, see `Histogram.statistics`."""
        each: dict[float, Statistics] = {}
        for weight, part in self.parts.items():
            if isinstance(part, Histogram):
                each[weight] = replace(part.statistics(nan_policy, table), distribution=part.distribution(table))
            elif isinstance(part, Moments):
                each[weight] = part.statistics(nan_policy)
            else:
                raise TypeError(f"no weighted statistics of {type(part).__name__}")
        return _together(each)

    def distribution(self) -> Distribution:
        """The weighted distribution, of histograms of floats, in the buckets that they have when they are merged."""
        merged = self.merged
        if not isinstance(merged, FloatHistogram):
            raise TypeError(f"no weighted distribution of {type(merged).__name__}")
        counts = _weighed({weight: merged.counts_of(part) for weight, part in self.parts.items()})
        kind = counts[0].dtype.type
        set_bits = [part.set_bits * kind(weight) for weight, part in self.parts.items()]
        return merged.distribution(np.sum(counts, axis=0), np.sum(set_bits, axis=0))


def _together(each: Mapping[float, Statistics]) -> Statistics:
    """The statistics of all samples from those of the samples of each weight."""
    some = list(each.values())

    def total(name: str) -> Counts:
        return np.asarray(np.sum([getattr(one, name) for one in some], axis=0, dtype=np.int64))

    distributions = {weight: one.distribution for weight, one in each.items() if one.distribution is not None}
    counts = [(weight, one.nobs, one.nobs + one.nan + one.posinf + one.neginf) for weight, one in each.items()]
    return replace(
        some[0],
        nobs=total("nobs"),
        nan=total("nan"),
        posinf=total("posinf"),
        neginf=total("neginf"),
        zeros=None if any(one.zeros is None for one in some) else total("zeros"),
        min=np.asarray(np.min([one.min for one in some], axis=0)),
        max=np.asarray(np.max([one.max for one in some], axis=0)),
        sums=reduce(PowerSums.__add__, (scaled(one.sums, weight) for weight, one in each.items())),
        distribution=_mixed(distributions) if distributions else None,
        weights=WeightSums.of(counts),
    )


def _mixed(each: Mapping[float, Distribution]) -> Distribution:
    """The distribution of all observations from exact ones of the observations of each weight."""
    some = list(each.values())
    counts = _weighed({weight: one.counts for weight, one in each.items()})
    features = np.concatenate([np.repeat(np.arange(len(one.ends)), np.diff(one.ends, prepend=0)) for one in some])
    values = np.concatenate([one.values for one in some])
    return from_entries(some[0].feature_shape, features, values, np.concatenate(counts))


def _weighed(each: Mapping[float, Frequencies]) -> list[NDArray[Any]]:
    """How much the counts of each weight weigh: int64 where the weights are whole and not too many, else float64."""
    weighed = sum(int(weight) * int(counts.sum()) for weight, counts in each.items())
    whole = all(weight.is_integer() for weight in each) and weighed <= WHOLE_AT_MOST
    kind = np.int64 if whole else np.float64
    return [counts.astype(kind) * kind(weight) for weight, counts in each.items()]
