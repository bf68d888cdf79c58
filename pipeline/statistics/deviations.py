"""The summary behind a mean absolute deviation: how many finite values, and the exact sum of their magnitudes.

Not here: the center, which is subtracted before the values are summarized (`pipeline.fitting`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.block import Block
from pipeline.errors import DataError
from pipeline.statistics import rational
from pipeline.statistics.arrays import take
from pipeline.statistics.exact import PowerSums
from pipeline.statistics.moments import Moments


@dataclass(frozen=True, eq=False)
class Deviations:
    """n and Σ|x| of finite values, exact; see `Summary` for the laws it obeys.

    Of values from which their mean has been subtracted it gives the mean absolute deviation. Each difference is rounded once,
    to float64; the sum of their magnitudes is not rounded, so that neither chunks nor order leave a trace.

    Parameters
    ----------
    nobs : ndarray of int64
        How many values are finite.
    sums : PowerSums
        Σ|x| is the first power; the others are 0.

    Examples
    --------
    >>> values = np.array([[1.0, np.nan], [-2.0, 1e300]])
    >>> Deviations.empty((2,), values.dtype).update(values, (1,)).mean().tolist()
    [1.5, 1e+300]
    """

    name: ClassVar[str] = "deviations"
    bitwise: ClassVar[bool] = True
    whole_features: ClassVar[bool] = False

    nobs: NDArray[np.int64]
    sums: PowerSums

    @property
    def feature_shape(self) -> tuple[int, ...]:
        return self.nobs.shape

    @classmethod
    def empty(cls, feature_shape: tuple[int, ...], dtype: np.dtype[Any], among: int | None = None) -> Deviations:
        """The summary of no values of `dtype`; raises DataError where that is no real dtype of at most 64 bits."""
        nothing = Moments.empty(feature_shape, dtype)
        return cls(np.zeros(feature_shape, np.int64), nothing.sums)

    def update(self, values: NDArray[Any], feature_axes: tuple[int, ...]) -> Deviations:
        """This summary merged with that of `values`, whose `feature_axes` (ascending) are kept and others reduced."""
        magnitudes = _magnitudes(values)
        added = Moments.empty(self.feature_shape, magnitudes.dtype).update(magnitudes, feature_axes)
        return self.merge(Deviations(added.counts[0], _first_power(added.sums)))

    def merge(self, other: Deviations) -> Deviations:
        """The summary of the values of both; raises DataError where these are of other features."""
        if self.feature_shape != other.feature_shape:
            raise DataError("summaries of different features", found=other.feature_shape, expected=self.feature_shape)
        return Deviations(self.nobs + other.nobs, self.sums + other.sums)

    def sum_features(self, axes: tuple[int, ...]) -> Deviations:
        """The summary that would have been kept without the feature axes `axes`."""
        return Deviations(np.asarray(self.nobs.sum(axis=axes)), self.sums.sum_features(axes))

    @classmethod
    def join(cls, parts: Sequence[tuple[Block, Deviations]], feature_shape: tuple[int, ...]) -> Deviations:
        """One summary from those of disjoint boxes of features that tile `feature_shape`; at least one part."""
        nobs = np.zeros(feature_shape, np.int64)
        for box, part in parts:
            nobs[box.slices] = part.nobs
        return cls(nobs, PowerSums.join([(box, part.sums) for box, part in parts], feature_shape))

    def mean(self) -> NDArray[np.float64]:
        """Σ|x| / n, correctly rounded; NaN where there is no value or it overflows float64."""
        (sums, *_), unit = self.sums.common_integers()
        pairs = zip(sums, self.nobs.ravel().tolist(), strict=True)
        means = np.array([rational.ratio(total, count, unit) if count else np.nan for total, count in pairs], np.float64)
        means[np.isinf(means)] = np.nan
        return means.reshape(self.feature_shape)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The whole state, canonical: `counts`, the words `sum` and their `low`."""
        return {"counts": self.nobs, "sum": self.sums.words[0], "low": np.array(self.sums.lows[0], np.int64)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Deviations:
        """The summary that gave `arrays`; raises ManifestError where they do not fit together."""
        nobs = take(arrays, "counts", np.int64)
        words = take(arrays, "sum", np.uint32)
        words = take(arrays, "sum", np.uint32, (*words.shape[:1], *nobs.shape))
        low = take(arrays, "low", np.int64, ())
        return cls(nobs, _of_first_power(words, int(low)))


def _magnitudes(values: NDArray[Any]) -> NDArray[Any]:
    """|values|; those of signed integers as unsigned ones, since the least of them has a magnitude that they do not hold."""
    if values.dtype.kind != "i":
        return np.abs(values) if values.dtype.kind == "f" else values
    return np.abs(values.astype(np.int64)).view(np.uint64)


def _first_power(sums: PowerSums) -> PowerSums:
    return _of_first_power(sums.words[0], sums.lows[0])


def _of_first_power(words: NDArray[np.uint32], low: int) -> PowerSums:
    nothing = np.zeros((0, *words.shape[1:]), np.uint32)
    return PowerSums((words, nothing, nothing, nothing), (low, 0, 0, 0))
