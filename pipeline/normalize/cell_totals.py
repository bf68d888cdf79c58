"""What `library_size` is fitted to: each cell's total, and which genes take up most of some cell.

Not here: the scaling that follows from it (`library_size.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.normalize.names import Number
from pipeline.normalize.step import FittedStep, Floats, ParameterlessStep, Parameters, frozen_parameters, stored_parameters
from pipeline.normalize.vectors import FittedVectorStep, VectorStep, checked_vectors, totals_of_counts

if TYPE_CHECKING:
    from pipeline.statistics.describe import Statistics

LIBRARY_SIZE = "library_size"
COUNTED = "counted"


class Dominance(ParameterlessStep, VectorStep):
    """1 where a count is more than `max_fraction` of its cell's total, else 0; NaN stays NaN."""

    name: ClassVar[str] = LIBRARY_SIZE
    summary: ClassVar[str] = "which counts dominate their cell"

    max_fraction: Number

    @property
    def function(self) -> type[FittedDominance]:
        return FittedDominance


@dataclass(frozen=True, eq=False)
class FittedDominance(FittedVectorStep):
    """`Dominance`, which has no parameters."""

    step: Dominance

    def fill(self, rows: Floats, result: Floats) -> None:
        missing = np.isnan(rows)
        totals = totals_of_counts(self.step, rows, result, missing)
        result[...] = rows > totals[:, np.newaxis] * self.step.max_fraction
        np.copyto(result, np.nan, where=missing)


class CellTotals(VectorStep):
    """The cell's total in place of its first count that is not NaN, 0 in place of the others; NaN stays NaN.

    With a `max_fraction` it is fitted: genes with a count above that fraction of its cell's total are left out.
    """

    name: ClassVar[str] = LIBRARY_SIZE
    summary: ClassVar[str] = "each cell's total"

    max_fraction: Number | None = None

    @property
    def fitted_per(self) -> tuple[str, ...] | None:
        return None if self.max_fraction is None else self.dims or ()

    @property
    def observes(self) -> Dominance | None:
        return None if self.max_fraction is None else Dominance(dims=self.dims, max_fraction=self.max_fraction)

    def fit(self, statistics: Statistics | None = None) -> FittedCellTotals:
        if self.max_fraction is None:
            return FittedCellTotals(self, (), {})
        counted = counted_features(self, statistics)
        return FittedCellTotals(self, self.dims or (), frozen_parameters(counted=counted))

    def restore(self, parameters: Parameters) -> FittedCellTotals:
        names, per = ((), ()) if self.max_fraction is None else ((COUNTED,), self.dims or ())
        return FittedCellTotals(self, per, stored_parameters(self, per, parameters, names))


@dataclass(frozen=True, eq=False)
class FittedCellTotals(FittedVectorStep):
    """`CellTotals` with, where genes are left out, the parameter counted."""

    step: CellTotals

    def fill(self, rows: Floats, result: Floats) -> None:
        missing = np.isnan(rows)
        totals = counted_totals(self, rows, result, missing)
        result.fill(0.0)
        result[np.arange(len(rows)), missing.argmin(axis=1)] = totals
        np.copyto(result, np.nan, where=missing)


def counted_features(step: VectorStep, statistics: Statistics | None) -> Floats:
    """1 for each gene that totals are taken of, 0 for one that dominates some cell; NaN throughout where one is withheld.

    Parameters
    ----------
    step : VectorStep
    statistics : Statistics
        Of what `Dominance` puts out, per gene.

    Raises
    ------
    DataError
        Where no gene is left.
    """
    statistics = checked_vectors(step, statistics)
    if statistics.withheld().any():
        return np.full(statistics.feature_shape, np.nan)
    counted = np.where(statistics.maximum() > 0, 0.0, 1.0)
    if not counted.any():
        raise DataError(
            "every gene dominates some cell, so that none is left to take totals of",
            where=f"{step.name}.exclude_highly_expressed",
            found=f"all {counted.size} genes above max_fraction somewhere",
            expected="a gene that is never above it",
            remedy="raise max_fraction, or take the totals of all genes",
        )
    return counted


def counted_totals(fitted: FittedStep, rows: Floats, room: Floats, missing: NDArray[np.bool_]) -> Floats:
    """The total of each row over the genes that count, all of them where `fitted` has no such parameter.

    Takes and raises what `totals_of_counts` does; NaN where it is not known which genes count.
    """
    if COUNTED not in fitted.parameters:
        return totals_of_counts(fitted.step, rows, room, missing)
    counted = fitted.parameters[COUNTED].ravel()
    totals = totals_of_counts(fitted.step, rows, room, missing | (counted == 0))
    return totals + np.nan if np.isnan(counted).any() else totals
