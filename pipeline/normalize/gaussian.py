"""The standard normal distribution's quantile function and distribution function, over arrays.

Not here: what is made normal (`quantile.py`).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from pipeline.normalize.step import Floats

# Of Wichura's AS 241, PPND16, highest power first: numerators and denominators of two of its three ratios.
CENTRE: Final = (
    (2509.0809287301226727, 5226.4952788528545610),
    (33430.575583588128105, 28729.085735721942674),
    (67265.770927008700853, 39307.895800092710610),
    (45921.953931549871457, 21213.794301586595867),
    (13731.693765509461125, 5394.1960214247511077),
    (1971.5909503065514427, 687.18700749205790830),
    (133.14166789178437745, 42.313330701600911252),
    (3.3871328727963666080, 1.0),
)
TAIL: Final = (
    (7.7454501427834140764e-4, 1.05075007164441684324e-9),
    (0.0227238449892691845833, 5.475938084995344946e-4),
    (0.241780725177450611770, 0.0151986665636164571966),
    (1.27045825245236838258, 0.148103976427480074590),
    (3.64784832476320460504, 0.689767334985100004550),
    (5.76949722146069140550, 1.67638483018380384940),
    (4.63033784615654529590, 2.05319162663775882187),
    (1.42343711074968357734, 1.0),
)
CENTRAL = 0.425


def normal_quantile(probabilities: Floats) -> Floats:
    """The values below which a standard normal variable is with given probabilities, to about 16 digits.

    Wichura 1988, Algorithm AS 241 (PPND16), which Python's ``statistics.NormalDist.inv_cdf`` runs for one number.

    Parameters
    ----------
    probabilities : ndarray of float64
        From 1e-10 to 1 - 1e-10, or NaN.

    Returns
    -------
    ndarray of float64
        New; an element depends on its own probability only.

    Examples
    --------
    >>> normal_quantile(np.array([0.025, 0.5, 0.975])).round(6).tolist()
    [-1.959964, 0.0, 1.959964]
    """
    centred = np.asarray(probabilities - 0.5)
    near = 0.180625 - centred * centred
    result = np.asarray(_ratio(CENTRE, near) * centred)
    tails = np.abs(centred) > CENTRAL
    if tails.any():
        result[tails] = np.copysign(_tail(probabilities[tails]), centred[tails])
    return result


def _tail(probabilities: Floats) -> Floats:
    """The magnitude of the quantiles of probabilities far from one half."""
    depth = np.sqrt(-np.log(np.minimum(probabilities, 1.0 - probabilities)))
    return _ratio(TAIL, depth - 1.6)


def _ratio(coefficients: tuple[tuple[float, float], ...], at: Floats) -> Floats:
    above, below = np.zeros_like(at), np.zeros_like(at)
    for each in coefficients:
        for sum_so_far, coefficient in zip((above, below), each, strict=True):
            np.multiply(sum_so_far, at, out=sum_so_far)
            np.add(sum_so_far, coefficient, out=sum_so_far)
    return np.divide(above, below, out=above)


def normal_probability(values: Floats) -> Floats:
    """The probability that a standard normal variable is below `values`: ``erfc(-z / sqrt(2)) / 2`` by the C library.

    Examples
    --------
    >>> normal_probability(np.array([-np.inf, -1.959964, 0.0])).round(6).tolist()
    [0.0, 0.025, 0.5]
    """
    complement = np.frompyfunc(math.erfc, 1, 1)
    return np.asarray(0.5 * np.asarray(complement(values * -math.sqrt(0.5)), np.float64))
