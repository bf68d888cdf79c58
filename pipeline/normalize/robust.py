"""Scaling by statistics that outliers hardly move: median, interquartile range, median absolute deviation.

Not here: scaling by mean and standard deviation (`standard.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from pipeline.errors import DataError
from pipeline.normalize.distributions import (
    DistributionStep,
    Percent,
    checked_distribution,
    finite_spread,
    fitted_bounds,
    fitted_quantiles,
    known,
)
from pipeline.normalize.features import check_positive, finite_scale
from pipeline.normalize.step import FittedStep, Floats, Parameters, frozen_parameters, room, stored_parameters

if TYPE_CHECKING:
    from pipeline.statistics.describe import Statistics
    from pipeline.statistics.distribution import Distribution

ERROR_OF_A_SPREAD = 0.25


class Robust(DistributionStep):
    """Center each feature on its median and divide by a spread that outliers hardly move.

    ``y = (x - median) / spread``. With `scale` iqr the spread is the difference of the two percentiles `quantile_range`, as
    scikit-learn's ``RobustScaler`` has it; with mad the median of ``|x - median|``, as in pycytominer's ``mad_robustize``.
    With `unit_variance` the spread is divided by that of a standard normal distribution, so that normal data get variance 1:
    by 1.349 for the interquartile range, 0.6745 for the median absolute deviation.

    - A feature whose spread is 0, as that of a constant, is taken to have spread 1.
    - A feature without a finite value is fitted as the constant 0.
    - NaN stays NaN; infinities stay infinite. Neither counts in the fit.
    - Where the distribution is not known exactly, a quantile is within a relative error of the exact one (at most 0.4 %, in
      practice far less; `Distribution.relative_error`), so that median and spread are within that part of the quantiles.
    - Raises DataError where a spread may be off by more than a quarter of it, or may be 0 or not: where more values than the
      buckets tell apart lie closer together than the rest. And where the spread, or a finite result, overflows float64.

    Inverse: ``x = y * spread + median``.

    Parameters
    ----------
    per : tuple of str
        The dims that keep a median and a spread of their own.
    scale : {"iqr", "mad"}
    quantile_range : (float, float)
        Percentiles, from 0 to 100, the first below the second; with `unit_variance` neither 0 nor 100. For iqr only.
    unit_variance : bool

    Examples
    --------
    >>> fitted = Robust().restore({"median": np.array(3.0), "spread": np.array(2.0)})
    >>> fitted(np.array([1.0, 3.0, 103.0]), ("sample",)).tolist()
    [-1.0, 0.0, 50.0]
    """

    name: ClassVar[str] = "robust"
    summary: ClassVar[str] = "Center each feature on its median and divide by a spread that outliers hardly move."
    formula: ClassVar[str] = "y = (x - median) / (q75 - q25), or / median|x - median|"
    reference: ClassVar[str] = "scikit-learn, RobustScaler; pycytominer, mad_robustize"
    inverse_note: ClassVar[str] = "exact but for rounding"

    scale: Literal["iqr", "mad"] = Field(
        default="iqr", description="iqr (the difference of two percentiles) or mad (median absolute deviation)"
    )
    quantile_range: tuple[Percent, Percent] = Field(
        default=(25.0, 75.0), description="two percentiles from 0 to 100, the first below the second; for iqr"
    )
    unit_variance: bool = Field(default=False, description="true or false: whether normal data get variance 1")

    @model_validator(mode="after")
    def _options_fit_together(self) -> Self:
        low, high = self.quantile_range
        if not low < high:
            raise ValueError("a quantile_range of two percentiles, the first below the second")
        if self.scale == "mad" and self.quantile_range != (25.0, 75.0):
            raise ValueError("quantile_range goes with scale iqr")
        if self.unit_variance and not 0 < low < high < 100:
            raise ValueError("with unit_variance a quantile_range above 0 and below 100, where a normal distribution ends")
        return self

    @property
    def is_affine(self) -> bool:
        return True

    def fit(self, statistics: Statistics | None) -> FittedRobust:
        checked, distribution = checked_distribution(self, statistics)
        (median,) = fitted_quantiles(checked, distribution, [0.5])
        with np.errstate(over="ignore", invalid="ignore"):
            spread, error = self._spread(checked, distribution, median)
            self._check_resolved(spread, error)
            spread = finite_spread(self, np.where(spread == 0, 1.0, spread) / self._normal_spread())
        return FittedRobust(self, self.per, frozen_parameters(median=median, spread=spread))

    def restore(self, parameters: Parameters) -> FittedRobust:
        stored = stored_parameters(self, self.per, parameters, ("median", "spread"))
        check_positive(self, stored, "spread")
        return FittedRobust(self, self.per, stored)

    def _spread(self, statistics: Statistics, distribution: Distribution, median: Floats) -> tuple[Floats, Floats]:
        """The spread, and by how much it may be off."""
        if self.scale == "mad":
            deviations = distribution.deviations(np.nan_to_num(median))
            spread, (least, most) = deviations.quantile(0.5), deviations.bounds(0.5)
            low, high = distribution.bounds(0.5)
            error = np.maximum(spread - least, most - spread) + (high - low)
            return known(statistics, spread), error
        wanted = np.array(self.quantile_range) / 100
        low, high = fitted_quantiles(statistics, distribution, wanted)
        spread = np.asarray(high - low)
        (least_low, least_high), (most_low, most_high) = fitted_bounds(statistics, distribution, wanted)
        return spread, np.maximum(spread - (least_high - most_low), (most_high - least_low) - spread)

    def _check_resolved(self, spread: Floats, error: Floats) -> None:
        """Raise DataError where a spread may be off by too much, as where most values are in one bucket of a histogram."""
        coarse = (error > 0) & (error > ERROR_OF_A_SPREAD * spread) & np.isfinite(spread)
        if coarse.any():
            raise DataError(
                "the spread is too small beside the values' magnitude for the counted buckets to tell it",
                where=self.name,
                found=f"{int(coarse.sum())} of {coarse.size} features whose spread may be off by more than a quarter",
                expected="values that spread over several buckets",
                remedy="put an affine step before it that subtracts what the values have in common, or use zscore",
            )

    def _normal_spread(self) -> float:
        """The spread of a standard normal distribution, 1 where it plays no part."""
        low, high = (0.5, 0.75) if self.scale == "mad" else (percent / 100 for percent in self.quantile_range)
        return NormalDist().inv_cdf(high) - NormalDist().inv_cdf(low) if self.unit_variance else 1.0


@dataclass(frozen=True, eq=False)
class FittedRobust(FittedStep):
    """`Robust` with the parameters median and spread."""

    step: Robust

    def __call__(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        result = np.subtract(values, self.along("median", dims), out=room(values, out))
        return np.divide(result, self.along("spread", dims), out=result)

    def inverse(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        result = np.multiply(values, self.along("spread", dims), out=room(values, out))
        return np.add(result, self.along("median", dims), out=result)

    @property
    def affine(self) -> tuple[Floats, Floats, Floats]:
        with np.errstate(over="ignore"):
            scale = finite_scale(self.step, np.asarray(1.0 / self.parameters["spread"]))
        return self.parameters["median"], scale, np.asarray(0.0)
