"""What every step is: options that a user writes, fitted to statistics, then a function of arrays and its inverse.

Not here: any particular step (one family a file) and steps in order (`chain.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pipeline.errors import NotInvertibleError
from pipeline.statistics.describe import Statistics

Parameters: TypeAlias = Mapping[str, NDArray[np.float64]]
Indexer: TypeAlias = slice | NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Input:
    """What a step is told of the values that reach it, before any of them is read.

    Parameters
    ----------
    dims : tuple of str
        Names of the array's dims, in order.
    sample_dim : str
        The dim along which there are more and more observations.
    dtype : numpy.dtype
        Type of the values: the source's for the first step, float64 after it.
    """

    dims: tuple[str, ...]
    sample_dim: str
    dtype: np.dtype[Any]


class Step(BaseModel, ABC):
    """One normalization operation, as options. Subclasses are pydantic models whose fields are the options.

    Immutable and strict: an unknown option is refused. `bind` settles whatever depends on the source, `fit` gives
    the function.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)

    name: ClassVar[str]
    elementwise: ClassVar[bool] = True

    @property
    def fitted_per(self) -> tuple[str, ...] | None:
        """The dims that this step needs statistics per, or None where it needs none."""
        return None

    def bind(self, given: Input) -> Self:
        """These options with whatever depends on the source settled.

        Raises
        ------
        ConfigError
            Where an option does not fit the input: an unknown dim, a float given to `dtype_range`, …
        """
        return self

    @abstractmethod
    def fit(self, statistics: Statistics | None) -> FittedStep:
        """The function. `statistics` are those of the step's input, None where `fitted_per` is None.

        Raises
        ------
        DataError
            Where no function follows from the statistics.
        """

    @abstractmethod
    def restore(self, parameters: Parameters) -> FittedStep:
        """The function whose parameters were stored; raises ManifestError where they do not fit the options."""


@dataclass(frozen=True)
class FittedStep(ABC):
    """A step with its parameters: a function of float64 arrays.

    Never changes its input; may return it. NaN stays NaN.

    Parameters
    ----------
    step : Step
        The options it was fitted with, bound.
    per : tuple of str
        Names of the parameters' dims, in the array's order.
    parameters : mapping of str to ndarray of float64
        Each of the shape that `per` has in the data.
    """

    step: Step
    per: tuple[str, ...]
    parameters: Parameters

    @abstractmethod
    def __call__(self, values: NDArray[np.float64], dims: tuple[str, ...]) -> NDArray[np.float64]:
        """`values` normalized; `dims` names its axes, in any order."""

    def inverse(self, values: NDArray[np.float64], dims: tuple[str, ...]) -> NDArray[np.float64]:
        """What `__call__` was given, from what it returned.

        Raises
        ------
        NotInvertibleError
            Where the step loses what an inverse would need.
        """
        raise NotInvertibleError(
            f"{self.step.name} has no inverse", found=self.why_not_invertible, remedy="keep the original data beside the output"
        )

    @property
    def why_not_invertible(self) -> str | None:
        """The reason why there is no inverse, None where there is one."""
        return None

    @property
    def whole_dims(self) -> frozenset[str]:
        """The dims of which a call must see everything at once."""
        return frozenset()

    @property
    def affine(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
        """(center, scale, offset), each broadcastable to the parameters' shape, where the step is
        `(x − center) · scale + offset` but for rounding; None where it is something else. Exact derivations use it."""
        return None

    def select(self, indexers: Mapping[str, Indexer]) -> Self:
        """The same function for a part of the features: each indexer picks along one dim of `per`; other dims are ignored."""
        picked = {name: self._pick(values, indexers) for name, values in self.parameters.items()}
        return replace(self, parameters=picked)

    def _pick(self, values: NDArray[np.float64], indexers: Mapping[str, Indexer]) -> NDArray[np.float64]:
        for axis, dim in enumerate(self.per):
            if dim in indexers:
                values = values[(slice(None),) * axis + (indexers[dim],)]
        return values

    def along(self, name: str, dims: tuple[str, ...]) -> NDArray[np.float64]:
        """Parameter `name` as an array that broadcasts against values whose axes are `dims`."""
        present = [dim for dim in dims if dim in self.per]
        ordered = self.parameters[name].transpose([self.per.index(dim) for dim in present])
        sizes = dict(zip(present, ordered.shape, strict=True))
        return ordered.reshape([sizes.get(dim, 1) for dim in dims])
