"""Scaling each vector to length 1.

Not here: anything that looks at more than one vector at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from pipeline.errors import DataError
from pipeline.normalize.step import Floats, ParameterlessStep
from pipeline.normalize.vectors import FittedVectorStep, VectorStep

# Each takes a C-contiguous (vectors, elements) array, and another that it may overwrite. It reduces the contiguous last
# axis, which NumPy does row by row in an order (pairwise summation) that depends on the number of elements alone.
TOTALS: Mapping[str, Callable[[Floats, Floats], Floats]] = {
    "l1": lambda rows, room: np.add.reduce(np.abs(rows, out=room), axis=1),
    "l2": lambda rows, room: np.add.reduce(np.square(rows, out=room), axis=1),
    "max": lambda rows, room: np.maximum.reduce(np.abs(rows, out=room), axis=1, initial=0.0),
}
SAFE_TOTAL = (2.0**-900, 2.0**900)  # within, no square, sum or quotient has overflowed or lost bits to underflow
SAFE_MAGNITUDE = (2.0**-480, 2.0**480)
RESCALE = 2.0**600


class UnitNorm(ParameterlessStep, VectorStep):
    """Divide each vector by its norm, so that every vector has length 1.

    ``y = x / norm(x)`` with l1 ``sum(|x|)``, l2 ``sqrt(sum(x**2))`` or max ``max(|x|)``, over `dims` together: by default all
    dims but the sample dim, so that each sample is one vector. The formula is that of scikit-learn's ``normalize``.

    - A vector of zeros stays zeros. Nothing is fitted, so constant features are nothing special.
    - NaN stays NaN and is left out of the norm; a vector of NaN stays one.
    - A vector with an infinity has no direction: DataError says how many there are.
    - Magnitudes whose squares or sums leave float64 are scaled by a power of two first, so no norm overflows or vanishes.

    Inverse: none, the lengths are not kept.

    Parameters
    ----------
    norm : {"l2", "l1", "max"}
    dims : tuple of str, optional
        The dims that a vector runs over; all but the sample dim where None.

    Examples
    --------
    >>> fitted = UnitNorm(dims=("gene",)).fit(None)
    >>> fitted(np.array([[3.0, 4.0], [0.0, 0.0]]), ("cell", "gene")).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """

    name: ClassVar[str] = "unit_norm"
    summary: ClassVar[str] = "Divide each vector by its norm, so that every vector has length 1."
    formula: ClassVar[str] = "y = x / norm(x), norm = sum(|x|), sqrt(sum(x**2)) or max(|x|)"
    reference: ClassVar[str] = "scikit-learn, Normalizer"
    inverse_note: ClassVar[str] = "none, the lengths are not kept"

    norm: Literal["l1", "l2", "max"] = Field(default="l2", description="l1, l2 or max")

    @property
    def function(self) -> type[FittedUnitNorm]:
        return FittedUnitNorm


@dataclass(frozen=True, eq=False)
class FittedUnitNorm(FittedVectorStep):
    """`UnitNorm`, which has no parameters."""

    step: UnitNorm

    def fill(self, rows: Floats, result: Floats) -> None:
        _unit(rows, self.step.norm, result)

    @property
    def why_not_invertible(self) -> str:
        return "the lengths of the vectors are not kept"


def _unit(rows: Floats, norm: str, result: Floats) -> None:
    """Fill `result` with the vectors of `rows` divided by their norms."""
    with np.errstate(over="ignore", under="ignore"):
        totals = TOTALS[norm](rows, result)
    low, high = SAFE_TOTAL
    usual = (totals > low) & (totals < high)
    if usual.all():
        np.divide(rows, _norms(totals, norm)[:, np.newaxis], out=result)
        return
    result[usual] = rows[usual] / _norms(totals[usual], norm)[:, np.newaxis]
    result[~usual] = _unit_of_unusual(rows[~usual], norm)


def _norms(totals: Floats, norm: str) -> Floats:
    return np.sqrt(totals) if norm == "l2" else totals


def _unit_of_unusual(rows: Floats, norm: str) -> Floats:
    """The same for vectors of zeros, with NaN, or with magnitudes that need scaling."""
    known = np.where(np.isnan(rows), 0.0, rows)
    largest = np.abs(known).max(axis=1)
    infinite = int(np.isinf(largest).sum())
    if infinite:
        raise DataError(
            "infinite values have no unit vector",
            where=UnitNorm.name,
            found=f"{infinite} vectors with an infinity",
            expected="finite values or NaN",
            remedy="put a clip step before it",
        )
    low, high = SAFE_MAGNITUDE
    factor = np.where(largest > high, 1 / RESCALE, np.where(largest < low, RESCALE, 1.0))[:, np.newaxis]
    norms = _norms(TOTALS[norm](known * factor, known), norm)
    return (rows * factor) / np.where(norms == 0, 1.0, norms)[:, np.newaxis]
