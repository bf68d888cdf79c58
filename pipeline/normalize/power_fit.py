"""Power transformations fitted to distributions: from values with counts to exponents of greatest likelihood.

Not here: the likelihood (`likelihood.py`), and what is done with the exponents (`power.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.normalize.likelihood import Integers, Logarithms, root
from pipeline.normalize.power_curve import log_ratio
from pipeline.normalize.step import Floats
from pipeline.statistics.distribution import Distribution

BATCH_ENTRIES = 2**20
SPAN = 30.0
OVERFLOW = 350.0


@dataclass(frozen=True, eq=False)
class PowerFit:
    """What was fitted to each of some features; every array has shape (features,).

    Parameters
    ----------
    exponent : ndarray of float64
        lambda.
    mean, std : ndarray of float64
        Those (ddof 0) of the transformed values, up to the scale and shift that `Bend` says.
    """

    exponent: Floats
    mean: Floats
    std: Floats


def fit_power(distribution: Distribution, features: Integers, center: Floats, offset: float) -> PowerFit:
    """The exponents of greatest likelihood.

    Parameters
    ----------
    distribution : Distribution
    features : ndarray of intp, shape (features,)
        Flat indices of those to fit: each has two values or more.
    center : ndarray of float64, shape (features,)
        A value amid those of the feature, or 0 where these have both signs.
    offset : float
        1 for Yeo-Johnson, 0 for Box-Cox.
    """
    ends = distribution.ends[features]
    sizes = np.diff(distribution.ends, prepend=0)[features]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        fits = [
            _fit_batch(distribution, ends[batch], sizes[batch], center[batch], offset)
            for batch in _batches(sizes, BATCH_ENTRIES)
        ]
    none = np.empty(0)
    return PowerFit(*(np.concatenate([none, *(getattr(fit, name) for fit in fits)]) for name in ("exponent", "mean", "std")))


def _batches(sizes: NDArray[np.int64], most: int) -> Iterator[slice]:
    """Neighbouring features with about `most` entries together, at least one feature at a time."""
    number = np.cumsum(sizes) // most
    edges = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(sizes)]
    return (slice(start, end) for start, end in pairwise(edges) if start < end)


def _fit_batch(
    distribution: Distribution, ends: NDArray[np.int64], sizes: NDArray[np.int64], center: Floats, offset: float
) -> PowerFit:
    starts = np.cumsum(sizes) - sizes
    at = np.repeat(ends - sizes - starts, sizes) + np.arange(sizes.sum())
    side = np.where(center < 0, -1.0, 1.0)
    values = np.repeat(side, sizes) * distribution.values[at]
    middle = np.repeat(np.abs(center), sizes)
    forward = values >= 0
    logarithms = log_ratio(np.maximum(values, 0.0), middle, offset)
    logarithms[~forward] = np.log1p(-values[~forward])
    largest = np.maximum.reduceat(np.abs(logarithms), starts)
    given = Logarithms(
        logarithms=logarithms / np.repeat(largest, sizes),
        weights=distribution.counts[at] / np.repeat(np.add.reduceat(distribution.counts[at], starts), sizes),
        forward=forward,
        starts=starts,
        twist=2 * largest,
    )
    exponent = root(given.slope, *_limits(given))
    mean, std = given.mean_and_std(exponent)
    power = exponent / largest
    return PowerFit(np.where(side < 0, 2.0 - power, power), side * mean * largest, std * largest)


def _limits(given: Logarithms) -> tuple[Floats, Floats]:
    """Between which exponents to search: those for which the transformed values can be told apart.

    The slopes of the curve at the least and at the greatest value differ by a factor of at most exp(30), and no square
    overflows. The exponents of lambda 0 to 2 are among them even so, but for magnitudes beyond 1e76.
    """
    signed = np.where(given.forward, given.logarithms, -given.logarithms)
    least, greatest = np.minimum.reduceat(signed, given.starts), np.maximum.reduceat(signed, given.starts)
    both_signs = ~np.logical_and.reduceat(given.forward, given.starts)
    middle = np.where(both_signs, -least / (greatest - least) * given.twist, 0.0)
    low = np.minimum(middle - SPAN / (greatest - least), 0.0)
    high = np.maximum(middle + SPAN / (greatest - least), given.twist)
    low, high = np.maximum(low, np.where(both_signs, given.twist, 0.0) - OVERFLOW), np.minimum(high, OVERFLOW)
    identity = given.twist / 2
    return np.where(both_signs, np.minimum(low, identity), low), np.where(both_signs, np.maximum(high, identity), high)
