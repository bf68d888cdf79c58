"""Standardization: `zscore`, with batch normalization's gamma and beta.

Not here: scaling by quantiles or within one sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

import numpy as np
from pydantic import AfterValidator, Field

from pipeline.errors import ConfigError, DataError
from pipeline.normalize.features import FeatureStep, check_positive, checked_statistics, finite_scale, settled
from pipeline.normalize.names import Count, Number, Numbers
from pipeline.normalize.step import FittedStep, Floats, Input, Parameters, frozen_parameters, room, stored_parameters

if TYPE_CHECKING:
    from pipeline.statistics.describe import Statistics


def _without_zero(gamma: float | tuple[float, ...]) -> float | tuple[float, ...]:
    if not np.all(gamma):
        raise ValueError("numbers other than 0, which would erase the feature")
    return gamma


class ZScore(FeatureStep):
    """Center each feature on its mean and divide by its standard deviation.

    ``y = (x - mean) / std * gamma + beta``, in that order. The formula is that of scikit-learn's ``StandardScaler``; gamma
    and beta are those of batch normalization (Ioffe and Szegedy, 2015, arXiv:1502.03167).

    - A constant feature is divided by 1: the constant gives beta.
    - A feature without a finite value is fitted as the constant 0.
    - NaN stays NaN; infinities stay infinite, with gamma's sign.
    - Raises DataError where a feature that varies has no standard deviation (not more values than `ddof`, or none that
      float64 holds) and where a finite result overflows.

    Inverse: ``x = (y - beta) / gamma * std + mean``.

    Parameters
    ----------
    per : tuple of str
        The dims that keep a mean and a standard deviation of their own.
    ddof : int
        The variance is the sum of squared deviations divided by n - ddof.
    gamma, beta : float or tuple of float
        For every feature the same, or, where `per` is one dim, one for each feature; gamma is not 0.

    Examples
    --------
    >>> fitted = ZScore(gamma=2, beta=1).restore({"mean": np.array(10.0), "std": np.array(4.0)})
    >>> fitted(np.array([10.0, 14.0, 8.0]), ("sample",)).tolist()
    [1.0, 3.0, 0.0]
    """

    name: ClassVar[str] = "zscore"
    summary: ClassVar[str] = "Center each feature on its mean and divide by its standard deviation."
    formula: ClassVar[str] = "y = (x - mean) / std * gamma + beta"
    reference: ClassVar[str] = "scikit-learn, StandardScaler; Ioffe and Szegedy 2015, arXiv:1502.03167"
    inverse_note: ClassVar[str] = "exact but for rounding"

    ddof: Count = Field(default=0, ge=0, description="a whole number from 0 on")
    gamma: Annotated[Number | Numbers, AfterValidator(_without_zero)] = Field(
        default=1.0, description="a finite number, or a list with one for each feature; not 0"
    )
    beta: Number | Numbers = Field(default=0.0, description="a finite number, or a list with one for each feature")

    @property
    def is_affine(self) -> bool:
        return True

    @property
    def _lists(self) -> dict[str, tuple[float, ...]]:
        """gamma and beta where they differ from feature to feature."""
        return {name: given for name, given in (("gamma", self.gamma), ("beta", self.beta)) if isinstance(given, tuple)}

    def bind(self, given: Input) -> Self:
        bound = super().bind(given)
        for name in self._lists if len(bound.per) != 1 else ():
            raise ConfigError(
                f"a list of {name} needs one dim of features",
                where=f"{self.name}.{name}",
                found=f"per {list(bound.per)}",
                expected="`per` with exactly one dim, or one number",
            )
        return bound

    def fit(self, statistics: Statistics | None) -> FittedZScore:
        statistics = checked_statistics(self, statistics)
        for name, given in self._lists.items():
            self._check_length(name, len(given), statistics.feature_shape)
        mean = settled(statistics, statistics.mean())
        parameters = frozen_parameters(mean=mean, std=self._std(statistics), **self._arrays())
        return FittedZScore(self, self.per, parameters)

    def restore(self, parameters: Parameters) -> FittedZScore:
        stored = stored_parameters(self, self.per, parameters, ("mean", "std", *self._lists))
        check_positive(self, stored, "std")
        return FittedZScore(self, self.per, stored)

    def _arrays(self) -> dict[str, Floats]:
        return {name: np.array(given, dtype=np.float64) for name, given in self._lists.items()}

    def _check_length(self, name: str, length: int, feature_shape: tuple[int, ...]) -> None:
        if feature_shape != (length,):
            raise ConfigError(
                f"{name} does not fit the features",
                where=f"{self.name}.{name}",
                found=f"{length} numbers",
                expected=f"{' × '.join(map(str, feature_shape)) or 1} numbers, one a feature, or one number",
            )

    def _std(self, statistics: Statistics) -> Floats:
        """The divisors: 1 for constants, NaN for propagated features."""
        constant = statistics.empty() | (statistics.minimum() == statistics.maximum())
        std = np.where(constant, 1.0, settled(statistics, statistics.std(ddof=self.ddof)))
        asked = statistics.withheld()
        unusable = ~asked & ~((std > 0) & np.isfinite(std))
        if unusable.any():
            raise DataError(
                "no standard deviation to divide by",
                where=self.name,
                found=f"{int(unusable.sum())} of {std.size} features, with too few values or too large or small a spread",
                expected=f"more than {self.ddof} values, and a standard deviation that float64 holds",
                remedy="lower ddof, or put an affine step before it that brings the data near 1",
            )
        return np.where(asked, np.nan, std)


@dataclass(frozen=True, eq=False)
class FittedZScore(FittedStep):
    """`ZScore` with the parameters mean and std, and gamma and beta where they are lists."""

    step: ZScore

    def _setting(self, name: str, dims: tuple[str, ...]) -> Floats | float:
        """gamma or beta, broadcastable to values whose axes are `dims`."""
        given: float | tuple[float, ...] = getattr(self.step, name)
        return self.along(name, dims) if isinstance(given, tuple) else given

    def __call__(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        result = np.subtract(values, self.along("mean", dims), out=room(values, out))
        np.divide(result, self.along("std", dims), out=result)
        if self.step.gamma != 1:
            np.multiply(result, self._setting("gamma", dims), out=result)
        if self.step.beta != 0:
            np.add(result, self._setting("beta", dims), out=result)
        return result

    def inverse(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        result = np.subtract(values, self._setting("beta", dims), out=room(values, out))
        np.divide(result, self._setting("gamma", dims), out=result)
        np.multiply(result, self.along("std", dims), out=result)
        np.add(result, self.along("mean", dims), out=result)
        return result

    @property
    def affine(self) -> tuple[Floats, Floats, Floats]:
        gamma, beta = (self._setting(name, self.per) for name in ("gamma", "beta"))
        with np.errstate(over="ignore"):
            scale = finite_scale(self.step, np.asarray(gamma / self.parameters["std"]))
        return self.parameters["mean"], scale, np.asarray(beta, dtype=np.float64)
