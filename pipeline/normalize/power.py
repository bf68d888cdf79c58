"""Power transformations that make features more normal: Yeo-Johnson and Box-Cox.

Not here: how the exponents are found (`power_fit.py`), and the curve (`power_curve.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.errors import DataError
from pipeline.normalize.distributions import DistributionStep, checked_distribution, fitted_quantiles
from pipeline.normalize.features import check_positive
from pipeline.normalize.power_curve import Bend, curve, curve_logarithm, from_log_ratio, log_ratio
from pipeline.normalize.step import FittedStep, Floats, Parameters, frozen_parameters, room, stored_parameters

if TYPE_CHECKING:
    from pipeline.statistics.describe import Statistics
    from pipeline.statistics.distribution import Distribution

LARGEST_LOGARITHM = 709.0
PARAMETERS = ("lambda", "center", "mean", "scale")


class Power(DistributionStep):
    """Raise each feature to the power that makes it most normal, by Yeo-Johnson or Box-Cox.

    Box-Cox, for positive x: ``(x^lambda - 1) / lambda``, or ``log x`` where lambda is 0. Yeo-Johnson: Box-Cox of ``x + 1``
    where x >= 0, and minus Box-Cox of ``1 - x`` with ``2 - lambda`` where x < 0. lambda has the greatest likelihood under a
    normal distribution, for each feature; then, with `standardize`, the result is centered on its fitted mean and divided by
    its fitted standard deviation (ddof 0). All as scikit-learn's ``PowerTransformer``.

    lambda is the root of the likelihood's derivative, to about 1e-12, with values taken relative to the median where all have
    one sign: it is found, and the output has nearly 16 digits, also where the mean is 1e8 standard deviations from 0; lambda
    may then be in the millions. It is held to where the transformed values can be told apart: the curve's slopes at the least
    and at the greatest fitted value differ by a factor of at most exp(30), or lambda is from 0 to 2. A feature with one value
    apart from all others, for example, has its maximum beyond that.

    - A constant feature has lambda 1 and is centered only.
    - A feature without a finite value is fitted as the constant 0, for Box-Cox 1.
    - NaN stays NaN. Infinities become the limits: infinite, or the finite value that the output tends to.
    - Box-Cox of values of 0 or less: DataError, in the fit as later.
    - Raises DataError where the spread of the output, or a finite output, leaves float64.
    - Where the distribution is not known exactly, its values are within a relative error (at most 0.4 %, in practice far
      less; `Distribution.relative_error`), and lambda, mean and deviation are exactly those of these values.

    Inverse: the formula solved for x. A y at or beyond the limit that the output tends to becomes the last x that float64 can
    tell from it. The nearer y is to a limit, the fewer digits of x it holds: about 1e-16 of the power of x.

    Parameters
    ----------
    per : tuple of str
        The dims that keep a lambda of their own.
    method : {"yeo-johnson", "box-cox"}
    standardize : bool

    Examples
    --------
    >>> parameters = {"lambda": 0.5, "center": 0.0, "mean": 2.0, "scale": 4.0}
    >>> fitted = Power().restore({name: np.array(value) for name, value in parameters.items()})
    >>> fitted(np.array([0.0, 3.0, 8.0]), ("sample",)).round(12).tolist()
    [-0.5, 0.0, 0.5]
    """

    name: ClassVar[str] = "power"
    summary: ClassVar[str] = "Raise each feature to the power that makes it most normal, by Yeo-Johnson or Box-Cox."
    formula: ClassVar[str] = "y = ((x + 1)^lambda - 1) / lambda and its mirror image below 0, or (x^lambda - 1) / lambda"
    reference: ClassVar[str] = "scikit-learn, PowerTransformer; Yeo and Johnson 2000, doi:10.1093/biomet/87.4.954"
    inverse_note: ClassVar[str] = "exact but for rounding; what is beyond a limit of the output becomes the last x before it"

    method: Literal["yeo-johnson", "box-cox"] = Field(default="yeo-johnson", description="yeo-johnson or box-cox")
    standardize: bool = Field(default=True, description="true or false: whether the output gets mean 0 and variance 1")

    @property
    def offset(self) -> float:
        """What is added to x before it is raised to a power."""
        return 1.0 if self.method == "yeo-johnson" else 0.0

    def fit(self, statistics: Statistics | None) -> FittedPower:
        from pipeline.normalize.power_fit import fit_power

        checked, distribution = checked_distribution(self, statistics)
        if not self.offset:
            self._check_domain(checked.minimum(), "features with values of 0 or less")
        center, varied = self._centers(checked, distribution)
        with np.errstate(over="ignore"):
            exponent, mean, std = np.ones(center.shape), np.zeros(center.shape), 1.0 / (np.abs(center) + self.offset)
        fit = fit_power(distribution, np.flatnonzero(varied), center[varied], self.offset)
        exponent[varied], mean[varied], std[varied] = fit.exponent, fit.mean, fit.std
        shift, scale = (mean, std) if self.standardize else Bend(exponent, center, self.offset).plain()
        asked = checked.withheld().ravel()
        self._check_usable(np.isfinite(exponent) & np.isfinite(scale) & (scale >= np.finfo(np.float64).tiny) | asked)
        arrays = dict(zip(PARAMETERS, (exponent, center, shift, scale), strict=True))
        shaped = {name: np.where(asked, np.nan, array).reshape(checked.feature_shape) for name, array in arrays.items()}
        return FittedPower(self, self.per, frozen_parameters(**shaped))

    def restore(self, parameters: Parameters) -> FittedPower:
        stored = stored_parameters(self, self.per, parameters, PARAMETERS)
        check_positive(self, stored, "scale")
        if not self.offset:
            check_positive(self, stored, "center")
        return FittedPower(self, self.per, stored)

    def _centers(self, statistics: Statistics, distribution: Distribution) -> tuple[Floats, NDArray[np.bool_]]:
        """What the values of each feature (flat) are taken relative to, and which features have values that differ."""
        (median,) = fitted_quantiles(statistics, distribution, [0.5])
        missing = statistics.empty() | statistics.withheld()
        varied = (np.diff(distribution.ends, prepend=0) > 1) & ~missing.ravel()
        center = np.where(missing, 1.0 - self.offset, median).ravel()
        if self.offset:
            both_signs = (statistics.minimum() <= 0) & (statistics.maximum() >= 0)
            center = np.where(varied & both_signs.ravel(), 0.0, center)
        return center, varied

    def _check_domain(self, values: Floats, of_what: str) -> None:
        outside = values <= 0
        if outside.any():
            raise DataError(
                "Box-Cox of values of 0 or less",
                where=self.name,
                found=f"{int(outside.sum())} of {outside.size} {of_what}, the least {np.nanmin(values)}",
                expected="positive values",
                remedy="use method yeo-johnson, or put a clip or an affine step before it",
            )

    def _check_usable(self, usable: NDArray[np.bool_]) -> None:
        if not usable.all():
            raise DataError(
                "the transformed values leave float64",
                where=self.name,
                found=f"{int((~usable).sum())} of {usable.size} features",
                expected="a spread of the transformed values that float64 holds",
                remedy="put an affine step before it that brings the data near 1"
                if self.standardize
                else "use standardize: true, or put an affine step before it that brings the data near 1",
            )


@dataclass(frozen=True, eq=False)
class FittedPower(FittedStep):
    """`Power` with the parameters lambda and center, which bend, and mean and scale, which shift and divide the result.

    mean and scale are in units of the bent value relative to the center (see `Bend`): without `standardize` they undo that.
    """

    step: Power

    @cached_property
    def _bend(self) -> Bend:
        return Bend(self.parameters["lambda"], self.parameters["center"], self.step.offset)

    def __call__(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        values = np.require(values, np.float64, ["C", "A"])
        bend = self._bend
        side, middle, power = (self.along(each, dims) for each in (bend.side, bend.middle, bend.power))
        if bend.offset:
            values = np.multiply(values, side, out=room(values, out))
        else:
            self.step._check_domain(values, "values")
        result = curve(power, log_ratio(np.maximum(values, 0.0), middle, bend.offset))
        negative = values < 0
        if negative.any():
            result[negative] = self._beyond_zero(values[negative], negative, dims)
        np.multiply(result, side, out=result)
        np.subtract(result, self.along("mean", dims), out=result)
        return np.divide(result, self.along("scale", dims), out=result)

    def _beyond_zero(self, values: Floats, chosen: NDArray[np.bool_], dims: tuple[str, ...]) -> Floats:
        """The bent values where Yeo-Johnson's other formula holds; `values` are those that are `chosen`."""
        at_zero, power, opposite, log_middle = self._chosen(chosen, dims)
        return at_zero - np.exp(-power * log_middle) * curve(opposite, np.log1p(-values))

    def inverse(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        bend = self._bend
        side, middle, power, at_zero = (self.along(each, dims) for each in (bend.side, bend.middle, bend.power, bend.at_zero))
        bent = np.multiply(values, self.along("scale", dims), out=room(values, out))
        np.add(bent, self.along("mean", dims), out=bent)
        np.multiply(bent, side, out=bent)
        negative = bent < at_zero if bend.offset else np.zeros(bent.shape, np.bool_)
        result = from_log_ratio(curve_logarithm(power, np.where(negative, 0.0, bent)), middle, bend.offset)
        if negative.any():
            result[negative] = self._before_zero(bent[negative], negative, dims)
        return np.multiply(result, side, out=result)

    def _before_zero(self, bent: Floats, chosen: NDArray[np.bool_], dims: tuple[str, ...]) -> Floats:
        """The values of which `_beyond_zero` gives `bent`."""
        at_zero, power, opposite, log_middle = self._chosen(chosen, dims)
        grown = power * log_middle
        distance = (at_zero - bent) * np.exp(np.where(opposite < 0, np.minimum(grown, LARGEST_LOGARITHM), grown))
        return np.asarray(-np.expm1(curve_logarithm(opposite, distance)))

    def _chosen(self, chosen: NDArray[np.bool_], dims: tuple[str, ...]) -> Iterator[Floats]:
        bend = self._bend
        each = (bend.at_zero, bend.power, bend.opposite, bend.log_middle)
        return (np.broadcast_to(self.along(array, dims), chosen.shape)[chosen] for array in each)
