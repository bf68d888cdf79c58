"""Analytic Pearson residuals of counts: `pearson_residuals`.

Not here: scaling cells to one total (`library_size.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from pipeline.errors import DataError
from pipeline.normalize.features import check_positive
from pipeline.normalize.names import Number
from pipeline.normalize.step import Floats, Parameters, frozen_parameters, stored_parameters
from pipeline.normalize.vectors import FittedVectorStep, VectorStep, checked_vectors, totals_of_counts

if TYPE_CHECKING:
    from pipeline.statistics.describe import Statistics


class PearsonResiduals(VectorStep):
    """Say how many standard deviations each count lies from what its cell's and gene's totals let expect.

    ``y = clip((x - mu) / sqrt(mu + mu**2 / theta), -c, c)`` with ``mu = total of the cell * share of the gene``, the share
    being the gene's part of all counts that were fitted on. The formula is that of scanpy's
    ``experimental.pp.normalize_pearson_residuals`` (Lause, Berens and Kobak, 2021, doi:10.1186/s13059-021-02451-7). The
    share is exact but for one rounding; new cells are compared with the fitted shares by their own totals.

    - Where mu is 0 (a cell without counts, a gene without any in the fit) a count of 0 gives 0, any other c.
    - NaN stays NaN; it counts for no total, but its cell for the number of cells.
    - Negative and infinite values are no counts: DataError says how many there are. That they are whole numbers is not checked.
    - A gene with a constant count is nothing special.

    Inverse: none, the cells' totals are not kept.

    Parameters
    ----------
    theta : float
        The overdispersion of the negative binomial model: finite, above 0. A very large number gives Poisson's variance.
    clip : float, optional
        c, finite and above 0; the square root of the number of fitted cells where None. A very large number clips nothing.
    dims : tuple of str, optional
        The dims that a cell's counts run over; all but the sample dim where None.

    Examples
    --------
    >>> step = PearsonResiduals(dims=("gene",))
    >>> fitted = step.restore({"share": np.array([0.5, 0.5]), "limit": np.array([9.0, 9.0])})
    >>> fitted(np.array([[4.0, 4.0], [8.0, 0.0]]), ("cell", "gene")).round(4).tolist()
    [[0.0, 0.0], [1.9612, -1.9612]]
    """

    name: ClassVar[str] = "pearson_residuals"
    summary: ClassVar[str] = (
        "Say how many standard deviations each count lies from what its cell's and gene's totals let expect."
    )
    formula: ClassVar[str] = "y = clip((x - mu) / sqrt(mu + mu**2 / theta), -c, c), mu = total of the cell * share of the gene"
    reference: ClassVar[str] = (
        "scanpy, experimental.pp.normalize_pearson_residuals; Lause et al. 2021, doi:10.1186/s13059-021-02451-7"
    )
    inverse_note: ClassVar[str] = "none, the cells' totals are not kept"

    theta: Number = Field(default=100.0, gt=0, description="a finite number above 0")
    clip: Number | None = Field(
        default=None, gt=0, description="a finite number above 0; by default the square root of the number of fitted cells"
    )

    @property
    def fitted_per(self) -> tuple[str, ...]:
        return self.dims or ()

    def fit(self, statistics: Statistics | None) -> FittedPearsonResiduals:
        statistics = checked_vectors(self, statistics)
        cells = statistics.observations(finite=False)
        limit = math.sqrt(cells) if self.clip is None else self.clip
        share = self._share(statistics)
        parameters = frozen_parameters(share=share, limit=np.full_like(share, limit))
        return FittedPearsonResiduals(self, self.fitted_per, parameters)

    def restore(self, parameters: Parameters) -> FittedPearsonResiduals:
        stored = stored_parameters(self, self.fitted_per, parameters, ("share", "limit"))
        check_positive(self, stored, "limit")
        return FittedPearsonResiduals(self, self.fitted_per, stored)

    def _share(self, statistics: Statistics) -> Floats:
        """Each gene's part of all counts, correctly rounded; NaN everywhere where a gene's counts are withheld."""
        negative = int((statistics.minimum() < 0).sum())
        sums, _ = statistics.sums.to_integers(1)
        total = sum(sums)
        if negative or not total:
            raise DataError(
                "no counts to fit Pearson residuals on",
                where=self.name,
                found=f"{negative} features with negative values" if negative else "nothing but 0",
                expected="counts: numbers from 0 on, not all 0",
                remedy="give it the raw counts, before any log or centering",
            )
        if statistics.withheld().any():
            return np.full(statistics.feature_shape, np.nan)
        return np.array([one / total for one in sums]).reshape(statistics.feature_shape)


@dataclass(frozen=True, eq=False)
class FittedPearsonResiduals(FittedVectorStep):
    """`PearsonResiduals` with the parameters share, and limit, which is the same for every feature."""

    step: PearsonResiduals

    def fill(self, rows: Floats, result: Floats) -> None:
        missing = np.isnan(rows)
        totals = totals_of_counts(self.step, rows, result, missing)
        expected = totals[:, np.newaxis] * self.parameters["share"].ravel()
        np.subtract(rows, expected, out=result)
        unexpected = expected == 0
        np.add(expected, np.square(expected) / self.step.theta, out=expected)
        np.sqrt(expected, out=expected)
        np.copyto(expected, 1.0, where=unexpected)
        np.divide(result, expected, out=result)
        np.copyto(result, np.inf, where=unexpected & (rows > 0))
        limit = self.parameters["limit"].ravel()
        np.clip(result, -limit, limit, out=result)
        np.copyto(result, np.nan, where=missing)

    @property
    def why_not_invertible(self) -> str:
        return "the cells' totals are not kept"
