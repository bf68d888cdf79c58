"""What is known of some values: counts, extrema and exact moments, one set for every feature.

Not here: reading the values (`moments.py`, `histogram.py`), quantiles (`distribution.py`) and what a step makes of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import comb, prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import DataError
from pipeline.statistics import rational
from pipeline.statistics.arrays import take
from pipeline.statistics.covariance import CovarianceSums
from pipeline.statistics.distribution import Distribution
from pipeline.statistics.exact import POWERS, PowerSums
from pipeline.statistics.weights import WeightSums, dyadic

Counts: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Formula: TypeAlias = Callable[[int, tuple[int, int, int, int], int], float]

EXTREMA_DTYPES = (np.float64, np.int64, np.uint64)
NAN_POLICIES = ("skip", "error", "propagate")


@dataclass(frozen=True, eq=False)
class Statistics:
    """Counts, extrema and power sums of the finite values of every feature, and what follows from them.

    Every array has the feature shape, `()` where one set of statistics is kept for everything. Moments are computed from
    the exact sums in integer arithmetic and rounded once, so they are correctly rounded whatever the ratio of mean to
    standard deviation is. A statistic that does not exist is NaN, and `unavailable` says why.

    Parameters
    ----------
    nobs : ndarray of int64
        How many finite values there are.
    nan, posinf, neginf : ndarray of int64
        How many NaN, +inf and −inf there are.
    zeros : ndarray of int64 or None
        How many values are zero, of either sign; None where it does not follow from what is known.
    min, max : ndarray of float64, int64 or uint64
        Extrema of the finite values, integers where the data are. Where there are none (see `empty`): +inf and −inf,
        or the dtype's largest and smallest integer, the identities of minimum and maximum.
    sums : PowerSums
        Σx, Σx², Σx³ and Σx⁴ of the finite values.
    nan_policy : {'skip', 'error', 'propagate'}
        `skip` leaves non-finite values out; `error` makes `check` refuse them; with `propagate` a feature that has any
        has NaN statistics.
    distribution : Distribution, optional
        How the finite values are distributed, where a step asks for it; of no feature withheld.
    covariance : CovarianceSums, optional
        Covariance of the features over samples without non-finite values, where a step asks for it.
    weights : WeightSums, optional
        Where samples are weighted: how much they weigh together. The sums are then Σwx … Σwx⁴ and n stands for Σw in every
        formula, so that a sample of a whole weight counts as if it occurred that often; the counts stay those of values.
    deviation : ndarray of float64, optional
        The mean of |x − mean| of the finite values, where a step asks for it and a read was made for it.

    Examples
    --------
    >>> from pipeline.statistics.moments import Moments
    >>> values = np.array([[1.0, 5.0], [2.0, 5.0], [6.0, np.nan]])
    >>> statistics = Moments.empty((2,), values.dtype).update(values, (1,)).statistics()
    >>> statistics.mean().tolist(), statistics.variance(ddof=0).round(3).tolist()
    ([3.0, 5.0], [4.667, 0.0])
    >>> statistics.unavailable()["skewness"]
    'constant in 1 of 2 features'
    """

    nobs: Counts
    nan: Counts
    posinf: Counts
    neginf: Counts
    zeros: Counts | None
    min: NDArray[Any]
    max: NDArray[Any]
    sums: PowerSums
    nan_policy: str = "skip"
    distribution: Distribution | None = None
    covariance: CovarianceSums | None = None
    weights: WeightSums | None = None
    deviation: Floats | None = None

    @property
    def feature_shape(self) -> tuple[int, ...]:
        return self.nobs.shape

    def empty(self) -> NDArray[np.bool_]:
        """Which features have no finite value."""
        return np.asarray(self.nobs == 0)

    def withheld(self) -> NDArray[np.bool_]:
        """Which features have NaN statistics because they have non-finite values and the policy is `propagate`."""
        if self.nan_policy != "propagate":
            return np.zeros(self.feature_shape, np.bool_)
        return np.asarray(self.nan + self.posinf + self.neginf > 0)

    def check(self) -> None:
        """Refuse values that cannot be fitted to.

        Raises
        ------
        DataError
            Where no feature has a finite value, or where the policy is `error` and any value is NaN or infinite.
        """
        kinds = {"NaN": self.nan, "+inf": self.posinf, "−inf": self.neginf}
        counts = {kind: int(count.sum()) for kind, count in kinds.items()}
        found = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
        if self.nan_policy == "error" and found:
            raise DataError(
                "non-finite values where none are allowed",
                found=found,
                expected="finite values only",
                remedy="set fit.nan to 'skip' to leave them out, or to 'propagate'",
            )
        if self.empty().all():
            raise DataError("no finite value to fit on", found=found or "no values", expected="at least one finite value")

    def minimum(self) -> Floats:
        """The smallest finite value as float64 (the nearest one, of an integer beyond 2^53); NaN where there is none."""
        return np.where(self.empty() | self.withheld(), np.nan, self.min.astype(np.float64))

    def maximum(self) -> Floats:
        """The largest finite value as float64 (the nearest one, of an integer beyond 2^53); NaN where there is none."""
        return np.where(self.empty() | self.withheld(), np.nan, self.max.astype(np.float64))

    def mean(self) -> Floats:
        """Σx / n, correctly rounded; NaN where there is no value or the mean overflows float64."""
        return self._each(lambda count, sums, unit: rational.ratio(sums[0], count, unit))

    def variance(self, ddof: int = 1) -> Floats:
        """(n·Σx² − (Σx)²) / (n·(n − ddof)), correctly rounded; NaN where n ≤ ddof or where it overflows float64."""
        less = ddof << self.observed()[1]

        def formula(count: int, sums: tuple[int, int, int, int], unit: int) -> float:
            if count <= less:
                return np.nan
            return rational.ratio(count * sums[1] - sums[0] ** 2, count * (count - less), 2 * unit)

        return self._each(formula)

    def std(self, ddof: int = 1) -> Floats:
        """The square root of the exact variance, correctly rounded; it exists where a variance overflows."""
        less = ddof << self.observed()[1]

        def formula(count: int, sums: tuple[int, int, int, int], unit: int) -> float:
            if count <= less:
                return np.nan
            return rational.root(count * sums[1] - sums[0] ** 2, count * (count - less), unit)

        return self._each(formula)

    def skewness(self) -> Floats:
        """m₃ / m₂^(3/2) with mₖ = Σ(x − mean)ᵏ / n, as `scipy.stats.skew` has it; NaN where the values are constant."""

        def formula(count: int, sums: tuple[int, int, int, int], unit: int) -> float:
            second, third, _ = rational.central(count, sums)
            return rational.skewness(second, third) if second else np.nan

        return self._each(formula)

    def kurtosis(self) -> Floats:
        """m₄ / m₂² − 3, the excess as `scipy.stats.kurtosis` has it; NaN where the values are constant."""

        def formula(count: int, sums: tuple[int, int, int, int], unit: int) -> float:
            second, _, fourth = rational.central(count, sums)
            return rational.kurtosis(second, fourth) if second else np.nan

        return self._each(formula)

    def _each(self, formula: Formula) -> Floats:
        """`formula(n, sums, unit)` for every feature that has values, NaN for the others and where it overflows.

        n and the sums are all given in units of 2^−shift, which the formulas of moments cancel.
        """
        (one, two, three, four), unit = self.sums.common_integers()
        values = np.full(prod(self.feature_shape), np.nan)
        count, shift = self.observed()
        for at in np.flatnonzero(~(self.empty() | self.withheld())).tolist():
            sums = one[at] << shift, two[at] << shift, three[at] << shift, four[at] << shift
            values[at] = formula(count[at], sums, unit)
        values[np.isinf(values)] = np.nan
        return values.reshape(self.feature_shape)

    def observed(self) -> tuple[list[int], int]:
        """(integers, shift): n of every feature in C order is `integer / 2^shift`; n is Σw where there are weights."""
        return (self.nobs.ravel().tolist(), 0) if self.weights is None else self.weights.in_unit()

    def observations(self, finite: bool = True) -> int:
        """How many finite values, or values, the feature that has the most has; those of whole weights count that often."""
        if self.weights is not None and self.weights.whole:
            return self.weights.most(finite)
        return int((self.nobs if finite else self.nobs + self.nan + self.posinf + self.neginf).max(initial=0))

    def unavailable(self) -> dict[str, str]:
        """Why a statistic is NaN or None: name of the statistic to reasons, each with its count of features."""
        none = np.zeros(self.feature_shape, np.bool_)
        overflow = ("overflows float64", ~none)
        constant = ("constant", ~none)
        if self.weights is None:
            too_few = ("fewer than 2 values", self.nobs < 2)
        else:
            too_few = ("weights of 1 or less in sum", self.weights.finite() <= 1)
        causes = {
            "min": (self.minimum(), [overflow]),
            "max": (self.maximum(), [overflow]),
            "mean": (self.mean(), [overflow]),
            "variance": (self.variance(), [too_few, overflow]),
            "skewness": (self.skewness(), [constant]),
            "kurtosis": (self.kurtosis(), [constant]),
        }
        reasons = {name: self._reason(values, own) for name, (values, own) in causes.items()}
        if self.zeros is None:
            reasons["zeros"] = "does not follow from the statistics of the step's input"
        return {name: reason for name, reason in reasons.items() if reason}

    def _reason(self, values: Floats, causes: list[tuple[str, NDArray[np.bool_]]]) -> str:
        """The causes of NaN in `values`, each counted where no cause before it holds."""
        left = np.isnan(values)
        said = []
        for cause, holds in [("no finite value", self.empty()), ("non-finite values propagate", self.withheld()), *causes]:
            count = int((left & holds).sum())
            if count:
                said.append(f"{cause} in {count} of {left.size} features" if left.ndim else cause)
            left = left & ~holds
        return "; ".join(said)

    def sum_features(self, axes: tuple[int, ...]) -> Statistics:
        """The statistics that would have been kept without the feature axes `axes`."""
        least, greatest = extrema_identities(self.min.dtype)
        nobs, nan, posinf, neginf = (
            np.asarray(each.sum(axis=axes)) for each in (self.nobs, self.nan, self.posinf, self.neginf)
        )
        return Statistics(
            nobs=nobs,
            nan=nan,
            posinf=posinf,
            neginf=neginf,
            zeros=None if self.zeros is None else np.asarray(self.zeros.sum(axis=axes)),
            min=np.asarray(np.where(self.empty(), least, self.min).min(axis=axes, initial=least)),
            max=np.asarray(np.where(self.empty(), greatest, self.max).max(axis=axes, initial=greatest)),
            sums=self.sums.sum_features(axes),
            nan_policy=self.nan_policy,
            distribution=None if self.distribution is None else self.distribution.sum_features(axes),
            covariance=None if self.covariance is None or self.covariance.left_out else self.covariance.sum_features(axes),
            weights=None if self.weights is None else self.weights.sum_features(axes),
        )

    def take_features(self, axis: int, positions: NDArray[np.intp]) -> Statistics:
        """The statistics of the features at `positions`, ascending, along one feature axis; without `covariance`."""
        names = ("nobs", "nan", "posinf", "neginf", "zeros", "min", "max", "deviation")
        arrays = {name: getattr(self, name) for name in names}
        taken: dict[str, Any] = {
            name: None if array is None else array.take(positions, axis=axis) for name, array in arrays.items()
        }
        return replace(
            self,
            **taken,
            sums=self.sums.take_features(axis, positions),
            distribution=None if self.distribution is None else self.distribution.take_features(axis, positions),
            covariance=None,
            weights=None if self.weights is None else self.weights.take_features(axis, positions),
        )

    def to_json(self) -> dict[str, Any]:
        """Python numbers (nested lists of them, per feature) under the names of `scipy.stats.describe` and of the counts.

        None stands for what is unavailable; `variance` has ddof 1. Where there are weights, `weight` is Σw of finite values.
        """
        return {
            "nobs": self.nobs.tolist(),
            **({} if self.weights is None else {"weight": self.weights.finite().tolist()}),
            "min": _with_none(self.min, self.minimum()),
            "max": _with_none(self.max, self.maximum()),
            "mean": _with_none(self.mean()),
            "variance": _with_none(self.variance()),
            "skewness": _with_none(self.skewness()),
            "kurtosis": _with_none(self.kurtosis()),
            "zeros": None if self.zeros is None else self.zeros.tolist(),
            "nan": self.nan.tolist(),
            "posinf": self.posinf.tolist(),
            "neginf": self.neginf.tolist(),
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The counts, extrema and sums, canonical; no `zeros` where it is None, and weights where there are any."""
        named = {name: getattr(self, name) for name in ("nobs", "nan", "posinf", "neginf", "zeros", "min", "max")}
        weights = {} if self.weights is None else self.weights.arrays()
        return {name: array for name, array in named.items() if array is not None} | self.sums.arrays() | weights

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], nan_policy: str = "skip") -> Statistics:
        """The statistics that gave `arrays`; raises ManifestError where they do not fit together."""
        nobs = take(arrays, "nobs", np.int64)
        nan, posinf, neginf = (take(arrays, name, np.int64, nobs.shape) for name in ("nan", "posinf", "neginf"))
        least = take(arrays, "min", EXTREMA_DTYPES, nobs.shape)
        return cls(
            nobs=nobs,
            nan=nan,
            posinf=posinf,
            neginf=neginf,
            zeros=take(arrays, "zeros", np.int64, nobs.shape) if "zeros" in arrays else None,
            min=least,
            max=take(arrays, "max", least.dtype, nobs.shape),
            sums=PowerSums.from_arrays(arrays, nobs.shape),
            nan_policy=nan_policy,
            weights=WeightSums.from_arrays(arrays, nobs.shape) if "weights" in arrays else None,
        )


def extrema_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that extrema of `dtype` are kept in: uint64, int64 or float64."""
    return np.dtype(np.uint64 if dtype.kind in "bu" else np.int64 if dtype.kind == "i" else np.float64)


def extrema_identities(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """What leaves a minimum and a maximum as they are, as scalars of the extrema's `dtype`."""
    if dtype.kind == "f":
        return dtype.type(np.inf), dtype.type(-np.inf)
    limits = np.iinfo(dtype)
    return dtype.type(limits.max), dtype.type(limits.min)


def _with_none(values: NDArray[Any], available: Floats | None = None) -> Any:
    """`values` as Python numbers, None where `available` (or `values` itself) is NaN."""
    numbers = values.astype(object)
    numbers[np.isnan(values if available is None else available)] = None
    return numbers.tolist()


def derive_affine(
    statistics: Statistics,
    center: ArrayLike,
    scale: ArrayLike,
    offset: ArrayLike,
    min: NDArray[Any],
    max: NDArray[Any],
    distribution: Distribution | None = None,
) -> Statistics:
    """The statistics of `(x − center)·scale + offset` from those of x, without reading x again.

    The sums follow exactly, by the binomial formula over the float64 parameters taken as the rational numbers they are:
    Σ(p·x + q)ᵏ = Σⱼ C(k, j)·pʲ·qᵏ⁻ʲ·Σxʲ. What a step puts out differs from the exact affine function by its rounding only.

    Parameters
    ----------
    statistics : Statistics
        Those of x.
    center, scale, offset : array_like of float64
        Broadcastable to the feature shape. A feature with a parameter that is not finite gets sums of 0.
    min, max : ndarray of float64
        The extrema of what the step puts out, as the step itself computes them.
    distribution : Distribution, optional
        Of what the step puts out, as the step itself computes it.

    Returns
    -------
    Statistics
        `zeros` is None where it does not follow.

    Examples
    --------
    >>> from pipeline.statistics.moments import Moments
    >>> values = np.array([1.0, 2.0, 6.0])
    >>> statistics = Moments.empty((), values.dtype).update(values, ()).statistics()
    >>> derived = derive_affine(statistics, 1.0, 2.0, 0.5, np.array(0.5), np.array(10.5))
    >>> float(derived.mean()), int(derived.zeros)
    (4.5, 0)
    """
    shape = statistics.feature_shape
    given = [np.broadcast_to(np.asarray(parameter, np.float64), shape) for parameter in (center, scale, offset)]
    finite = np.logical_and.reduce([np.isfinite(parameter) for parameter in given])
    columns = [np.where(finite, parameter, 0.0).ravel().tolist() for parameter in given]
    lines = [_line(*parameters) for parameters in zip(*columns, strict=True)]
    crosses_zero = np.array([shift == 0 for (_, _), (shift, _) in lines], np.bool_).reshape(shape)
    least, greatest = extrema_identities(np.dtype(np.float64))
    empty = statistics.empty()
    lowest = np.where(empty, least, np.where(np.isnan(min), np.nan, min))
    highest = np.where(empty, greatest, np.where(np.isnan(max), np.nan, max))
    return replace(
        statistics,
        zeros=_affine_zeros(statistics, np.asarray(columns[1]).reshape(shape), crosses_zero, (lowest > 0) | (highest < 0)),
        min=lowest,
        max=highest,
        sums=_affine_sums(statistics, lines),
        distribution=distribution,
        deviation=None,
        covariance=statistics.covariance and statistics.covariance.affine(center, scale, offset),
    )


def _line(center: float, scale: float, offset: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """Slope and intercept of `(x − center)·scale + offset`, exactly, each as (integer, exponent)."""
    (middle, middle_exponent), (slope, slope_exponent), (shift, shift_exponent) = map(dyadic, (center, scale, offset))
    product_exponent = middle_exponent + slope_exponent
    exponent = min(product_exponent, shift_exponent)
    intercept = (shift << (shift_exponent - exponent)) - (middle * slope << (product_exponent - exponent))
    return (slope, slope_exponent), (intercept, exponent)


def _affine_sums(statistics: Statistics, lines: list[tuple[tuple[int, int], tuple[int, int]]]) -> PowerSums:
    """Σ(slope·x + intercept)ᵏ of every feature."""
    (one, two, three, four), unit = statistics.sums.common_integers()
    low = min((min(unit + slope[1], intercept[1]) for slope, intercept in lines), default=0)
    derived: list[list[int]] = [[] for _ in POWERS]
    count, shift = statistics.observed()
    if shift:
        one, two, three, four = ([integer << shift for integer in power] for power in (one, two, three, four))
    for line, sums in zip(lines, zip(count, one, two, three, four, strict=True), strict=True):
        (slope, slope_exponent), (intercept, intercept_exponent) = line
        p = slope << (unit + slope_exponent - low)
        q = intercept << (intercept_exponent - low)
        for power in POWERS:
            terms = (comb(power, j) * p**j * q ** (power - j) * sums[j] for j in range(power + 1))
            derived[power - 1].append(sum(terms))
    return PowerSums.from_integers(derived, [power * low - shift for power in POWERS], statistics.feature_shape)


def _affine_zeros(
    statistics: Statistics, slope: Floats, crosses_zero: NDArray[np.bool_], avoids_zero: NDArray[np.bool_]
) -> Counts | None:
    """How many values an affine function makes zero, None where that does not follow for some feature."""
    flat = slope == 0
    scaled = crosses_zero & ~flat
    unknown = ~(flat | scaled | avoids_zero | statistics.empty())
    if unknown.any() or (statistics.zeros is None and scaled.any()):
        return None
    before = np.int64(0) if statistics.zeros is None else statistics.zeros
    return np.where(scaled, before, np.where(flat & crosses_zero, statistics.nobs, 0)).astype(np.int64)
