"""Scaling each cell's counts to one total: `library_size`.

Not here: what it is fitted to (`cell_totals.py`), and the logarithm that usually follows it (`elementwise.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeAlias

import numpy as np
from pydantic import Field

from pipeline.errors import DataError
from pipeline.normalize.cell_totals import COUNTED, CellTotals, Dominance, counted_features, counted_totals
from pipeline.normalize.features import check_positive
from pipeline.normalize.names import Number
from pipeline.normalize.step import FittedStep, Floats, Parameters, frozen_parameters, stored_parameters
from pipeline.normalize.vectors import FittedVectorStep, VectorStep, plain_totals

if TYPE_CHECKING:
    from pipeline.statistics.describe import Statistics

Total: TypeAlias = Annotated[Number, Field(gt=0)]


class LibrarySize(VectorStep):
    """Divide each cell's counts by their total, so that every cell has the same total.

    ``y = x / (total / target)``, the total that of all features of the cell: `dims` together, by default all dims but the
    sample dim. The formula is that of scanpy's ``pp.normalize_total`` with a ``target_sum``; 10,000 is its usual value, 1e6
    gives counts per million.

    Scanpy's default, the median of the totals that are above 0, takes one read. It is exact for up to 65536 different
    totals, which whole counts seldom exceed, and within 0.4 % otherwise. With `exclude_highly_expressed`, genes are left
    out of the totals (and divided by them all the same) that in any fitted cell exceed `max_fraction` of it: one more read.

    - A cell whose total is 0 stays as it is. Constant features are nothing special.
    - NaN stays NaN and is left out of the total.
    - Negative and infinite values are no counts: DataError says how many there are.

    Inverse: none, the totals are not kept.

    Parameters
    ----------
    target : float or "median"
        The total that every cell gets: finite, above 0; or the median of the totals of the fitted cells.
    exclude_highly_expressed : bool
    max_fraction : float
        Above 0 and below 1; of no effect without `exclude_highly_expressed`.
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
    requires: ClassVar[frozenset[str]] = frozenset({"moments", "distribution"})
    reference: ClassVar[str] = "scanpy, pp.normalize_total"
    inverse_note: ClassVar[str] = "none, the totals are not kept"

    target: Total | Literal["median"] = Field(
        default=10_000.0, description="a finite number above 0, or median: that of the cells' totals"
    )
    exclude_highly_expressed: bool = Field(
        default=False, description="whether totals leave out genes that are more than max_fraction of any cell's total"
    )
    max_fraction: Number = Field(default=0.05, gt=0, lt=1, description="a number above 0 and below 1")

    @property
    def fitted_per(self) -> tuple[str, ...] | None:
        if self.target == "median":
            return ()
        return self.dims or () if self.exclude_highly_expressed else None

    @property
    def observes(self) -> CellTotals | Dominance | None:
        excluding = self.max_fraction if self.exclude_highly_expressed else None
        if self.target == "median":
            return CellTotals(dims=self.dims, max_fraction=excluding)
        return None if excluding is None else Dominance(dims=self.dims, max_fraction=excluding)

    @property
    def needs(self) -> frozenset[str]:
        return self.requires if self.target == "median" else frozenset({"moments"})

    def fit(self, statistics: Statistics | None = None) -> FittedLibrarySize:
        if self.fitted_per is not None:
            raise TypeError("library_size is fitted to what it observes")
        return FittedLibrarySize(self, (), {})

    def fit_observed(self, statistics: Statistics, observer: FittedStep) -> FittedLibrarySize:
        if self.target != "median":
            counted = counted_features(self, statistics)
            return FittedLibrarySize(self, self._per, frozen_parameters(counted=counted))
        target = self._median(statistics)
        if not self.exclude_highly_expressed:
            return FittedLibrarySize(self, (), frozen_parameters(target=target))
        counted = observer.parameters[COUNTED]
        parameters = frozen_parameters(counted=counted, target=np.full_like(counted, target))
        return FittedLibrarySize(self, self._per, parameters)

    def restore(self, parameters: Parameters) -> FittedLibrarySize:
        names = ((COUNTED,) if self.exclude_highly_expressed else ()) + (("target",) if self.target == "median" else ())
        stored = stored_parameters(self, self._per, parameters, names)
        if "target" in stored:
            check_positive(self, stored, "target")
        return FittedLibrarySize(self, self._per, stored)

    @property
    def _per(self) -> tuple[str, ...]:
        return self.dims or () if self.exclude_highly_expressed else ()

    def _median(self, statistics: Statistics) -> Floats:
        """The median of the totals above 0, from the distribution of what `CellTotals` puts out; NaN where withheld."""
        statistics.check()
        distribution = statistics.distribution
        if distribution is None:
            raise TypeError("library_size needs the distribution of the totals")
        if statistics.withheld().any():
            return np.array(np.nan)
        totals = distribution.above(0.0)
        if not totals.values.size:
            raise DataError(
                "no counts to take the median of",
                where=self.name,
                found="nothing but 0",
                expected="counts: numbers from 0 on, not all 0",
                remedy="write the total itself, such as 10000",
            )
        return np.clip(totals.quantile(0.5), None, statistics.maximum())


@dataclass(frozen=True, eq=False)
class FittedLibrarySize(FittedVectorStep):
    """`LibrarySize` with the parameters target, where it is the median, and counted, where genes are left out: 1 or 0."""

    step: LibrarySize

    @property
    def target(self) -> float:
        """The total that cells get; NaN where it is withheld."""
        fixed = self.step.target
        return float(self.parameters["target"].flat[0]) if fixed == "median" else fixed

    def fill(self, rows: Floats, result: Floats) -> None:
        totals = None if COUNTED in self.parameters else plain_totals(rows)
        if totals is not None:
            np.divide(rows, self._divisors(totals), out=result)
            return
        missing = np.isnan(rows)
        np.divide(rows, self._divisors(counted_totals(self, rows, result, missing)), out=result)
        np.copyto(result, np.nan, where=missing)

    def _divisors(self, totals: Floats) -> Floats:
        """What the cells of these totals are divided by, as a column."""
        divisors = totals / self.target
        divisors[(totals == 0) & ~np.isnan(divisors)] = 1.0
        small = int((divisors < np.finfo(np.float64).tiny).sum())
        if small:
            raise DataError(
                "totals too small to divide by",
                where=self.step.name,
                found=f"{small} of {len(totals)} cells with a total of almost 0",
                expected=f"totals of 0, or of at least {self.target * np.finfo(np.float64).tiny:.1e}",
                remedy="give it counts, or put an affine step before it that multiplies the data",
            )
        return divisors[:, np.newaxis]

    @property
    def why_not_invertible(self) -> str:
        return "the totals are not kept"
