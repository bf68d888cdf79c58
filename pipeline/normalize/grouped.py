"""One chain for each group of samples, as the one function that normalizes them all.

Not here: what the groups are called and which sample is in which (`manifest/groups.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipeline.errors import InputMismatchError
from pipeline.normalize.cast import cast_into
from pipeline.normalize.chain import FittedChain
from pipeline.normalize.step import FittedStep, Indexer
from pipeline.room import Room, array_in

UNSEEN = -1
BATCH_BYTES = 4 * 2**20  # of the output: what is normalized of a group at once, and copied to where it belongs

Codes: TypeAlias = NDArray[np.int32]
Rows: TypeAlias = slice | NDArray[np.intp]
Run: TypeAlias = Callable[[FittedChain, NDArray[Any], Room | None], NDArray[Any]]


def rows_by_code(codes: Codes) -> Iterator[tuple[int, Rows]]:
    """Each code that occurs, ascending, and its positions: a slice where they are neighbours.

    Examples
    --------
    >>> [(code, rows) for code, rows in rows_by_code(np.array([7, 7, 3, 7], np.int32))]
    [(3, slice(2, 3, None)), (7, array([0, 1, 3]))]
    """
    order = np.argsort(codes, kind="stable")
    edges = np.flatnonzero(np.diff(codes[order])) + 1
    for rows in np.split(order, edges) if codes.size else ():
        first, last = int(rows[0]), int(rows[-1])
        yield int(codes[first]), slice(first, last + 1) if last - first + 1 == len(rows) else rows


def _batches(rows: Rows, at_most: int) -> Iterator[Rows]:
    """`rows` in parts of at most so many."""
    if isinstance(rows, slice):
        yield from (slice(first, min(first + at_most, rows.stop)) for first in range(rows.start, rows.stop, at_most))
    else:
        yield from (rows[first : first + at_most] for first in range(0, len(rows), at_most))


@dataclass(frozen=True, eq=False)
class GroupedChain:
    """A function of arrays like `FittedChain`, for samples whose groups are known: each sample goes through its group's chain.

    The bits of a sample's output are those of its group's chain alone, whatever other samples there are and in which order.

    Parameters
    ----------
    overall : FittedChain
        That of all samples together: it has the same steps, dims and dtypes as the chain of each group.
    chains : tuple of FittedChain
        One for each group.
    codes : ndarray of int32, shape (samples,) or ()
        Which of `chains` a sample goes through, `UNSEEN` where none; one number where it is the same for all.
    unseen : {'error', 'global', 'nan'}
        Whether a sample of no group is refused, goes through `overall`, or becomes NaN.
    selections : tuple of mappings
        What was selected of the features, one selection after the other.

    Examples
    --------
    >>> from pipeline.normalize.elementwise import Affine
    >>> given = (("sample",), "sample", np.dtype("float64"), np.dtype("float64"))
    >>> one, two, ten = (FittedChain((Affine(scale=scale).fit(None),), *given) for scale in (1, 2, 10))
    >>> GroupedChain(one, (two, ten), np.array([1, 0, UNSEEN], np.int32), "global")(np.array([3.0, 3.0, 3.0]))
    array([30.,  6.,  3.])
    """

    overall: FittedChain
    chains: tuple[FittedChain, ...]
    codes: Codes
    unseen: str = "error"
    selections: tuple[Mapping[str, Indexer], ...] = ()

    @property
    def dims(self) -> tuple[str, ...]:
        return self.overall.dims

    @property
    def sample_dim(self) -> str:
        return self.overall.sample_dim

    @property
    def input_dtype(self) -> np.dtype[Any]:
        return self.overall.input_dtype

    @property
    def output_dtype(self) -> np.dtype[Any]:
        return self.overall.output_dtype

    @property
    def steps(self) -> tuple[FittedStep, ...]:
        """Those of all samples together."""
        return self.overall.steps

    @property
    def kept(self) -> dict[str, NDArray[np.intp]]:
        """Of the dims of which the output has a part of the features: their positions, the same for every group."""
        return self.overall.kept

    @property
    def held_bytes(self) -> int:
        """How much memory the parameters of all its chains take, and what their steps make of them."""
        return sum(chain.held_bytes for chain in (self.overall, *self.chains))

    @property
    def output_dims(self) -> tuple[str, ...]:
        """The dims of the output, in order, the same for every group."""
        return self.overall.output_dims

    def output_sizes(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """The dims, in order, and sizes of the output for an input whose dims and sizes are `sizes`."""
        return self._part(self.overall).output_sizes(sizes)

    def input_sizes(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """The dims, in order, and sizes of what the inverse returns for values whose dims and sizes are `sizes`."""
        return self.overall.input_sizes(sizes)

    @property
    def whole_dims(self) -> frozenset[str]:
        """The dims of which a call must see everything at once."""
        return self.overall.whole_dims

    def __call__(self, values: NDArray[Any], dims: tuple[str, ...] | None = None, room: Room | None = None) -> NDArray[Any]:
        """`values` normalized; takes and raises what `FittedChain` does, but for an array without the sample dim."""
        values, own = np.asarray(values), self.dims if dims is None else dims
        left = self.output_sizes(dict(zip(own, values.shape, strict=False)))
        return self._by_group(values, own, left, self.output_dtype, lambda chain, part, place: chain(part, own, place), room)

    def inverse(
        self, values: NDArray[Any], dims: tuple[str, ...] | None = None, dtype: DTypeLike | None = None
    ) -> NDArray[Any]:
        """What the function was given, from what it returned, but for rounding; as `FittedChain.inverse`."""
        values, own = np.asarray(values), self.output_dims if dims is None else dims
        left = self.input_sizes(dict(zip(own, values.shape, strict=False)))
        left = left if dims is not None else {dim: left[dim] for dim in self.dims if dim in left}
        result = self.input_dtype.newbyteorder("=") if dtype is None else np.dtype(dtype)
        return self._by_group(values, own, left, result, lambda chain, part, _: chain.inverse(part, dims, dtype))

    def select(self, indexers: Mapping[str, Indexer]) -> GroupedChain:
        """The same function for a part of the samples and features: each indexer picks along one dim."""
        picked = indexers.get(self.sample_dim)
        codes = self.codes if picked is None or self.codes.ndim == 0 else self.codes[picked]
        features = {dim: indexer for dim, indexer in indexers.items() if dim != self.sample_dim}
        return replace(self, codes=codes, selections=(*self.selections, features) if features else self.selections)

    def _by_group(
        self,
        values: NDArray[Any],
        dims: tuple[str, ...],
        left: Mapping[str, int],
        dtype: np.dtype[Any],
        run: Run,
        room: Room | None = None,
    ) -> NDArray[Any]:
        """`values`, whose axes are `dims`, each sample after `run` of its group's chain; the result has the dims `left`."""
        axis = dims.index(self.sample_dim)
        groups = list(rows_by_code(self._codes_of(values.shape[axis])))
        self._check_seen(groups)
        if not groups:
            return run(self._part(self.overall), values, room)
        if len(groups) == 1:
            return self._run(groups[0][0], values, left, dtype, run, room)
        output = array_in(room, tuple(left.values()), dtype)
        before, after = (slice(None),) * axis, (slice(None),) * tuple(left).index(self.sample_dim)
        at_once = max(1, BATCH_BYTES * values.shape[axis] // max(1, output.nbytes))
        for code, rows in groups:
            for some in _batches(rows, at_once):
                part = values[(*before, some)]
                output[(*after, some)] = self._run(code, part, {**left, self.sample_dim: part.shape[axis]}, dtype, run)
        return output

    def _codes_of(self, count: int) -> Codes:
        if self.codes.ndim and len(self.codes) != count:
            raise InputMismatchError("another number of samples than of labels", found=count, expected=len(self.codes))
        return np.broadcast_to(self.codes, (count,))

    def _check_seen(self, groups: Iterable[tuple[int, Rows]]) -> None:
        unseen = sum(
            rows.stop - rows.start if isinstance(rows, slice) else len(rows) for code, rows in groups if code == UNSEEN
        )
        if unseen and self.unseen == "error":
            raise InputMismatchError("samples of no group", found=f"{unseen} samples")

    def _run(
        self,
        code: int,
        values: NDArray[Any],
        left: Mapping[str, int],
        dtype: np.dtype[Any],
        run: Run,
        room: Room | None = None,
    ) -> NDArray[Any]:
        if code != UNSEEN:
            return run(self._part(self.chains[code]), values, room)
        if self.unseen == "global":
            return run(self._part(self.overall), values, room)
        missing = np.empty((), dtype)
        cast_into(np.array(np.nan), missing, remedy="leave out samples of groups that were not fitted")
        return np.full(tuple(left.values()), missing)

    def _part(self, chain: FittedChain) -> FittedChain:
        for indexers in self.selections:
            chain = chain.select(indexers)
        return chain
