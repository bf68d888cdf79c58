"""The summary from which whitening follows: means and co-moments of whole vectors of features, in float64.

Not here: what is made of a covariance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.block import Block, tile
from pipeline.errors import DataError
from pipeline.statistics.arrays import take
from pipeline.statistics.tiles import collapse

Floats: TypeAlias = NDArray[np.float64]

PIECE_SIZE = 2**20
ROWS = (2**11, 2**13)
ITEM_BYTES = 8


@dataclass(frozen=True, eq=False)
class CovarianceSums:
    """Σ(x − x̄)(x − x̄)ᵀ over samples, which are vectors of all features; see `Summary` for what it obeys and how nearly.

    Samples come in pieces; each is centred on its own mean before its products are summed, and pieces are put together
    by the pairwise formula of Chan, Golub and LeVeque (1983), `C = Cₐ + C_b + δδᵀ·nₐn_b/n` with `δ = x̄_b − x̄ₐ`.
    Nothing large cancels, however far the mean is from zero, and a constant feature has co-moments of exactly 0. A sample
    with any value that is not finite is left out and counted.

    The sums are those of floating point, so their last bits depend on how the samples were partitioned and in which order
    they were merged. Two covariances of the same samples differ by no more than
    `256·ε·σᵢσⱼ + 16·ε·(|x̄ᵢ|σⱼ + |x̄ⱼ|σᵢ) + 256·ε²·|x̄ᵢx̄ⱼ|` with ε = 2⁻⁵²: 1e-6 of σᵢσⱼ where means are 1e8 times the
    standard deviations.

    Parameters
    ----------
    counts : ndarray of int64
        Shape (2,): how many samples are complete, and how many were left out.
    mean : ndarray of float64
        Of the feature shape; 0 where there are no samples.
    comoments : ndarray of float64
        Shape (features, features), features in C order.

    Examples
    --------
    >>> values = 1e8 + np.array([[0.0, 0.0], [2.0, 1.0], [4.0, 2.0], [np.nan, 9.0]])
    >>> sums = CovarianceSums.empty((2,), values.dtype).update(values, (1,))
    >>> sums.covariance(ddof=0).round(3).tolist(), sums.nobs, sums.left_out
    ([[2.667, 1.333], [1.333, 0.667]], 3, 1)
    """

    name: ClassVar[str] = "covariance"
    bitwise: ClassVar[bool] = False
    whole_features: ClassVar[bool] = True

    counts: NDArray[np.int64]
    mean: Floats
    comoments: Floats

    @property
    def feature_shape(self) -> tuple[int, ...]:
        return self.mean.shape

    @property
    def nobs(self) -> int:
        """How many samples the sums are of."""
        return int(self.counts[0])

    @property
    def left_out(self) -> int:
        """How many samples had a value that is not finite."""
        return int(self.counts[1])

    def covariance(self, ddof: int = 1) -> Floats:
        """Σ(x − x̄)(x − x̄)ᵀ / (n − ddof), of shape (features, features).

        All NaN where n ≤ ddof; NaN or infinite where a product overflows float64.
        """
        if self.nobs <= ddof:
            return np.full_like(self.comoments, np.nan)
        return self.comoments / (self.nobs - ddof)

    @classmethod
    def empty(cls, feature_shape: tuple[int, ...], dtype: np.dtype[Any], among: int | None = None) -> CovarianceSums:
        """The summary of no samples of `dtype`; raises DataError where that is not real or has more than 64 bits."""
        if dtype.kind not in "biuf" or dtype.itemsize > 8:
            raise DataError("no covariance of this dtype", found=dtype, expected="a real dtype of at most 64 bits")
        features = prod(feature_shape)
        return cls(np.zeros(2, np.int64), np.zeros(feature_shape), np.zeros((features, features)))

    def update(self, values: NDArray[Any], feature_axes: tuple[int, ...]) -> CovarianceSums:
        """This summary merged with that of `values`, whose `feature_axes` (ascending) are the features of a sample."""
        shape = tuple(values.shape[axis] for axis in feature_axes)
        sums = self
        for samples in _pieces(collapse(values, feature_axes)):
            sums = sums.merge(_sums_of(samples, shape))
        return sums

    def merge(self, other: CovarianceSums) -> CovarianceSums:
        """The summary of the samples of both; raises DataError where they are of different features."""
        if self.feature_shape != other.feature_shape:
            raise DataError("summaries of different features", found=other.feature_shape, expected=self.feature_shape)
        counts = self.counts + other.counts
        if not self.nobs or not other.nobs:
            some = self if self.nobs else other
            return CovarianceSums(counts, some.mean, some.comoments)
        with np.errstate(over="ignore", invalid="ignore"):
            difference = other.mean - self.mean
            mean = self.mean + difference * (other.nobs / counts[0])
            comoments = np.outer(difference, difference * (self.nobs / counts[0] * other.nobs))
            comoments += self.comoments
            comoments += other.comoments
        return CovarianceSums(counts, np.asarray(mean), comoments)

    def affine(self, center: ArrayLike, scale: ArrayLike, offset: ArrayLike) -> CovarianceSums:
        """The summary of `(x − center)·scale + offset`, with parameters that are broadcastable to the feature shape."""
        c, s, o = (np.asarray(parameter, np.float64) for parameter in (center, scale, offset))
        factors = np.broadcast_to(s, self.feature_shape).ravel()
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.asarray((self.mean - c) * s + o)
            return CovarianceSums(self.counts, mean, self.comoments * factors[:, None] * factors)

    def sum_features(self, axes: tuple[int, ...]) -> CovarianceSums:
        """The summary of the vectors that there are in each sample at the positions along the feature axes `axes`.

        Exactly those only where no sample was left out: each sample that was counts as if all its vectors were.
        """
        kept = [axis for axis in range(self.mean.ndim) if axis not in axes]
        left = tuple(self.mean.shape[axis] for axis in kept)
        many = prod(self.mean.shape[axis] for axis in axes)
        if not axes or not many:
            return self if many else CovarianceSums.empty(left, self.mean.dtype)
        order = np.arange(self.mean.size).reshape(self.mean.shape).transpose(*axes, *kept).reshape(many, prod(left))
        parts = (
            CovarianceSums(self.counts, self.mean.ravel()[at].reshape(left), self.comoments[np.ix_(at, at)]) for at in order
        )
        total = next(parts)
        for part in parts:
            total = total.merge(part)
        return total

    @classmethod
    def join(cls, parts: Sequence[tuple[Block, CovarianceSums]], feature_shape: tuple[int, ...]) -> CovarianceSums:
        """The only part, which must be of all features; raises DataError where it is not."""
        if len(parts) != 1 or parts[0][1].feature_shape != feature_shape:
            found = ", ".join(str(part.feature_shape) for _, part in parts)
            raise DataError("covariances of parts of the features", found=found, expected=f"one of {feature_shape}")
        return parts[0][1]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The whole state: `counts`, `mean` and `comoments`."""
        return {"counts": self.counts, "mean": self.mean, "comoments": self.comoments}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> CovarianceSums:
        """The summary that gave `arrays`; raises ManifestError where they do not fit together."""
        mean = take(arrays, "mean", np.float64)
        comoments = take(arrays, "comoments", np.float64, (mean.size, mean.size))
        return cls(take(arrays, "counts", np.int64, (2,)), mean, comoments)


def covariance_bytes(features: int) -> int:
    """The memory of one summary of so many features; merging two of them takes three times as much."""
    return features * (features + 1) * ITEM_BYTES


def _pieces(view: NDArray[Any]) -> Iterator[Floats]:
    """The samples of a block (outer, feature, inner) as float64 rows, not too many at once."""
    outer, features, inner = view.shape
    if 0 in view.shape:
        return
    least, most = ROWS
    rows = min(max(PIECE_SIZE // features, least), most)
    along = min(inner, rows)
    for box in tile(view.shape, (min(outer, max(1, rows // along)), features, along)):
        yield view[box.slices].transpose(0, 2, 1).astype(np.float64, order="C").reshape(-1, features)


def _sums_of(samples: Floats, feature_shape: tuple[int, ...]) -> CovarianceSums:
    """The summary of rows, which it overwrites."""
    finite = np.isfinite(samples).all(axis=1)
    counts = np.array([np.count_nonzero(finite), len(samples) - np.count_nonzero(finite)], np.int64)
    if counts[1]:
        samples = samples[finite]
    if not len(samples):
        return CovarianceSums(counts, np.zeros(feature_shape), np.zeros((samples.shape[1], samples.shape[1])))
    with np.errstate(over="ignore", invalid="ignore"):
        first = samples[0].copy()  # a constant is its own mean, exactly, only if the mean is taken around one of the values
        mean = first + (samples - first).mean(axis=0)
        samples -= mean
        comoments = samples.T @ samples
        rest = samples.sum(axis=0)  # what rounding left of the mean
        comoments -= np.outer(rest, rest / len(samples))
        mean += rest / len(samples)
    return CovarianceSums(counts, mean.reshape(feature_shape), comoments)
