"""The exponent of a power transformation by maximum likelihood, for many features at once.

Not here: the transformations (`power.py`), and what a likelihood is made of (`power_curve.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.normalize.power_curve import curve, curve_slope
from pipeline.normalize.step import Floats

Integers: TypeAlias = NDArray[np.intp]
Masks: TypeAlias = NDArray[np.bool_]

ROUNDS = 200
TOLERANCE = 2.0**-50


@dataclass(frozen=True, eq=False)
class Logarithms:
    """What the likelihood depends on: the values of some features as logarithms in [-1, 1], one feature after the other.

    ``w = curve(t, l)`` where `forward`, else ``-curve(twist - t, l)``, is the transformed value, up to a scale and a shift of
    the feature, for the exponent t; only its spread and the mean of the signed logarithms enter the likelihood.

    Parameters
    ----------
    logarithms : ndarray of float64, shape (entries,)
    weights : ndarray of float64, shape (entries,)
        Positive, of sum 1 in each feature.
    forward : ndarray of bool, shape (entries,)
    starts : ndarray of intp, shape (features,)
        Where the entries of each feature begin; every feature has two or more that differ.
    twist : ndarray of float64, shape (features,)
    """

    logarithms: Floats
    weights: Floats
    forward: Masks
    starts: Integers
    twist: Floats

    def sums(self, values: Floats) -> Floats:
        """The sum of `values` (entries,) in each feature."""
        return np.asarray(np.add.reduceat(values, self.starts))

    def spread_out(self, values: Floats) -> Floats:
        """`values` (features,) for each entry."""
        return np.repeat(values, np.diff(self.starts, append=len(self.logarithms)))

    def transformed(self, exponent: Floats) -> tuple[Floats, Floats]:
        """The transformed values for one exponent a feature, and their derivatives by it."""
        own = self.spread_out(exponent)
        own = np.where(self.forward, own, self.spread_out(self.twist) - own)
        values = curve(own, self.logarithms)
        return np.where(self.forward, values, -values), curve_slope(own, self.logarithms)

    def mean_and_std(self, exponent: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation (ddof 0) of the transformed values of each feature."""
        values, _ = self.transformed(exponent)
        mean = self.sums(self.weights * values)
        return mean, np.sqrt(self.sums(self.weights * (values - self.spread_out(mean)) ** 2))

    def slope(self, exponent: Floats) -> Floats:
        """The derivative of the negative log-likelihood per observation, ``log(std(w)) - t · mean(± l)``, by the exponent.

        It never decreases: the likelihood is log-concave (Kouider and Chen 1995 for Box-Cox, Marchand et al. 2022 for
        Yeo-Johnson), so a sign tells on which side the maximum lies.
        """
        values, derivatives = self.transformed(exponent)
        centred = values - self.spread_out(self.sums(self.weights * values))
        variance = self.sums(self.weights * centred**2)
        covariance = self.sums(self.weights * centred * derivatives)
        signed = np.where(self.forward, self.logarithms, -self.logarithms)
        return covariance / variance - self.sums(self.weights * signed)


def root(function: Callable[[Floats], Floats], low: Floats, high: Floats) -> Floats:
    """Where each component of a nondecreasing function is zero; the end nearest to that where it is not in between.

    Chandrupatla's method (1997, doi:10.1016/s0965-9978(96)00051-8): inverse quadratic interpolation where that is safe,
    bisection elsewhere, in all components at once.

    Parameters
    ----------
    function : callable
        Of an array of one argument a component.
    low, high : ndarray of float64
        The ends, low <= high.

    Examples
    --------
    >>> root(lambda x: x**3 - [8.0, 100.0], np.zeros(2), np.full(2, 3.0)).round(12).tolist()
    [2.0, 3.0]
    """
    a, b = high, low
    at_a, at_b = function(a), function(b)
    result = np.where(at_b >= 0, low, high)
    found = (at_b >= 0) | (at_a <= 0)
    part = np.full(a.shape, 0.5)
    for _ in range(ROUNDS):
        tried = a + part * (b - a)
        at_tried = function(tried)
        same = np.sign(at_tried) == np.sign(at_a)
        c, at_c = np.where(same, a, b), np.where(same, at_a, at_b)
        b, at_b = np.where(same, b, a), np.where(same, at_b, at_a)
        a, at_a = tried, at_tried
        best = np.where(np.abs(at_a) < np.abs(at_b), a, b)
        tolerance = TOLERANCE * np.maximum(np.abs(best), TOLERANCE)
        near = (at_a == 0) | (np.abs(b - a) <= 2 * tolerance)
        result = np.where(found, result, best)
        found |= near  # and stays as it is: a result must not depend on what else is searched
        if found.all():
            break
        part = _next_part(a, b, c, at_a, at_b, at_c, tolerance)
    return result


def _next_part(a: Floats, b: Floats, c: Floats, at_a: Floats, at_b: Floats, at_c: Floats, tolerance: Floats) -> Floats:
    """How far from `a` towards `b` to try next, as a part of the distance."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        xi, phi = (a - b) / (c - b), (at_a - at_b) / (at_c - at_b)
        quadratic = at_a / (at_b - at_a) * at_c / (at_b - at_c)
        quadratic += (c - a) / (b - a) * at_a / (at_c - at_a) * at_b / (at_c - at_b)
        safe = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi) & np.isfinite(quadratic)
        least = np.minimum(tolerance / np.abs(b - a), 0.5)
    return np.clip(np.where(safe, quadratic, 0.5), least, 1 - least)
