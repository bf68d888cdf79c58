"""Sums and moments in rational arithmetic, straight from their definitions. Not here: anything of the package itself."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray


def finite_fractions(values: NDArray[Any]) -> list[Fraction]:
    """The finite values, exactly."""
    return [Fraction(value) for value in values.ravel().tolist() if not isinstance(value, float) or math.isfinite(value)]


def power_sum(values: list[Fraction], power: int) -> Fraction:
    return sum((value**power for value in values), Fraction(0))


def central_moment(values: list[Fraction], power: int) -> Fraction:
    mean = sum(values, Fraction(0)) / len(values)
    return sum(((value - mean) ** power for value in values), Fraction(0)) / len(values)


def rounded(value: Fraction) -> float:
    """The nearest float64, NaN where it overflows."""
    try:
        return float(value)
    except OverflowError:
        return math.nan


def rounded_root(value: Fraction) -> float:
    """The nearest float64 to the square root, for what is not too near a rounding boundary of 400 bits."""
    if value == 0:
        return 0.0
    scale = 4 ** (400 + abs(value.numerator.bit_length() - value.denominator.bit_length()))
    return float(Fraction(math.isqrt(value.numerator * scale // value.denominator), math.isqrt(scale)))


def as_fractions(integers: list[int], exponent: int) -> list[Fraction]:
    return [Fraction(integer) * Fraction(2) ** exponent for integer in integers]


def same_float(found: Any, expected: float) -> bool:
    return bool(np.array_equal(np.float64(found), np.float64(expected), equal_nan=True))
