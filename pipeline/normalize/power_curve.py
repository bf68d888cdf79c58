"""The curve that Box-Cox and Yeo-Johnson transformations are made of, and its inverse, where nothing cancels.

Not here: which curve a feature has (`power.py`) and the exponent of greatest likelihood (`likelihood.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import factorial
from typing import Final

import numpy as np

from pipeline.normalize.step import Floats

FLAT = 1e-19  # exponents nearer to 0 give the same float64 as this one
SLOPE_TERMS: Final = tuple((k + 1) / factorial(k + 2) for k in reversed(range(20)))
NEAR = 0.5
NEXT_TO_LIMIT = -1 + 2.0**-53


def nonzero(exponent: Floats) -> Floats:
    """`exponent` with those so near to 0 that the curve is a straight line replaced by one that is not 0."""
    return np.asarray(np.where(np.abs(exponent) < FLAT, FLAT, exponent))


def curve(exponent: Floats, logarithms: Floats) -> Floats:
    """``(exp(p · l) - 1) / p``: the power p of a number with the logarithm l, scaled so that p = 0 gives l.

    Parameters
    ----------
    exponent : ndarray of float64
        Broadcastable to `logarithms`.
    logarithms : ndarray of float64

    Returns
    -------
    ndarray of float64
        New, C-contiguous.

    Examples
    --------
    >>> curve(np.array([0.0, 1.0, -2.0]), np.log(np.array([2.0, 2.0, 2.0]))).round(4).tolist()
    [0.6931, 1.0, 0.375]
    """
    exponent = nonzero(exponent)
    result = np.multiply(logarithms, exponent, out=np.empty(np.shape(logarithms)))
    np.expm1(result, out=result)
    return np.divide(result, exponent, out=result)


def curve_logarithm(exponent: Floats, values: Floats) -> Floats:
    """The logarithms whose `curve` the values are; for values at or beyond its limit, the last that can be told from that."""
    exponent = nonzero(exponent)
    result = np.multiply(values, exponent, out=np.empty(np.shape(values)))
    np.maximum(result, NEXT_TO_LIMIT, out=result)
    np.log1p(result, out=result)
    return np.divide(result, exponent, out=result)


def curve_slope(exponent: Floats, logarithms: Floats) -> Floats:
    """The derivative of `curve` by the exponent: ``l² · h(p · l)`` with ``h(u) = (u · e^u - e^u + 1) / u²``.

    By its power series where ``|u| < 1``.
    """
    product = exponent * logarithms
    small = np.abs(product) < 1
    inner = np.where(small, product, 0.0)
    series = np.zeros_like(inner)
    for term in SLOPE_TERMS:
        series = series * inner + term
    outer = np.where(small, 1.0, product)
    grown = np.expm1(outer)
    direct = (outer * (grown + 1) - grown) / outer**2
    return np.asarray(np.where(small, series, direct) * logarithms**2)


def log_ratio(values: Floats, center: Floats, offset: float) -> Floats:
    """``log((v + o) / (c + o))`` for positive v + o and c + o, accurate also where v and c nearly agree.

    Parameters
    ----------
    values : ndarray of float64
    center : ndarray of float64
        Broadcastable to `values`.
    offset : float
        0 or 1.

    Returns
    -------
    ndarray of float64
        New, C-contiguous.
    """
    base = np.asarray(center + offset)
    result = np.subtract(values, center, out=np.empty(np.shape(values)))
    far = np.abs(result) > NEAR * base
    np.copyto(result, 0.0, where=far)
    np.divide(result, base, out=result)
    np.log1p(result, out=result)
    if far.any():
        logarithm = np.log1p if offset else np.log
        result[far] = logarithm(values[far]) - logarithm(np.broadcast_to(center, far.shape)[far])
    return result


def from_log_ratio(logarithms: Floats, center: Floats, offset: float) -> Floats:
    """The values whose `log_ratio` is given.

    Returns
    -------
    ndarray of float64
        New, C-contiguous; raises or warns of overflow as NumPy is set to.
    """
    base = np.asarray(center + offset)
    result = np.empty(np.shape(logarithms))
    near = np.asarray(logarithms > -NEAR)
    np.expm1(np.where(near, logarithms, 0.0), out=result)
    np.multiply(result, base, out=result)
    np.add(result, center, out=result)
    small = ~near & ~np.isnan(logarithms)
    if small.any():
        result[small] = np.exp(logarithms[small]) * np.broadcast_to(base, small.shape)[small] - offset
    np.copyto(result, np.nan, where=np.isnan(logarithms))
    return result


@dataclass(frozen=True, eq=False)
class Bend:
    """Which curve each feature has, from its lambda and the value that it is taken relative to.

    With v the values, or −x where the center is negative, the transformed value is, up to a scale and a shift,
    ``side · curve(power, log_ratio(v, middle, offset))``, and where v is negative
    ``side · (at_zero − exp(−power · log_middle) · curve(opposite, log1p(−v)))``.

    Parameters
    ----------
    exponent : ndarray of float64
        lambda.
    center : ndarray of float64
        Of the same shape.
    offset : float
        1 for Yeo-Johnson, 0 for Box-Cox.
    """

    exponent: Floats
    center: Floats
    offset: float

    @cached_property
    def side(self) -> Floats:
        return np.where(self.center < 0, -1.0, 1.0)

    @cached_property
    def middle(self) -> Floats:
        return np.abs(self.center)

    @cached_property
    def power(self) -> Floats:
        return np.where(self.center < 0, 2.0 - self.exponent, self.exponent)

    @cached_property
    def opposite(self) -> Floats:
        return np.asarray(2.0 - self.power)

    @cached_property
    def log_middle(self) -> Floats:
        return np.asarray(np.log1p(self.middle) if self.offset else np.log(self.middle))

    @cached_property
    def at_zero(self) -> Floats:
        """The curve where the logarithm of v + offset is 0, where the plain formulas give 0."""
        with np.errstate(over="ignore", invalid="ignore"):
            return curve(self.power, -self.log_middle)

    def plain(self) -> tuple[Floats, Floats]:
        """The shift and scale that give the plain formulas: their value is ``(transformed − shift) / scale``."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            return self.side * self.at_zero, np.exp(-self.power * self.log_middle)
