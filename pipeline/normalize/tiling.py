"""How a function of float64 arrays is carried out on an array of any size: piece by piece, or, where elements have few
different values, by a table of what becomes of each.

Not here: the function (`chain.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.block import axes_of, block_step
from pipeline.errors import DataError
from pipeline.normalize.cast import cast_into
from pipeline.normalize.step import FittedStep, Floats, Indexer

PIECE_BYTES = 2**20
PARAMETER_BYTES = 2**18
FEATURES_AT_LEAST = 16  # of which neighbouring values share what a processor fetches at once
LONG_ROW = 512
TABLE_BYTES = 2**20  # what stays in a core's own cache; beyond, looking up costs more than the arithmetic of a few steps
TABLE_SHARE = 8
BITS: Mapping[int, type[np.unsignedinteger[Any]]] = {1: np.uint8, 2: np.uint16}

Piece: TypeAlias = tuple[slice, ...]
Scratch: TypeAlias = Sequence[Floats]
Run: TypeAlias = Callable[[tuple[FittedStep, ...], Floats, tuple[str, ...], Scratch], Floats]


@dataclass(frozen=True)
class Work:
    """What is to be done: `output` is filled with what `run` makes of `values`, in the type of `output`.

    Parameters
    ----------
    run : callable
        Takes steps, float64 values, the names of their axes, and two arrays of the shape of the values that it may use.
    steps : tuple of FittedStep
    values : ndarray of a real dtype
    dims : tuple of str
        Names of its axes.
    output : ndarray
        C-contiguous; of the shape of `values`, unless a step keeps a part of a dim or makes one.
    output_dims : tuple of str
        Names of its axes.
    whole_dims : frozenset of str
        Those of `dims` along which nothing may be cut.
    remedy : str, optional
        Said of values that do not fit the type of `output`.
    """

    run: Run
    steps: tuple[FittedStep, ...]
    values: NDArray[Any]
    dims: tuple[str, ...]
    output: NDArray[Any]
    output_dims: tuple[str, ...]
    whole_dims: frozenset[str] = frozenset()
    remedy: str | None = None

    @property
    def sizes(self) -> dict[str, int]:
        return dict(zip(self.dims, self.values.shape, strict=True))


def carry_out(work: Work) -> None:
    """Do `work` with temporary arrays of a few `PIECE_BYTES`; the bits are those of doing it in one piece.

    Raises
    ------
    DataError
        Where a step refuses a value, or a value does not fit the type of the output.
    """
    if work.values.size * 8 <= PIECE_BYTES:
        result = work.run(work.steps, as_float64(work.values), work.dims, ())
        cast_into(result, work.output, work.remedy)
    elif not work.values.flags.c_contiguous or not all(map(_may_be_rearranged, work.steps)):
        _calculate(work)
    else:
        merged = _merged(work)
        table = _table(merged)
        if table is None:
            _calculate_in_rows(merged)
        else:
            _look_up_in_rows(merged, table)


def _may_be_rearranged(step: FittedStep) -> bool:
    """Whether the bits of an element are the same wherever it lies. Where a value and a parameter are both NaN, which of their
    signs the result has depends on where in a row NumPy meets them."""
    return step.step.elementwise and not any(np.isnan(array).any() for array in step.parameters.values())


def select_steps(steps: tuple[FittedStep, ...], indexers: Mapping[str, Indexer]) -> tuple[FittedStep, ...]:
    """`steps` for a part of the features of what the first of them is given: each indexer picks along one dim."""
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


def as_float64(values: NDArray[Any], out: Floats | None = None) -> Floats:
    """C-contiguous and aligned, the one layout that steps see: `values` itself, or a copy, in `out` where that is given."""
    if values.dtype == np.float64 and values.flags.c_contiguous and values.flags.aligned:
        return values
    out = np.empty(values.shape) if out is None else out
    with np.errstate(invalid="ignore"):  # a signaling NaN becomes a quiet one
        np.copyto(out, values)
    return out


def _calculate(work: Work) -> None:
    """Do `work` in pieces that stay in a processor's cache, those of the same features one after the other."""
    rooms: list[Floats] = []
    scratch: list[Floats] = []
    for steps, pieces in _pieces(work):
        for piece in pieces:
            values = work.values[piece]
            rooms = rooms or [np.empty(values.size), np.empty(values.size)]
            if not scratch or scratch[0].shape != values.shape:
                scratch = [room[: values.size].reshape(values.shape) for room in rooms]
            result = work.run(steps, as_float64(values, scratch[0]), work.dims, scratch)
            cast_into(result, work.output[_place(work, piece)], work.remedy)


def _place(work: Work, piece: Piece) -> Piece:
    """Where the output of `piece` goes."""
    cut = dict(zip(work.dims, piece, strict=True))
    return tuple(slice(None) if dim in work.whole_dims else cut.get(dim, slice(None)) for dim in work.output_dims)


def _pieces(work: Work) -> Iterator[tuple[tuple[FittedStep, ...], Iterator[Piece]]]:
    """The steps for a box of features, and all pieces of the values in that box, the largest piece first."""
    shape = work.values.shape
    whole = work.whole_dims
    kept = {dim for step in work.steps for dim in step.per}
    room = _features_at_once(work)
    within = tuple(_even_part(size, room) if dim in kept - whole else size for dim, size in work.sizes.items())
    whole_axes = frozenset(axes_of(work.dims, whole))
    cuts = _cuts(shape, block_step(within, (1,) * len(shape), 8, PIECE_BYTES, whole_axes))
    for box in product(*(along if dim in kept else [None] for dim, along in zip(work.dims, cuts, strict=True))):
        part = {dim: at for dim, at, along in zip(work.dims, box, cuts, strict=True) if at is not None and len(along) > 1}
        pieces = product(*(along if at is None else [at] for at, along in zip(box, cuts, strict=True)))
        yield select_steps(work.steps, part) if part else work.steps, pieces


def _cuts(shape: tuple[int, ...], step: tuple[int, ...]) -> list[list[slice]]:
    """Along each axis of an array of `shape`, the slices of at most `step` that it is cut into."""
    return [
        [slice(start, min(start + width, size)) for start in range(0, size, width)]
        for size, width in zip(shape, step, strict=True)
    ]


def _features_at_once(work: Work) -> int:
    """Of how many features the parameters are to be in the cache."""
    features = max((prod(work.sizes.get(dim, 1) for dim in step.per) for step in work.steps), default=1)
    parameter_bytes = sum(array.nbytes for step in work.steps for array in step.parameters.values())
    return max(FEATURES_AT_LEAST, PARAMETER_BYTES * features // max(1, parameter_bytes))


def _even_part(size: int, at_most: int) -> int:
    """The size of parts, of about the same size, that `size` is cut into."""
    parts = max(1, -(-size // at_most))
    return -(-size // parts)


def _merged(work: Work) -> Work:
    """The same work with neighbouring dims made one where every step has parameters along all of them or none."""
    groups = [tuple(dims) for _, dims in groupby(work.dims, lambda dim: [dim in step.per for step in work.steps])]
    shape = tuple(prod(work.sizes[dim] for dim in group) for group in groups)
    names = tuple(f"<{' '.join(group)}>" for group in groups)
    steps = []
    for step in work.steps:
        order = [step.per.index(dim) for dim in work.dims if dim in step.per]
        along = [at for at, group in enumerate(groups) if group[0] in step.per]
        sizes = tuple(shape[at] for at in along)
        parameters = {name: _reordered(array, order, sizes) for name, array in step.parameters.items()}
        steps.append(replace(step, per=tuple(names[at] for at in along), parameters=parameters))
    values, output = work.values.reshape(shape), work.output.reshape(shape)
    return replace(work, steps=tuple(steps), values=values, dims=names, output=output, output_dims=names)


def _reordered(parameter: Floats, order: list[int], sizes: tuple[int, ...]) -> Floats:
    """`parameter` with its first axes in `order` and then of `sizes`."""
    own = range(len(order), parameter.ndim)
    return parameter.transpose(*order, *own).reshape((*sizes, *parameter.shape[len(order) :]))


def _rows_together(work: Work) -> int:
    """How many rows are taken as one long one: 1 unless all parameters are those of a column, and columns are few.

    NumPy's loops run along a row, and cost as much to begin as some hundred elements.
    """
    if work.values.ndim != 2 or not any(step.per for step in work.steps):
        return 1
    rows, columns = work.values.shape
    aligned = all(step.per in ((), work.dims[1:]) for step in work.steps)
    return min(rows, LONG_ROW // columns) if aligned and 1 < columns <= LONG_ROW // 2 else 1


def _in_rows(work: Work, times: int) -> Iterator[tuple[int, Work]]:
    """`work` with so many rows taken as one, and then the rows that are left over."""
    if times > 1:
        columns = work.values.shape[1]
        together = len(work.values) // times * times
        values, output = (array[:together].reshape(-1, times * columns) for array in (work.values, work.output))
        yield times, replace(work, values=values, output=output)
        work = replace(work, values=work.values[together:], output=work.output[together:])
    yield 1, work


def _calculate_in_rows(work: Work) -> None:
    times = 1 if any(step.own_dims for step in work.steps) else _rows_together(work)
    for count, part in _in_rows(work, times):
        _calculate(replace(part, steps=tuple(_repeated(step, count) for step in work.steps)))


def _repeated(step: FittedStep, times: int) -> FittedStep:
    """`step`, whose parameters are those of columns, for rows of so many times the columns."""
    if times == 1 or not step.per:
        return step
    return replace(step, parameters={name: np.tile(array, times) for name, array in step.parameters.items()})


@dataclass(frozen=True)
class Table:
    """What becomes of every value that an element can have, for every feature.

    Parameters
    ----------
    results : ndarray
        Flat: those of the first feature by the values' bits, and so on.
    starts : ndarray of intp
        Where the results of each feature start, broadcastable to the values.
    """

    results: NDArray[Any]
    starts: NDArray[np.intp]


def _table(work: Work) -> Table | None:
    """The table for `work`; None where it would be too large, or a step refuses a value, whether or not it occurs."""
    if work.values.dtype.itemsize not in BITS or not work.steps:
        return None
    dtype = work.values.dtype.newbyteorder("=")
    count = 2 if dtype.kind == "b" else 2 ** (8 * dtype.itemsize)
    kept = {dim for step in work.steps for dim in step.per}
    features = tuple(size for dim, size in work.sizes.items() if dim in kept)
    entries = prod(features) * count
    if entries * TABLE_SHARE > work.values.size or entries * work.output.itemsize > TABLE_BYTES:
        return None
    every = np.arange(count, dtype=BITS[dtype.itemsize]).view(dtype)
    results = np.empty((*features, count), work.output.dtype)
    dims = (*(dim for dim in work.dims if dim in kept), "<value>")
    try:
        _calculate(replace(work, values=np.broadcast_to(every, results.shape), dims=dims, output=results, output_dims=dims))
    except DataError:
        return None
    starts = np.arange(0, entries, count).reshape([size if dim in kept else 1 for dim, size in work.sizes.items()])
    return Table(results.reshape(-1), starts)


def _look_up_in_rows(work: Work, table: Table) -> None:
    for count, part in _in_rows(work, _rows_together(work)):
        starts = table.starts if count == 1 else np.tile(table.starts, count)
        _look_up(part.values, replace(table, starts=starts), part.output)


def _look_up(values: NDArray[Any], table: Table, output: NDArray[Any]) -> None:
    """Fill `output` with what `table` says of `values`."""
    shape = values.shape
    step = block_step(shape, (1,) * len(shape), np.dtype(np.intp).itemsize, PIECE_BYTES)
    room = np.empty(prod(step), np.intp)
    for piece in product(*_cuts(shape, step)):
        native = values[piece].astype(values.dtype.newbyteorder("="), copy=False)
        places = room[: native.size].reshape(native.shape)
        np.copyto(places, native.view(BITS[native.itemsize]))
        if table.starts.size > 1:
            within = zip(piece, table.starts.shape, strict=True)
            np.add(places, table.starts[tuple(at if size > 1 else slice(None) for at, size in within)], out=places)
        np.take(table.results, places, out=output[piece], mode="wrap")  # no place is out of range, and wrap is fastest
