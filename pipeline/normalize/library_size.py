"""Scaling each cell's counts to one total: `library_size`.

Not here: the logarithm that usually follows it (`elementwise.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self, TypeAlias

import numpy as np
from pydantic import Field

from pipeline.errors import ConfigError, DataError
from pipeline.normalize.names import Number
from pipeline.normalize.step import Floats, Input, Parameters, stored_parameters
from pipeline.normalize.vectors import FittedVectorStep, VectorStep, totals_of_counts

if TYPE_CHECKING:
    from pipeline.statistics.describe import Statistics

Total: TypeAlias = Annotated[Number, Field(gt=0)]


class LibrarySize(VectorStep):
    """Divide each cell's counts by their total, so that every cell has the same total.

    ``y = x / (total / target)``, the total that of all features of the cell: `dims` together, by default all dims but the
    sample dim. The formula is that of scanpy's ``pp.normalize_total`` with a ``target_sum``; 10,000 is its usual value, 1e6
    gives counts per million.

    - A cell whose total is 0 stays as it is. Nothing is fitted, so constant features are nothing special.
    - NaN stays NaN and is left out of the total.
    - Negative and infinite values are no counts: DataError says how many there are.

    Inverse: none, the totals are not kept.

    Parameters
    ----------
    target : float
        The total that every cell gets: finite, above 0. The median of the totals, scanpy's default, is refused with
        ConfigError: nothing gathers the totals.
    dims : tuple of str, optional
        The dims that a cell's counts run over; all but the sample dim where None.

    Examples
    --------
    >>> fitted = LibrarySize(target=10, dims=("gene",)).fit(None)
    >>> fitted(np.array([[1.0, 3.0], [0.0, 0.0]]), ("cell", "gene")).tolist()
    [[2.5, 7.5], [0.0, 0.0]]
    """

    name: ClassVar[str] = "library_size"
    summary: ClassVar[str] = "Divide each cell's counts by their total, so that every cell has the same total."
    formula: ClassVar[str] = "y = x / (sum(x) / target)"
    reference: ClassVar[str] = "scanpy, pp.normalize_total"
    inverse_note: ClassVar[str] = "none, the totals are not kept"

    target: Total | Literal["median"] = Field(default=10_000.0, description="a finite number above 0")

    def bind(self, given: Input) -> Self:
        if self.target == "median":
            raise ConfigError(
                "the median of the cells' totals is not gathered",
                where=f"{self.name}.target",
                found=self.target,
                expected="a finite number above 0",
                remedy="write the total itself, such as 10000 (scanpy's target_sum)",
            )
        return super().bind(given)

    def fit(self, statistics: Statistics | None = None) -> FittedLibrarySize:
        return FittedLibrarySize(self, (), {})

    def restore(self, parameters: Parameters) -> FittedLibrarySize:
        return FittedLibrarySize(self, (), stored_parameters(self, (), parameters, ()))


@dataclass(frozen=True, eq=False)
class FittedLibrarySize(FittedVectorStep):
    """`LibrarySize`, which has no parameters."""

    step: LibrarySize

    def fill(self, rows: Floats, result: Floats) -> None:
        if self.step.target == "median":
            raise TypeError("library_size is not bound")
        missing = np.isnan(rows)
        totals = totals_of_counts(self.step, rows, result, missing)
        divisors = np.where(totals == 0, 1.0, totals / self.step.target)
        small = int((divisors < np.finfo(np.float64).tiny).sum())
        if small:
            raise DataError(
                "totals too small to divide by",
                where=self.step.name,
                found=f"{small} of {len(rows)} cells with a total of almost 0",
                expected=f"totals of 0, or of at least {self.step.target * np.finfo(np.float64).tiny:.1e}",
                remedy="give it counts, or put an affine step before it that multiplies the data",
            )
        np.divide(rows, divisors[:, np.newaxis], out=result)
        np.copyto(result, np.nan, where=missing)

    @property
    def why_not_invertible(self) -> str:
        return "the totals are not kept"
