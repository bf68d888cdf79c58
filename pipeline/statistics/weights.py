"""How much the samples behind some statistics weigh together, exactly.

Not here: statistics of each weight and how they are put together (`weighted.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.statistics.arrays import take
from pipeline.statistics.exact import PowerSums

KINDS = 2


def dyadic(value: float) -> tuple[int, int]:
    """(integer, exponent) with `value = integer · 2^exponent`.

    Examples
    --------
    >>> dyadic(0.75), dyadic(6.0)
    ((3, -2), (6, 0))
    """
    numerator, denominator = value.as_integer_ratio()
    return numerator, 1 - denominator.bit_length()


@dataclass(frozen=True, eq=False)
class WeightSums:
    """Σw over the finite values of every feature, and over all of its values: a float64 is a dyadic number, so both are exact.

    Parameters
    ----------
    sums : PowerSums
        Of shape (2,) + feature shape, finite values first; Σw is its first power, and the others are 0.
    whole : bool
        Whether every weight is a whole number: a sample then counts as if it occurred that often.

    Examples
    --------
    >>> sums = WeightSums.of([(2.0, np.array(3), np.array(4)), (0.5, np.array(1), np.array(1))])
    >>> float(sums.finite()), sums.most(finite=False), sums.whole
    (6.5, 8, False)
    """

    sums: PowerSums
    whole: bool

    @classmethod
    def of(cls, parts: Sequence[tuple[float, NDArray[np.int64], NDArray[np.int64]]]) -> WeightSums:
        """Those of weights, each with how many finite values have it, and how many values altogether."""
        shape = (KINDS, *np.shape(parts[0][1]))
        total = PowerSums.zero(shape)
        for weight, *counts in parts:
            integer, exponent = dyadic(weight)
            counted = [integer * count for count in np.stack(counts).ravel().tolist()]
            nothing = [0] * len(counted)
            total += PowerSums.from_integers((counted, nothing, nothing, nothing), (exponent, 0, 0, 0), shape)
        return cls(total, all(weight.is_integer() for weight, *_ in parts))

    def in_unit(self) -> tuple[list[int], int]:
        """(one integer a feature in C order, shift): Σw of finite values is `integer / 2^shift`, where shift is 0 or more."""
        integers, shift = self._integers()
        return integers[: len(integers) // KINDS], shift

    def finite(self) -> NDArray[np.float64]:
        """Σw over the finite values, correctly rounded."""
        integers, shift = self.in_unit()
        values = np.array([integer / (1 << shift) for integer in integers], np.float64)
        return values.reshape(self.sums.feature_shape[1:])

    def most(self, finite: bool) -> int:
        """The largest Σw of any feature, over its finite or over all values, rounded down."""
        integers, shift = self._integers()
        half = len(integers) // KINDS
        return max(integers[:half] if finite else integers[half:], default=0) >> shift

    def _integers(self) -> tuple[list[int], int]:
        integers, exponent = self.sums.to_integers(1)
        if exponent > 0:
            return [integer << exponent for integer in integers], 0
        return integers, -exponent

    def sum_features(self, axes: tuple[int, ...]) -> WeightSums:
        """The sums without the feature axes `axes`."""
        return WeightSums(self.sums.sum_features(tuple(axis + 1 for axis in axes)), self.whole)

    def take_features(self, axis: int, positions: NDArray[np.intp]) -> WeightSums:
        """The sums of the features at `positions` along one feature axis."""
        return WeightSums(self.sums.take_features(axis + 1, positions), self.whole)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The whole state, canonical: `weights`, the words of the sums, and `weights_low` and `weights_whole`."""
        low, whole = np.array(self.sums.lows[0], np.int64), np.array(self.whole, np.int64)
        return {"weights": self.sums.words[0], "weights_low": low, "weights_whole": whole}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], feature_shape: tuple[int, ...]) -> WeightSums:
        """The sums that gave `arrays`; raises ManifestError where they do not fit together."""
        words = take(arrays, "weights", np.uint32)
        words = take(arrays, "weights", np.uint32, (*words.shape[:1], KINDS, *feature_shape))
        low, whole = (int(take(arrays, name, np.int64, ())) for name in ("weights_low", "weights_whole"))
        none = np.zeros((0, KINDS, *feature_shape), np.uint32)
        return cls(PowerSums((words, none, none, none), (low, 0, 0, 0)), bool(whole))


def scaled(sums: PowerSums, weight: float) -> PowerSums:
    """`sums` of samples that all have this weight, exactly.

    Examples
    --------
    >>> sums = PowerSums.from_integers(([3], [5], [9], [17]), (0, 0, 0, 0), ())
    >>> scaled(sums, 0.75).to_integers(1)
    ([9663676416], -32)
    """
    integer, exponent = dyadic(weight)
    if (integer, exponent) == (1, 0):
        return sums
    powers = [sums.to_integers(power) for power in range(1, 5)]
    integers = [[integer * one for one in power] for power, _ in powers]
    return PowerSums.from_integers(integers, [exponent + own for _, own in powers], sums.feature_shape)
