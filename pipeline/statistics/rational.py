"""Central moments in integer arithmetic, rounded once at the end.

Not here: arrays of features, and what happens to those without a value (`describe.py`).
"""

from __future__ import annotations

import math


def ratio(numerator: int, denominator: int, exponent: int = 0) -> float:
    """`numerator / denominator · 2^exponent`, correctly rounded; ±inf where that overflows float64.

    Examples
    --------
    >>> ratio(1, 3), ratio(-1, 1, 2000)
    (0.3333333333333333, -inf)
    """
    if exponent >= 0:
        numerator <<= exponent
    else:
        denominator <<= -exponent
    try:
        return numerator / denominator
    except OverflowError:
        return math.inf if numerator > 0 else -math.inf


def root(numerator: int, denominator: int, exponent: int = 0) -> float:
    """`sqrt(numerator / denominator · 4^exponent)`, correctly rounded.

    The method of CPython's `statistics._float_sqrt_of_frac`: an integer root of at least 54 bits, rounded to odd.

    Examples
    --------
    >>> root(2, 1), root(9, 4, 1000) == 1.5 * 2.0**1000
    (1.4142135623730951, True)
    """
    if numerator == 0:
        return 0.0
    shift = (numerator.bit_length() - denominator.bit_length() - 109) // 2
    if shift >= 0:
        denominator <<= 2 * shift
    else:
        numerator <<= -2 * shift
    quotient, remainder = divmod(numerator, denominator)
    odd = math.isqrt(quotient)
    odd |= remainder != 0 or odd * odd != quotient
    return ratio(odd, 1, shift + exponent)


def central(count: int, sums: tuple[int, int, int, int]) -> tuple[int, int, int]:
    """n²·m₂, n³·m₃ and n⁴·m₄, where mₖ = Σ(x − mean)ᵏ / n and `sums` are Σx, Σx², Σx³, Σx⁴."""
    one, two, three, four = sums
    square = one * one
    second = count * two - square
    third = count * (count * three - 3 * one * two) + 2 * one * square
    fourth = count * (count * (count * four - 4 * one * three) + 6 * square * two) - 3 * square * square
    return second, third, fourth


def skewness(second: int, third: int) -> float:
    """m₃ / m₂^(3/2), from what `central` gives; `second` must be positive."""
    magnitude = root(third * third, second**3)
    return magnitude if third >= 0 else -magnitude


def kurtosis(second: int, fourth: int) -> float:
    """m₄ / m₂² − 3, from what `central` gives; `second` must be positive."""
    square = second * second
    return ratio(fourth - 3 * square, square)
