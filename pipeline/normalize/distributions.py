"""What the steps share that are fitted to distributions: the distribution, and quantiles for every feature.

Not here: any such step (`robust.py`, `clip_percentiles.py`, `quantile.py`, `power.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from pipeline.errors import DataError
from pipeline.normalize.features import FeatureStep, checked_statistics, settled
from pipeline.normalize.names import Number
from pipeline.normalize.step import Floats

if TYPE_CHECKING:
    from pipeline.statistics.describe import Statistics
    from pipeline.statistics.distribution import Distribution

Percent = Annotated[Number, Field(ge=0, le=100)]


class DistributionStep(FeatureStep):
    """A step whose parameters, one set for each feature, follow from how the feature's values are distributed."""

    requires: ClassVar[frozenset[str]] = frozenset({"moments", "distribution"})


def checked_distribution(step: FeatureStep, statistics: Statistics | None) -> tuple[Statistics, Distribution]:
    """`statistics` and the distribution that they hold; raises DataError as `checked_statistics` does."""
    checked = checked_statistics(step, statistics)
    if checked.distribution is None:
        raise TypeError(f"{step.name} needs the distribution of the values")
    return checked, checked.distribution


def known(statistics: Statistics, values: Floats) -> Floats:
    """`values` (…, features) with 0 for a feature without a finite value, and NaN where NaN was asked for."""
    return np.where(statistics.withheld(), np.nan, settled(statistics, values))


def fitted_quantiles(statistics: Statistics, distribution: Distribution, probabilities: ArrayLike) -> Floats:
    """Quantiles (probabilities, …, features), within the extrema, which are exact even where the distribution is not."""
    return _within_extrema(statistics, distribution.quantile(probabilities), probabilities)


def fitted_bounds(statistics: Statistics, distribution: Distribution, probabilities: ArrayLike) -> tuple[Floats, Floats]:
    """Between which values the exact quantiles are: (lowest, highest), each as `fitted_quantiles` has them."""
    low, high = distribution.bounds(probabilities)
    return _within_extrema(statistics, low, probabilities), _within_extrema(statistics, high, probabilities)


def _within_extrema(statistics: Statistics, quantiles: Floats, probabilities: ArrayLike) -> Floats:
    quantiles = np.clip(quantiles, statistics.minimum(), statistics.maximum())
    wanted = np.asarray(probabilities, np.float64).reshape([-1] + [1] * len(statistics.feature_shape))
    quantiles = np.where(wanted == 0, statistics.minimum(), np.where(wanted == 1, statistics.maximum(), quantiles))
    return known(statistics, quantiles)


def finite_spread(step: FeatureStep, spread: Floats) -> Floats:
    """`spread`, a difference of quantiles; DataError where it overflowed float64."""
    too_wide = int(np.isinf(spread).sum())
    if too_wide:
        raise DataError(
            "a difference of quantiles overflows float64",
            where=step.name,
            found=f"{too_wide} of {spread.size} features",
            expected="a difference below 1.8e308",
            remedy="put an affine step with a small scale before it",
        )
    return spread
