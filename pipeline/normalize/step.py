"""What every step is: options that a user writes, fitted to statistics, then a function of arrays and its inverse.

Not here: any particular step (one family a file) and steps in order (`chain.py`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pipeline.errors import ManifestError, NotInvertibleError

if TYPE_CHECKING:
    from pipeline.statistics.describe import Statistics

Floats: TypeAlias = NDArray[np.float64]
Parameters: TypeAlias = Mapping[str, Floats]
Indexer: TypeAlias = slice | NDArray[np.intp]

PARAMETERS_PER_FEATURE = 8


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
    sizes : mapping of str to int
        Of the dims whose size is known.
    labels_of : callable, optional
        The labels of a dim, None where it has none.
    selected : frozenset of str
        The dims of which a step before keeps a part, or nothing.
    """

    dims: tuple[str, ...]
    sample_dim: str
    dtype: np.dtype[Any]
    sizes: Mapping[str, int] = field(default_factory=dict)
    labels_of: Callable[[str], NDArray[Any] | None] | None = None
    selected: frozenset[str] = frozenset()


class Step(BaseModel, ABC):
    """One normalization operation, as options. Subclasses are pydantic models whose fields are the options.

    Immutable and strict: an unknown option is refused. `bind` settles whatever depends on the source, `fit` gives
    the function.

    Attributes
    ----------
    name : str
        What a user writes in a configuration.
    summary, formula, reference, inverse_note : str
        One line each, for listings; `summary` is the docstring's first line.
    elementwise : bool
        Whether each output element depends on one input element (and its feature's parameters) only.
    requires : frozenset of str
        What a fitted step needs of the statistics: `moments`, `distribution`, `covariance`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)

    name: ClassVar[str]
    summary: ClassVar[str]
    formula: ClassVar[str]
    reference: ClassVar[str]
    inverse_note: ClassVar[str]
    elementwise: ClassVar[bool] = True
    requires: ClassVar[frozenset[str]] = frozenset({"moments"})

    @property
    def fitted_per(self) -> tuple[str, ...] | None:
        """The dims that this step needs statistics per, or None where it needs none."""
        return None

    @property
    def whole_dims(self) -> frozenset[str]:
        """The dims of which a call must see everything at once; known once bound."""
        return frozenset()

    @property
    def is_affine(self) -> bool:
        """Whether the step is `(x − center) · scale + offset` on what it is fitted to; `FittedStep.affine` gives the three."""
        return False

    @property
    def observes(self) -> Step | None:
        """A step that the values pass, in the place of this one, before they are summarized for this one's fit.

        None where the values themselves are summarized. What it puts out is of no use to others, so such a pass is neither
        shared nor derived, and its statistics are not kept. It may be fitted itself, and observe: each costs one more read.
        """
        return None

    @property
    def needs(self) -> frozenset[str]:
        """What of `requires` it is fitted from with these options."""
        return self.requires

    @property
    def selected_dim(self) -> str | None:
        """The dim of which the step keeps a part of the features; None where it keeps all of every dim."""
        return None

    @property
    def needs_deviation(self) -> bool:
        """Whether it is fitted to mean absolute deviations as well, which take a second read where no histogram gives them."""
        return False

    def parameter_count(self, features: int, values: int) -> int:
        """How many numbers its parameters are at most, once fitted per so many features that have so many values each."""
        return PARAMETERS_PER_FEATURE * features

    def derived_count(self, features: int) -> int:
        """How many numbers it makes of its parameters, and keeps, to be called."""
        return 0

    def output_sizes(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """The dims, in order, and sizes of what the step, once bound, puts out, where those of what it is given are `sizes`.

        Which dims these are depends on no size.
        """
        return dict(sizes)

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

    def fit_observed(self, statistics: Statistics, observer: FittedStep) -> FittedStep:
        """The function of a step that `observes`; `statistics` are those of what `observer` put out. Raises as `fit` does."""
        return self.fit(statistics)

    @abstractmethod
    def restore(self, parameters: Parameters) -> FittedStep:
        """The function whose parameters were stored; raises ManifestError where they do not fit the options."""


class ParameterlessStep(Step):
    """A step that is fitted to nothing: its options are all that it needs."""

    @property
    @abstractmethod
    def function(self) -> type[FittedStep]:
        """What it is once fitted."""

    def fit(self, statistics: Statistics | None = None) -> FittedStep:
        return self.function(self, (), {})

    def restore(self, parameters: Parameters) -> FittedStep:
        return self.function(self, (), stored_parameters(self, (), parameters, ()))


@dataclass(frozen=True, eq=False)
class FittedStep(ABC):
    """A step with its parameters: a function of float64 arrays.

    Never changes its input; may return it. NaN stays NaN. The bits of an output element depend on the values of the
    element (for a step that looks at vectors: of its vector) and the parameters alone, never on how the array lies in
    memory or what else it holds.

    Parameters
    ----------
    step : Step
        The options it was fitted with, bound.
    per : tuple of str
        Names of the parameters' dims, in the array's order.
    parameters : mapping of str to ndarray of float64
        Each of the shape that `per` has in the data, and after it the sizes of its own dims where it has any.

    Attributes
    ----------
    own_dims : mapping of str to tuple of str
        Of each parameter that has more dims than `per`: their names, in angle brackets since they are no dims of the data.
    """

    own_dims: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({})

    step: Step
    per: tuple[str, ...]
    parameters: Parameters

    @abstractmethod
    def __call__(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        """`values` normalized.

        Parameters
        ----------
        values : ndarray of float64
        dims : tuple of str
            Names of its axes, in any order; those of the result are those of `output_sizes`.
        out : ndarray of float64, optional
            C-contiguous, of the shape of `values` and apart from it: memory that the step may write its result to.
        """

    def inverse(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        """What `__call__` was given, from what it returned; takes what `__call__` takes, with the dims of its result.

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
        return self.step.whole_dims

    @property
    def held_bytes(self) -> int:
        """How much memory its parameters take, and what it makes of them to be called."""
        features = math.prod(next(iter(self.parameters.values())).shape[: len(self.per)]) if self.parameters else 0
        derived = self.step.derived_count(features) * np.dtype(np.float64).itemsize
        return derived + sum(values.nbytes for values in self.parameters.values())

    @property
    def affine(self) -> tuple[Floats, Floats, Floats] | None:
        """(center, scale, offset), each broadcastable to the parameters' shape, where the step is
        `(x − center) · scale + offset` but for rounding; None where it is something else. Exact derivations use it."""
        return None

    def keeps(self, dim: str) -> NDArray[np.bool_] | None:
        """Which positions along `dim` are in the output; None where all are."""
        return None

    def output_sizes(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """The dims, in order, and sizes of the output, where those of the input are `sizes`."""
        return self.step.output_sizes(sizes)

    def input_sizes(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """The dims, in order, and sizes of what the inverse returns, where those of what it is given are `sizes`."""
        return dict(sizes)

    def parameter_dims(self, name: str) -> tuple[str, ...]:
        """The dims of a parameter: `per`, then its own."""
        return (*self.per, *self.own_dims.get(name, ()))

    def select(self, indexers: Mapping[str, Indexer]) -> Self:
        """The same function for a part of the features: each indexer picks along one dim of `per`; other dims are ignored."""
        picked = {name: self._pick(values, indexers) for name, values in self.parameters.items()}
        return replace(self, parameters=picked)

    def _pick(self, values: Floats, indexers: Mapping[str, Indexer]) -> Floats:
        for axis, dim in enumerate(self.per):
            if dim in indexers:
                values = values[(slice(None),) * axis + (indexers[dim],)]
        return values

    def along(self, parameter: str | Floats, dims: tuple[str, ...]) -> Floats:
        """A parameter without own dims, or an array of its shape, to broadcast against values whose axes are `dims`."""
        array = self.parameters[parameter] if isinstance(parameter, str) else parameter
        if not self.per or dims[len(dims) - len(self.per) :] == self.per:
            return array
        ordered = array.transpose([self.per.index(dim) for dim in dims if dim in self.per])
        sizes = iter(ordered.shape)
        return ordered.reshape([next(sizes) if dim in self.per else 1 for dim in dims])


def room(values: Floats, out: Floats | None) -> Floats:
    """Where a result of the shape of `values` goes: `out`, or new memory."""
    return np.empty(values.shape) if out is None else out


def frozen_parameters(**arrays: Floats) -> dict[str, Floats]:
    """Copies of `arrays`, C-contiguous float64, that nothing can write to."""
    parameters = {name: np.array(array, dtype=np.float64, order="C") for name, array in arrays.items()}
    for array in parameters.values():
        array.setflags(write=False)
    return parameters


def stored_parameters(
    step: Step,
    per: tuple[str, ...],
    parameters: Parameters,
    names: tuple[str, ...],
    own_dims: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> Parameters:
    """`parameters` as stored for `step`, checked and frozen; `own_dims` as in `FittedStep`.

    Raises
    ------
    ManifestError
        Where a name is missing or too many, or the shapes or types do not fit together or do not fit the dims.
    """
    if set(parameters) != set(names):
        found, expected = (", ".join(sorted(given)) or "none" for given in (parameters, names))
        raise ManifestError("stored parameters of another step", where=step.name, found=found, expected=expected)
    dims = {name: (*per, *own_dims.get(name, ())) for name in names}
    if not _fit_together(dims, parameters):
        expected = ", ".join(f"{name} {list(own)}" for name, own in dims.items())
        raise ManifestError(
            "stored parameters of a wrong shape",
            where=step.name,
            found=", ".join(f"{name} {array.shape}" for name, array in parameters.items()),
            expected=f"one size for each dim, the same for all: {expected}",
        )
    for name, array in parameters.items():
        if array.dtype != np.float64 or np.isinf(array).any():
            raise ManifestError(
                "stored parameters of a wrong type", where=f"{step.name}.{name}", expected="finite float64 or NaN"
            )
    return frozen_parameters(**parameters)


def _fit_together(dims: Mapping[str, tuple[str, ...]], parameters: Parameters) -> bool:
    """Whether every parameter has its `dims`, and every dim one size."""
    sizes: dict[str, int] = {}
    return all(
        parameters[name].ndim == len(own)
        and all(sizes.setdefault(dim, size) == size for dim, size in zip(own, parameters[name].shape, strict=True))
        for name, own in dims.items()
    )
