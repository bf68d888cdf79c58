"""What the steps that look at whole vectors share: the option `dims`, and vectors as rows whatever the layout.

Not here: any such step (`library_size.py`, `pearson_residuals.py`, `sample_scaling.py`, `whiten.py`).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.errors import ConfigError, DataError
from pipeline.normalize.features import check_dims
from pipeline.normalize.names import Dims
from pipeline.normalize.step import FittedStep, Floats, Indexer, Input, Step

if TYPE_CHECKING:
    from pipeline.statistics.describe import Statistics

Fill: TypeAlias = Callable[[Floats, Floats], None]


class VectorStep(Step):
    """A step that looks at whole vectors: all positions along the dims `dims`."""

    elementwise: ClassVar[bool] = False

    dims: Dims | None = Field(
        default=None, description="a list of the dims that a vector runs over; by default all but the sample dim"
    )

    @property
    def whole_dims(self) -> frozenset[str]:
        return frozenset(self.dims or ())

    def bind(self, given: Input) -> Self:
        """The same with `dims` settled, in the array's order."""
        where = f"{self.name}.dims"
        named = self.dims if self.dims is not None else tuple(dim for dim in given.dims if dim != given.sample_dim)
        check_dims(named, given.dims, where)
        if not named or given.sample_dim in named:
            raise ConfigError(
                "a vector runs over the dims of one sample",
                where=where,
                found=", ".join(named) or "no dim",
                expected=f"at least one of {', '.join(given.dims)} other than {given.sample_dim}",
                remedy="use zscore, minmax or maxabs to scale across samples",
            )
        return self.model_copy(update={"dims": tuple(dim for dim in given.dims if dim in named)})


def replaced(sizes: Mapping[str, int], own: tuple[str, ...], becomes: Mapping[str, int]) -> dict[str, int]:
    """`sizes` with the dims `becomes` in the place of the first of the dims `own`, and without the others of these.

    Examples
    --------
    >>> replaced({"patch": 9, "y": 8, "x": 8}, ("y", "x"), {"component": 20})
    {'patch': 9, 'component': 20}
    """
    first = next((dim for dim in sizes if dim in own), None)
    parts = (becomes if dim == first else {} if dim in own else {dim: size} for dim, size in sizes.items())
    return {dim: size for part in parts for dim, size in part.items()}


@dataclass(frozen=True, eq=False)
class FittedVectorStep(FittedStep):
    """A `VectorStep` with its parameters: a function of rows."""

    step: VectorStep

    @abstractmethod
    def fill(self, rows: Floats, result: Floats) -> None:
        """Write what becomes of vectors to `result`.

        Parameters
        ----------
        rows : ndarray of float64
            Shape (vectors, elements), C-contiguous, the elements in the array's order of dims. NumPy reduces its last axis
            in an order (pairwise summation) that depends on the number of elements alone.
        result : ndarray of float64
            C-contiguous, of the same shape, apart from `rows`.
        """

    def __call__(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        return self.by_rows(self.fill, values, dims, out)

    def by_rows(
        self,
        fill: Fill,
        values: Floats,
        dims: tuple[str, ...],
        out: Floats | None,
        own: tuple[str, ...] | None = None,
        becomes: Mapping[str, int] | None = None,
    ) -> Floats:
        """What `fill` makes of the vectors of `values`, an array with the axes `dims`.

        Vectors run over the dims `own`, by default those of the step, and stay what they are but for their values, unless
        they become arrays of other dims, `becomes` with their sizes, in the place of the first of their own.
        """
        own = (self.step.dims or ()) if own is None else own
        sizes = dict(zip(dims, values.shape, strict=True))
        left = sizes if becomes is None else replaced(sizes, own, becomes)
        rest = [dim for dim in dims if dim not in own]
        produced = [*rest, *(own if becomes is None else becomes)]
        in_place = out is not None and becomes is None and produced == list(dims)
        result = out if out is not None and in_place else np.empty([left[dim] for dim in produced])
        if values.size and result.size:
            moved = values.transpose([dims.index(dim) for dim in (*rest, *own)])
            rows = np.require(moved, np.float64, ["C", "A"]).reshape(-1, math.prod(sizes[dim] for dim in own))
            fill(rows, result.reshape(len(rows), -1))
        order = [produced.index(dim) for dim in left]
        return result if order == sorted(order) else result.transpose(order)

    def select(self, indexers: Mapping[str, Indexer]) -> Self:
        """Itself: all its parameters are kept per dims of which every call sees everything."""
        return self


def checked_vectors(step: VectorStep, statistics: Statistics | None) -> Statistics:
    """`statistics`, which must hold a finite value somewhere and be kept per the step's dims.

    Raises
    ------
    DataError
        Where there is no finite value at all, or one that the policy for NaN does not allow.
    """
    if statistics is None or len(statistics.feature_shape) != len(step.dims or ()):
        raise TypeError(f"{step.name} needs statistics per {list(step.dims or ())}")
    statistics.check()
    return statistics


def refuse_infinite(step: Step, rows: Floats) -> None:
    """Raise DataError where a vector has an infinity."""
    count = int(np.isinf(rows).any(axis=1).sum())
    if count:
        raise DataError(
            "infinite values in a vector",
            where=step.name,
            found=f"{count} of {len(rows)} vectors with an infinity",
            expected="finite values or NaN",
            remedy="put a clip step before it",
        )


def plain_totals(rows: Floats) -> Floats | None:
    """The sum of each row where all are finite numbers from 0 on, in two looks at them; None where some is something else."""
    with np.errstate(over="ignore"):
        totals = np.asarray(np.add.reduce(rows, axis=1))
    return totals if np.isfinite(totals).all() and rows.min(initial=0.0) >= 0 else None


def totals_of_counts(step: Step, rows: Floats, room: Floats, missing: NDArray[np.bool_]) -> Floats:
    """The sum of each row without what is `missing`.

    Parameters
    ----------
    step : Step
        For messages.
    rows : ndarray of float64, shape (vectors, elements)
    room : ndarray of float64
        Of the same shape; overwritten.
    missing : ndarray of bool
        Where `rows` is NaN.

    Raises
    ------
    DataError
        Where a value is negative or infinite.
    """
    refuse_infinite(step, rows)
    negative = int((rows < 0).sum())
    if negative:
        raise DataError(
            "negative values are no counts",
            where=step.name,
            found=f"{negative} of {rows.size} values, the least {np.nanmin(rows)}",
            expected="counts: numbers from 0 on, or NaN",
            remedy="give it the raw counts, before any log or centering, or put a clip step before it",
        )
    np.copyto(room, rows)
    np.copyto(room, 0.0, where=missing)
    return np.asarray(np.add.reduce(room, axis=1))
