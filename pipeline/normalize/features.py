"""What the steps with parameters per feature share: the option `per`, and how statistics become parameters.

Not here: any such step (`minmax.py`, `standard.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.errors import ConfigError, DataError, ManifestError
from pipeline.normalize.names import Dims, unknown_name
from pipeline.normalize.step import Input, Parameters, Step

if TYPE_CHECKING:
    from pipeline.statistics.describe import Statistics


STEPS_RESOLVED = 2**24


class FeatureStep(Step):
    """A step with one set of parameters for each feature: each position along the dims `per`."""

    per: Dims = Field(default=(), description="a list of the dims that keep statistics of their own; [] for one global set")

    @property
    def fitted_per(self) -> tuple[str, ...]:
        return self.per

    def bind(self, given: Input) -> Self:
        """The same with `per` checked and in the array's order."""
        where = f"{self.name}.per"
        check_dims(self.per, given.dims, where)
        if given.sample_dim in self.per:
            raise ConfigError(
                "statistics cannot be kept per sample",
                where=where,
                found=given.sample_dim,
                expected=f"dims other than the sample dim: {', '.join(given.dims)} without {given.sample_dim}",
                remedy="name the dims of the features, or use unit_norm, which looks at each sample alone",
            )
        return self.model_copy(update={"per": tuple(dim for dim in given.dims if dim in self.per)})


def check_dims(named: Dims, dims: Dims, where: str) -> None:
    """Raise ConfigError where `named` has a dim that is not in `dims`, or has one twice."""
    for dim in named:
        if dim not in dims:
            raise unknown_name("unknown dim", dim, dims, where)
    if len(set(named)) < len(named):
        raise ConfigError("a dim is named twice", where=where, found=", ".join(named), expected="each dim once")


def checked_statistics(step: FeatureStep, statistics: Statistics | None) -> Statistics:
    """`statistics`, which must hold a finite value somewhere and have the shape of the step's features.

    Raises
    ------
    DataError
        Where there is no finite value at all, or one that the policy for NaN does not allow.
    """
    if statistics is None or len(statistics.feature_shape) != len(step.per):
        raise TypeError(f"{step.name} needs statistics per {list(step.per)}")
    statistics.check()
    _check_resolved(step, statistics)
    return statistics


def _check_resolved(step: FeatureStep, statistics: Statistics) -> None:
    """Raise DataError for integers beyond 2^53 that lie so close together that float64 does not tell them apart."""
    if statistics.min.dtype.kind == "f":
        return
    spread = np.asarray(statistics.max.astype(object) - statistics.min.astype(object), dtype=object).astype(np.float64)
    magnitude = np.maximum(np.abs(statistics.minimum()), np.abs(statistics.maximum()))
    spacing = np.spacing(magnitude, where=np.isfinite(magnitude), out=np.zeros(magnitude.shape))
    lost = ~statistics.empty() & (spacing > 1) & (spread > 0) & (spread < STEPS_RESOLVED * spacing)
    if lost.any():
        raise DataError(
            "integers beyond 2^53 that float64 does not tell apart",
            where=step.name,
            found=f"{int(lost.sum())} of {lost.size} features whose values are less than {STEPS_RESOLVED} roundings apart",
            expected=f"values that differ by more than {STEPS_RESOLVED} times their float64 spacing",
            remedy="store differences from a base value, such as the first time stamp",
        )


def settled(statistics: Statistics, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """`values`, one a feature, with 0 for a feature without a finite value, unless NaN was asked for."""
    return np.where(statistics.empty() & ~statistics.withheld(), 0.0, values)


def check_positive(step: Step, parameters: Parameters, name: str) -> None:
    """Raise ManifestError where the stored parameter `name` is zero or negative somewhere."""
    if (parameters[name] <= 0).any():
        raise ManifestError(
            "stored parameters that divide by zero", where=f"{step.name}.{name}", expected="positive numbers or NaN"
        )


def finite_scale(step: Step, scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """`scale`, from which later statistics are derived; DataError where it overflows float64."""
    count = int(np.isinf(scale).sum())
    if count:
        raise DataError(
            "the scale overflows float64",
            where=step.name,
            found=f"{count} of {scale.size} features with almost no spread",
            expected="a spread of at least 1e-307",
            remedy="put an affine step that multiplies the data before it",
        )
    return scale
