"""Straight lines whose two ends are exact.

Not here: which line a step draws.
"""

from __future__ import annotations

import numpy as np

from pipeline.normalize.step import Floats


def interpolate(fraction: Floats, low: Floats | float, width: Floats | float, high: Floats | float) -> Floats:
    """``fraction * width + low``, but fractions 0 and 1 give exactly `low` and `high`, and those between stay between.

    The plain formula gives `low` at 0 and never decreases, but at 1 rounding may miss `high`
    (``1 * (0.2 - -0.1) + -0.1 > 0.2``). Holding values at or below 1 down to `high`, and values at or above 1 up to it,
    keeps it from ever decreasing.

    Parameters
    ----------
    fraction : ndarray of float64
        Overwritten with the result.
    low, width, high : float or ndarray of float64
        Broadcastable to `fraction`; `width` is positive and is ``high - low`` but for rounding.

    Returns
    -------
    ndarray of float64
        `fraction`.

    Examples
    --------
    >>> interpolate(np.array([0.0, 1.0, 2.0]), -0.1, 0.2 - -0.1, 0.2).tolist()
    [-0.1, 0.2, 0.5000000000000001]
    """
    exact = np.all(np.add(width, low) == high)
    within, beyond = (None, None) if exact else (fraction <= 1, fraction >= 1)
    np.multiply(fraction, width, out=fraction)
    np.add(fraction, low, out=fraction)
    if within is not None and beyond is not None:
        np.copyto(fraction, high, where=within & (fraction > high))
        np.copyto(fraction, high, where=beyond & (fraction < high))
    return fraction
