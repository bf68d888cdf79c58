"""Steps in order: bound, fitted, and run as the one function that normalizes.

Not here: any particular step, and how steps are fitted (`fitting.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipeline.dtypes import is_supported
from pipeline.errors import ConfigError, DataError, InputMismatchError, ManifestError, NotInvertibleError
from pipeline.normalize.names import located
from pipeline.normalize.parse import parse_chain
from pipeline.normalize.step import FittedStep, Floats, Indexer, Input, Step
from pipeline.normalize.tiling import Run, Scratch, Work, carry_out, select_steps
from pipeline.room import Room, array_in

__all__ = ["FittedChain", "bind_chain", "parse_chain", "run_inverse", "run_steps"]

UNKNOWN = -1

Function: TypeAlias = Callable[[Floats, tuple[str, ...], Floats | None], Floats]


def bind_chain(steps: Iterable[Step], given: Input) -> tuple[Step, ...]:
    """`steps` with whatever depends on the source settled; every step after the first sees float64.

    Raises
    ------
    ConfigError
        Where an option does not fit the input, with the step's place in the configuration.
    """
    bound = []
    for index, step in enumerate(steps):
        try:
            bound.append(step.bind(given))
        except ConfigError as error:
            raise located(error, index) from None
        given = _after(bound[-1], given)
    return tuple(bound)


def _after(step: Step, given: Input) -> Input:
    """What the step after `step`, which is bound to `given`, is told."""
    sizes = step.output_sizes({dim: given.sizes.get(dim, UNKNOWN) for dim in given.dims})
    selected = {dim for dim in given.dims if dim == step.selected_dim or dim not in sizes}
    labels_of = given.labels_of
    return replace(
        given,
        dims=tuple(sizes),
        dtype=np.dtype(np.float64),
        sizes={dim: size for dim, size in sizes.items() if size != UNKNOWN},
        labels_of=labels_of and (lambda dim: labels_of(dim) if dim in given.dims else None),
        selected=given.selected | selected,
    )


def run_steps(
    steps: Sequence[FittedStep], values: Floats, dims: tuple[str, ...], scratch: Scratch = (), first: int = 0
) -> Floats:
    """`values` after `steps`.

    Parameters
    ----------
    steps : sequence of FittedStep
    values : ndarray of float64
        Never changed, unless it lies in `scratch`.
    dims : tuple of str
        Names of its axes.
    scratch : sequence of two ndarrays of float64, optional
        C-contiguous, of the shape of `values` and apart from each other: memory for what the steps put out.
    first : int
        Which number of its chain the first of `steps` is, for messages.

    Returns
    -------
    ndarray of float64
        Maybe `values`, or in `scratch`.

    Raises
    ------
    DataError
        Where a finite value overflows float64, or a step refuses a value; says which step.
    """
    with np.errstate(over="raise", under="ignore", invalid="ignore"):
        for index, step in enumerate(steps, first):
            left = tuple(step.output_sizes(dict.fromkeys(dims, 0)))
            values, dims = _called(step, values, dims, scratch, index, step), left
    return values


def run_inverse(steps: Sequence[FittedStep], values: Floats, dims: tuple[str, ...], scratch: Scratch = ()) -> Floats:
    """What `run_steps` was given, from what it returned, but for rounding; `dims` are those of its result."""
    with np.errstate(over="raise", under="ignore", invalid="ignore"):
        for index in reversed(range(len(steps))):
            left = tuple(steps[index].input_sizes(dict.fromkeys(dims, 0)))
            values, dims = _called(steps[index].inverse, values, dims, scratch, index, steps[index]), left
    return values


def _called(
    function: Function, values: Floats, dims: tuple[str, ...], scratch: Scratch, index: int, step: FittedStep
) -> Floats:
    """What `function` makes of `values`; its errors say that it is step number `index`."""
    out = next((room for room in scratch if not np.may_share_memory(room, values)), None)
    if out is not None and out.shape != values.shape:  # a step before changed the size
        out = out.reshape(-1)[: values.size].reshape(values.shape) if out.size >= values.size else None
    try:
        return function(values, dims, out)
    except FloatingPointError:
        raise DataError(
            "finite values overflow float64",
            where=f"normalize.{index}.{step.step.name}",
            expected="results of magnitude below 1.8e308",
            remedy="put a clip step before it",
        ) from None
    except DataError as error:
        raise located(error, index) from None


@dataclass(frozen=True, eq=False)
class FittedChain:
    """Fitted steps in order, from values of the source's dtype to values of the output's.

    The batch job and every kind of inference call this one function. It works in pieces of about 1 MiB of float64, so that
    temporary arrays stay small, and the bits of an output element depend on the values of the element (or its vector)
    alone: not on the pieces, the memory layout, the order of dims, or what else the array holds.

    Parameters
    ----------
    steps : tuple of FittedStep
    dims : tuple of str
        The source's dims, in order.
    sample_dim : str
        The one of them along which there are more and more observations.
    input_dtype, output_dtype : numpy.dtype
        Of the source and of what is written.

    Examples
    --------
    >>> from pipeline.normalize.elementwise import Affine
    >>> step = Affine(scale=0.5).fit(None)
    >>> chain = FittedChain((step,), ("sample", "x"), "sample", np.dtype("uint8"), np.dtype("float32"))
    >>> chain(np.array([[1, 2]], dtype="uint8"))
    array([[0.5, 1. ]], dtype=float32)
    """

    steps: tuple[FittedStep, ...]
    dims: tuple[str, ...]
    sample_dim: str
    input_dtype: np.dtype[Any]
    output_dtype: np.dtype[Any]

    def __call__(self, values: NDArray[Any], dims: tuple[str, ...] | None = None, room: Room | None = None) -> NDArray[Any]:
        """`values` normalized.

        Parameters
        ----------
        values : ndarray of a real dtype
            Never changed.
        dims : tuple of str, optional
            Names of its axes: the chain's dims in any order, of which those that no step depends on may be missing. By
            default the chain's own, or those without the sample dim for a single sample.
        room : Room, optional
            Where the result is to lie, until the room is used for something else.

        Returns
        -------
        ndarray of output_dtype
            C-contiguous, and new unless `room` is given; its axes and their sizes are those of `output_sizes`.

        Raises
        ------
        InputMismatchError
            Where dims, sizes or dtype do not fit the chain.
        DataError
            Where a step refuses a value, or a finite value overflows float64 or does not fit the output dtype.
        """
        values = np.asarray(values)
        sizes = self._checked_sizes(values, dims, self.dims, self.sizes)
        return self._carried_out(run_steps, values, sizes, self.output_sizes(sizes), self.output_dtype, room=room)

    def inverse(
        self, values: NDArray[Any], dims: tuple[str, ...] | None = None, dtype: DTypeLike | None = None
    ) -> NDArray[Any]:
        """What the chain was given, from what it returned, but for rounding.

        Parameters
        ----------
        values : ndarray of a real dtype
        dims : tuple of str, optional
            As for a call, of `output_dims`.
        dtype : dtype, optional
            Of the result; by default the chain's input dtype. Integers are rounded to the nearest.

        Raises
        ------
        NotInvertibleError
            Where a step has no inverse; names every such step and its reason.
        DataError
            Where a value does not fit `dtype`.
        """
        self.check_invertible()
        result = self.input_dtype.newbyteorder("=") if dtype is None else np.dtype(dtype)
        if not is_supported(result):
            raise InputMismatchError("not a type that values can be returned in", found=result, expected="a real dtype")
        values = np.asarray(values)
        sizes = self._checked_sizes(values, dims, self.output_dims, self.output_sizes(self.sizes))
        left = self.input_sizes(sizes)
        inverted = self._carried_out(run_inverse, values, sizes, left, result, remedy="ask for dtype float64")
        order = self.dims if dims is None else left
        return np.ascontiguousarray(inverted.transpose([tuple(left).index(dim) for dim in order if dim in left]))

    def check_invertible(self) -> None:
        """Raise NotInvertibleError where a step has no inverse; names every such step and its reason."""
        if not self.invertible:
            raise NotInvertibleError(
                "the chain has no inverse",
                found="; ".join(f"{name}: {reason}" for name, reason in self._reasons),
                expected="steps that have one",
                remedy="keep the original data beside the output",
            )

    @property
    def invertible(self) -> bool:
        """Whether every step has an inverse."""
        return not self._reasons

    @cached_property
    def whole_dims(self) -> frozenset[str]:
        """The dims of which a call must see everything at once."""
        return frozenset(dim for step in self.steps for dim in step.whole_dims if dim in self.dims)

    @cached_property
    def output_dims(self) -> tuple[str, ...]:
        """The dims of the output, in order: those of the input, unless a step puts others in their place."""
        return tuple(self.output_sizes(dict.fromkeys(self.dims, 0)))

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The size of the input along every dim that parameters are kept per.

        Raises
        ------
        ManifestError
            Where steps contradict each other.
        """
        first: dict[str, int] = {}
        sizes: dict[str, int] = {}
        for step in self.steps:
            for parameter in step.parameters.values():
                for dim, size in zip(step.per, parameter.shape[: len(step.per)], strict=True):
                    first.setdefault(dim, size)
                    if sizes.setdefault(dim, size) != size:
                        raise ManifestError("steps of different sizes", where=dim, found=f"{sizes[dim]} and {size}")
            sizes = step.output_sizes(sizes)
        return {dim: size for dim, size in first.items() if dim in self.dims}

    @cached_property
    def kept(self) -> dict[str, NDArray[np.intp]]:
        """For every dim of which the output has a part of the features: their positions in the input."""
        kept: dict[str, NDArray[np.intp]] = {}
        for step in self.steps:
            dim = step.step.selected_dim
            mask = None if dim is None else step.keeps(dim)
            if dim in self.output_dims and dim in self.dims and mask is not None:
                kept[dim] = np.flatnonzero(mask)
        return kept

    @property
    def held_bytes(self) -> int:
        """How much memory the parameters of its steps take, and what these make of them."""
        return sum(step.held_bytes for step in self.steps)

    def output_sizes(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """The dims, in order, and sizes of the output for an input whose dims and sizes are `sizes`."""
        for step in self.steps:
            sizes = step.output_sizes(sizes)
        return dict(sizes)

    def input_sizes(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """The dims, in order, and sizes of what the inverse returns for values whose dims and sizes are `sizes`."""
        for step in reversed(self.steps):
            sizes = step.input_sizes(sizes)
        return dict(sizes)

    def select(self, indexers: Mapping[str, Indexer]) -> FittedChain:
        """The same function for a part of the features: each indexer picks along one dim; other dims are ignored."""
        return replace(self, steps=select_steps(self.steps, indexers))

    @property
    def _reasons(self) -> list[tuple[str, str]]:
        reasons = ((step.step.name, step.why_not_invertible) for step in self.steps)
        return [(name, reason) for name, reason in reasons if reason is not None]

    def _carried_out(
        self,
        run: Run,
        values: NDArray[Any],
        sizes: Mapping[str, int],
        left: Mapping[str, int],
        dtype: np.dtype[Any],
        remedy: str | None = None,
        room: Room | None = None,
    ) -> NDArray[Any]:
        """What `run` makes of `values`, whose dims and sizes are `sizes`: an array of the dims and sizes `left`."""
        dims, output = tuple(sizes), array_in(room, tuple(left.values()), dtype)
        whole = self.whole_dims | set(dims).difference(self.dims)
        carry_out(Work(run, self.steps, values, dims, output, tuple(left), whole, remedy))
        return output

    def _checked_sizes(
        self, values: NDArray[Any], dims: tuple[str, ...] | None, known: tuple[str, ...], fitted: Mapping[str, int]
    ) -> dict[str, int]:
        """The axes of `values`, all of them `known`, with their sizes; InputMismatchError where they do not fit."""
        if not is_supported(values.dtype):
            raise InputMismatchError(
                "not real numbers", found=f"dtype {values.dtype}", expected="booleans, integers or floats to 64 bits"
            )
        if dims is None:
            single = values.ndim == len(known) - 1
            dims = tuple(dim for dim in known if not (single and dim == self.sample_dim))
        needed = {dim for dim in known if dim in self.whole_dims or dim in fitted}
        if len(dims) != values.ndim or len(set(dims)) < len(dims) or not needed <= set(dims) <= set(known):
            raise InputMismatchError(
                "other dims than the chain was fitted for",
                found=f"{values.ndim} axes, dims {list(dims)}",
                expected=f"dims {list(known)}, or those without {self.sample_dim!r} for a single sample",
            )
        sizes = dict(zip(dims, values.shape, strict=True))
        for dim, size in sizes.items():
            if fitted.get(dim, size) != size:
                raise InputMismatchError("another size than was fitted", where=dim, found=size, expected=fitted[dim])
        return sizes
