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

from pipeline.block import Block, block_step, tile
from pipeline.dtypes import is_supported
from pipeline.errors import ConfigError, DataError, InputMismatchError, ManifestError, NotInvertibleError
from pipeline.normalize.cast import cast_into
from pipeline.normalize.names import located
from pipeline.normalize.parse import parse_chain
from pipeline.normalize.step import FittedStep, Floats, Indexer, Input, Step

__all__ = ["PIECE_BYTES", "FittedChain", "bind_chain", "parse_chain", "run_inverse", "run_steps"]

PIECE_BYTES = 2**20

Scratch: TypeAlias = Sequence[Floats]
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
        dim = bound[-1].selected_dim
        sizes = {name: bound[-1].output_size(name, size) for name, size in given.sizes.items()}
        selected = given.selected if dim is None else given.selected | {dim}
        given = replace(given, dtype=np.dtype(np.float64), sizes=sizes, selected=selected)
    return tuple(bound)


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
            values = _called(step, values, dims, scratch, index, step)
    return values


def run_inverse(steps: Sequence[FittedStep], values: Floats, dims: tuple[str, ...], scratch: Scratch = ()) -> Floats:
    """What `run_steps` was given, from what it returned, but for rounding."""
    with np.errstate(over="raise", under="ignore", invalid="ignore"):
        for index in reversed(range(len(steps))):
            values = _called(steps[index].inverse, values, dims, scratch, index, steps[index])
    return values


def _called(
    function: Function, values: Floats, dims: tuple[str, ...], scratch: Scratch, index: int, step: FittedStep
) -> Floats:
    """What `function` makes of `values`; its errors say that it is step number `index`."""
    out = next((room for room in scratch if not np.may_share_memory(room, values)), None)
    if out is not None and out.shape != values.shape:  # a step before kept a part of the features
        out = out.reshape(-1)[: values.size].reshape(values.shape)
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

    def __call__(self, values: NDArray[Any], dims: tuple[str, ...] | None = None) -> NDArray[Any]:
        """`values` normalized.

        Parameters
        ----------
        values : ndarray of a real dtype
            Never changed.
        dims : tuple of str, optional
            Names of its axes: the chain's dims in any order, of which those that no step depends on may be missing. By
            default the chain's own, or those without the sample dim for a single sample.

        Returns
        -------
        ndarray of output_dtype
            New, C-contiguous, with the same order of axes and of the same shape but for the dims in `kept`.

        Raises
        ------
        InputMismatchError
            Where dims, sizes or dtype do not fit the chain.
        DataError
            Where a step refuses a value, or a finite value overflows float64 or does not fit the output dtype.
        """
        return self._in_pieces(run_steps, self.steps, values, dims, self.output_dtype)

    def inverse(
        self, values: NDArray[Any], dims: tuple[str, ...] | None = None, dtype: DTypeLike | None = None
    ) -> NDArray[Any]:
        """What the chain was given, from what it returned, but for rounding.

        Parameters
        ----------
        values : ndarray of a real dtype
        dims : tuple of str, optional
            As for a call.
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
        return self._in_pieces(run_inverse, self.steps, values, dims, result, remedy="ask for dtype float64")

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
        return frozenset(dim for step in self.steps for dim in step.whole_dims)

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
            sizes = {dim: step.output_size(dim, size) for dim, size in sizes.items()}
        return first

    @cached_property
    def kept(self) -> dict[str, NDArray[np.intp]]:
        """For every dim of which the output has a part of the features: their positions in the input."""
        kept: dict[str, NDArray[np.intp]] = {}
        for step in self.steps:
            dim = step.step.selected_dim
            mask = None if dim is None else step.keeps(dim)
            if dim is not None and mask is not None:
                kept[dim] = np.flatnonzero(mask)
        return kept

    def output_size(self, dim: str, size: int) -> int:
        """The size of the output along `dim`, where that of the input is `size`."""
        return len(self.kept[dim]) if dim in self.kept else size

    def output_shape(self, shape: tuple[int, ...], dims: tuple[str, ...]) -> tuple[int, ...]:
        """The shape of the output for an input of `shape` with the axes `dims`."""
        return tuple(self.output_size(dim, size) for dim, size in zip(dims, shape, strict=True))

    def select(self, indexers: Mapping[str, Indexer]) -> FittedChain:
        """The same function for a part of the features: each indexer picks along one dim; other dims are ignored."""
        return replace(self, steps=_selected(self.steps, indexers))

    @property
    def _reasons(self) -> list[tuple[str, str]]:
        reasons = ((step.step.name, step.why_not_invertible) for step in self.steps)
        return [(name, reason) for name, reason in reasons if reason is not None]

    def _in_pieces(
        self,
        run: Callable[..., Floats],
        steps: tuple[FittedStep, ...],
        values: NDArray[Any],
        dims: tuple[str, ...] | None,
        dtype: np.dtype[Any],
        remedy: str | None = None,
    ) -> NDArray[Any]:
        values = np.asarray(values)
        dims = self._checked_dims(values, dims)
        output = np.empty(self.output_shape(values.shape, dims), dtype)
        if values.size * 8 <= PIECE_BYTES:
            cast_into(run(steps, _as_float64(values), dims), output, remedy)
            return output
        rooms: list[Floats] = []
        for piece in self._pieces(values.shape, dims):
            rooms = rooms or [np.empty(piece.size), np.empty(piece.size)]
            scratch = [room[: piece.size].reshape(piece.shape) for room in rooms]
            part = {dim: piece.slices[axis] for axis, dim in enumerate(dims) if piece.shape[axis] < values.shape[axis]}
            converted = _as_float64(values[piece.slices], scratch[0])
            cast_into(run(_selected(steps, part), converted, dims, scratch), output[piece.slices], remedy)
        return output

    def _pieces(self, shape: tuple[int, ...], dims: tuple[str, ...]) -> Iterable[Block]:
        whole = frozenset(axis for axis, dim in enumerate(dims) if dim in self.whole_dims)
        return tile(shape, block_step(shape, (1,) * len(shape), 8, PIECE_BYTES, whole))

    def _checked_dims(self, values: NDArray[Any], dims: tuple[str, ...] | None) -> tuple[str, ...]:
        """The names of the axes of `values`; InputMismatchError where these or the values do not fit."""
        if not is_supported(values.dtype):
            raise InputMismatchError(
                "not real numbers", found=f"dtype {values.dtype}", expected="booleans, integers or floats to 64 bits"
            )
        if dims is None:
            single = values.ndim == len(self.dims) - 1
            dims = tuple(dim for dim in self.dims if not (single and dim == self.sample_dim))
        needed = self.whole_dims.union(self.sizes)
        if len(dims) != values.ndim or len(set(dims)) < len(dims) or not needed <= set(dims) <= set(self.dims):
            raise InputMismatchError(
                "other dims than the chain was fitted for",
                found=f"{values.ndim} axes, dims {list(dims)}",
                expected=f"dims {list(self.dims)}, or those without {self.sample_dim!r} for a single sample",
            )
        for dim, size in zip(dims, values.shape, strict=True):
            if self.sizes.get(dim, size) != size:
                raise InputMismatchError("another size than was fitted", where=dim, found=size, expected=self.sizes[dim])
        return dims


def _selected(steps: tuple[FittedStep, ...], indexers: Mapping[str, Indexer]) -> tuple[FittedStep, ...]:
    picked = []
    for step in steps:
        picked.append(step.select(indexers) if any(dim in step.per for dim in indexers) else step)
        if step.step.selected_dim in indexers:
            masks = {dim: step.keeps(dim) for dim in indexers}
            indexers = {dim: at if (mask := masks[dim]) is None else _among(mask, at) for dim, at in indexers.items()}
    return tuple(picked)


def _among(kept: NDArray[np.bool_], indexer: Indexer) -> Indexer:
    """What `indexer` picks of all features, as an indexer of those that are `kept`."""
    if isinstance(indexer, slice) and indexer.indices(len(kept)) == (0, len(kept), 1):
        return slice(None)
    places = np.arange(len(kept))[indexer]
    rank = np.cumsum(kept) - 1
    return np.asarray(rank[places[kept[places]]], dtype=np.intp)


def _as_float64(values: NDArray[Any], out: Floats | None = None) -> Floats:
    """C-contiguous and aligned, the one layout that steps see: `values` itself, or a copy, in `out` where that is given."""
    if values.dtype == np.float64 and values.flags.c_contiguous and values.flags.aligned:
        return values
    out = np.empty(values.shape) if out is None else out
    with np.errstate(invalid="ignore"):  # a signaling NaN becomes a quiet one
        np.copyto(out, values)
    return out
