"""The summary of integers of 16 bits or fewer and of bool: how often each value occurs, exactly.

Not here: histograms of floats, and what follows from the counts' sums (`describe.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd, prod
from operator import mul
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.block import Block
from pipeline.errors import DataError, ManifestError
from pipeline.statistics.arrays import take
from pipeline.statistics.describe import Counts, Statistics, extrema_dtype, extrema_identities
from pipeline.statistics.distribution import Distribution, from_entries
from pipeline.statistics.exact import POWERS, PowerSums

DTYPES = tuple(np.dtype(name) for name in ("bool", "uint8", "int8", "uint16", "int16"))
SIGNIFICAND_BITS = 53
PIECE_SIZE = 2**24
TABLE_BYTES = 2**24
TURNS = 8
LONG_ROW = 64


@dataclass(frozen=True, eq=False)
class Histogram:
    """The count of every value that a small dtype has; see `Summary` for the laws it obeys.

    From it follow, without another read and exactly, the statistics of any elementwise function of the values.

    Parameters
    ----------
    counts : ndarray of int64
        Shape feature shape + (bins,), the values ascending.
    dtype : numpy.dtype
        bool, uint8, int8, uint16 or int16.

    Examples
    --------
    >>> values = np.array([3, 3, 255], np.uint8)
    >>> histogram = Histogram.empty((), values.dtype).update(values, ())
    >>> float(histogram.statistics(table=histogram.values() / 255).mean().round(6))
    0.341176
    """

    name: ClassVar[str] = "histogram"
    bitwise: ClassVar[bool] = True
    whole_features: ClassVar[bool] = False

    counts: Counts
    dtype: np.dtype[Any]

    @property
    def feature_shape(self) -> tuple[int, ...]:
        return self.counts.shape[:-1]

    @classmethod
    def empty(cls, feature_shape: tuple[int, ...], dtype: np.dtype[Any], among: int | None = None) -> Histogram:
        """The summary of no values of `dtype`; raises DataError where that has no exact histogram."""
        bins = bin_count(dtype)
        if bins is None:
            raise DataError("no exact histogram of this dtype", found=dtype, expected=", ".join(map(str, DTYPES)))
        return cls(np.zeros((*feature_shape, bins), np.int64), dtype.newbyteorder("="))

    def values(self) -> NDArray[Any]:
        """The value of each bin, ascending: int64 or uint64 of shape (bins,)."""
        first = np.iinfo(self.dtype).min if self.dtype.kind == "i" else 0
        return np.arange(first, first + self.counts.shape[-1]).astype(extrema_dtype(self.dtype))

    def update(self, values: NDArray[Any], feature_axes: tuple[int, ...]) -> Histogram:
        """This summary merged with that of `values`, whose `feature_axes` (ascending) are kept and others reduced."""
        from pipeline.statistics.tiles import collapse, pieces

        if values.dtype.newbyteorder("=") != self.dtype:
            raise DataError("values of another dtype than the histogram's", found=values.dtype, expected=self.dtype)
        view = collapse(values, feature_axes)
        counts = np.zeros((view.shape[1], self.counts.shape[-1]), np.int64)
        for features, piece in pieces(view, self.dtype, PIECE_SIZE) if values.size else ():
            _count(piece.view(f"u{self.dtype.itemsize}"), counts[features])
        if self.dtype.kind == "i":
            counts = np.roll(counts, counts.shape[1] // 2, axis=1)
        shape = tuple(values.shape[axis] for axis in feature_axes)
        return self.merge(Histogram(counts.reshape(*shape, counts.shape[1]), self.dtype))

    def merge(self, other: Histogram) -> Histogram:
        """The summary of the values of both; raises DataError where they are of different features or dtypes."""
        mine, theirs = (self.feature_shape, self.dtype), (other.feature_shape, other.dtype)
        if mine != theirs:
            raise DataError("summaries of different features or dtypes", found=theirs, expected=mine)
        return Histogram(self.counts + other.counts, self.dtype)

    def sum_features(self, axes: tuple[int, ...]) -> Histogram:
        """The summary that would have been kept without the feature axes `axes`."""
        return Histogram(self.counts.sum(axis=axes), self.dtype)

    def take_features(self, axis: int, positions: NDArray[np.intp]) -> Histogram:
        """The histogram of the features at `positions` along one feature axis."""
        return Histogram(self.counts.take(positions, axis=axis), self.dtype)

    @classmethod
    def join(cls, parts: Sequence[tuple[Block, Histogram]], feature_shape: tuple[int, ...]) -> Histogram:
        """One summary from those of disjoint boxes of features that tile `feature_shape`; at least one part."""
        first = parts[0][1]
        counts = np.zeros((*feature_shape, first.counts.shape[-1]), np.int64)
        for box, part in parts:
            counts[box.slices] = part.counts
        return cls(counts, first.dtype)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The whole state: `counts`, and `zero`, an array of no values that has the dtype."""
        return {"counts": self.counts, "zero": np.zeros(1, self.dtype)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Histogram:
        """The summary that gave `arrays`; raises ManifestError where they do not fit together."""
        counts, dtype = take(arrays, "counts", np.int64), take(arrays, "zero", DTYPES, (1,)).dtype
        if counts.shape[-1:] != (bin_count(dtype),):
            expected = f"{bin_count(dtype)} bins"
            raise ManifestError("array of the wrong shape", where="counts", found=counts.shape, expected=expected)
        return cls(counts, dtype)

    def statistics(self, nan_policy: str = "skip", table: NDArray[np.float64] | None = None) -> Statistics:
        """The statistics of the values, or of what an elementwise function makes of them.

        Parameters
        ----------
        nan_policy : {'skip', 'error', 'propagate'}
            As `Statistics` has it.
        table : ndarray of float64, optional
            The function's value for each bin, of shape (bins,) or feature shape + (bins,); its NaN and infinities
            count as such. Without it the values themselves, whose statistics equal those of `Moments` bit for bit.

        Returns
        -------
        Statistics
        """
        shape = self.feature_shape
        values = self.values() if table is None else np.asarray(table, np.float64)
        finite = np.isfinite(values)

        def count(which: NDArray[np.bool_]) -> Counts:
            return np.asarray(np.where(which, self.counts, 0).sum(axis=-1, dtype=np.int64))

        occurs = (self.counts > 0) & finite
        least, greatest = extrema_identities(values.dtype)
        return Statistics(
            nobs=count(finite),
            nan=count(np.isnan(values)),
            posinf=count(values == np.inf),
            neginf=count(values == -np.inf),
            zeros=count(values == 0),
            min=np.asarray(np.where(occurs, values, least).min(axis=-1) + values.dtype.type(0)),
            max=np.asarray(np.where(occurs, values, greatest).max(axis=-1) + values.dtype.type(0)),
            sums=_power_sums(self.counts.reshape(prod(shape), len(self.values())), np.where(finite, values, 0), shape),
            nan_policy=nan_policy,
        )

    def distribution(self, table: NDArray[np.float64] | None = None) -> Distribution:
        """The exact distribution of the values, or of the finite ones among those in `table`, as `statistics` has it."""
        counts = self.counts.reshape(prod(self.feature_shape), self.counts.shape[-1])
        values = np.broadcast_to(self.values() if table is None else np.asarray(table), self.counts.shape).reshape(counts.shape)
        features, bins = np.nonzero((counts > 0) & np.isfinite(values))
        occurring = values[features, bins].astype(np.float64)
        return from_entries(self.feature_shape, features, occurring, counts[features, bins])


def bin_count(dtype: np.dtype[Any]) -> int | None:
    """How many values `dtype` has, 2, 256 or 65536; None where it is not bool or an integer of 16 bits or fewer."""
    if dtype.newbyteorder("=") not in DTYPES:
        return None
    return 2 if dtype.kind == "b" else 2 ** (8 * dtype.itemsize)


def _count(block: NDArray[Any], counts: Counts) -> None:
    """Add the unsigned integers of a C-contiguous block (outer, feature, inner) to `counts` (feature, bin)."""
    from pipeline.statistics.kernel_counts import SPARE_BINS, count_columns, count_features
    from pipeline.statistics.tiles import goes_by_features

    block.flags.writeable = False  # so that the compiler meets one type only, whoever the block belongs to
    outer, features, inner = block.shape
    bins = counts.shape[1]
    many = outer * inner >= TURNS * bins
    if goes_by_features(block.shape) or outer * inner < 2 * bins:
        count_features(block, np.zeros((TURNS if many else 0, bins + SPARE_BINS), np.uint32), counts)
        return
    fold = TURNS // gcd(TURNS, features * inner) if many and features * inner < LONG_ROW else 1
    together = max(1, TABLE_BYTES // (4 * bins * inner)) if fold == 1 else features
    for part, times in ((block[: outer // fold * fold], fold), (block[outer // fold * fold :], 1)):
        rows = part.reshape(-1, times * features * inner)
        for first in range(0, features, together):
            some = min(together, features - first)
            tables = np.zeros((times * some * inner, bins + SPARE_BINS), np.uint32)
            count_columns(rows, first * inner, tables)
            counts[first : first + some] += tables[:, :bins].reshape(times, some, inner, bins).sum(axis=(0, 2), dtype=np.int64)


def _power_sums(counts: Counts, values: NDArray[Any], feature_shape: tuple[int, ...]) -> PowerSums:
    """Σ count·valueᵏ over the bins, in Python's integers; `values` of shape (bins,) or feature shape + (bins,).

    One feature after another, and only the values that occur, since Python's integers take many times their array's memory.
    """
    rows = values.reshape(-1, values.shape[-1])
    exponent = _lowest_exponent(values)
    sums: list[list[int]] = [[] for _ in POWERS]
    for feature, count in enumerate(counts):
        occurs = np.flatnonzero(count)
        integers = _integers(rows[feature if len(rows) > 1 else 0, occurs], exponent)
        terms = count[occurs].tolist()
        for power in POWERS:
            terms = list(map(mul, terms, integers))
            sums[power - 1].append(sum(terms))
    return PowerSums.from_integers(sums, [power * exponent for power in POWERS], feature_shape)


def _lowest_exponent(values: NDArray[Any]) -> int:
    """An exponent for which all of `values`, finite, are integers times two to its power."""
    if values.dtype.kind != "f":
        return 0
    fractions, exponents = np.frexp(values)
    return int(exponents.min(where=fractions != 0, initial=SIGNIFICAND_BITS)) - SIGNIFICAND_BITS


def _integers(values: NDArray[Any], exponent: int) -> list[int]:
    """`values`, finite, as integers times two to the power `exponent`, exactly."""
    if values.dtype.kind != "f":
        integers: list[int] = values.tolist()
        return integers
    fractions, exponents = np.frexp(values)
    significands = np.ldexp(fractions, SIGNIFICAND_BITS).astype(np.int64).tolist()
    shifts = np.where(fractions != 0, exponents.astype(np.int64) - SIGNIFICAND_BITS - exponent, 0).tolist()
    return [significand << shift for significand, shift in zip(significands, shifts, strict=True)]
