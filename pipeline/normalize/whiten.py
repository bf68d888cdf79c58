"""Whitening: vectors whose features are uncorrelated and of variance 1.

Not here: how the covariance is gathered (`pipeline.statistics`), and scaling features one by one (`standard.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from pipeline.errors import ConfigError, DataError, ManifestError
from pipeline.normalize.names import Count, Number
from pipeline.normalize.products import SLICES, SlicedMatrix, multiply
from pipeline.normalize.step import Floats, Input, Parameters, frozen_parameters, stored_parameters
from pipeline.normalize.vectors import FittedVectorStep, VectorStep, checked_vectors, refuse_infinite, replaced

if TYPE_CHECKING:
    from pipeline.statistics.covariance import CovarianceSums
    from pipeline.statistics.describe import Statistics

COMPONENT_DIM = "<component>"
LEAST_DEVIATION = 1e-140
NAMES = ("mean", "whitening", "unwhitening")
MATRIX_DIMS: Mapping[str, tuple[str, ...]] = MappingProxyType({"whitening": (COMPONENT_DIM,), "unwhitening": (COMPONENT_DIM,)})


class Whiten(VectorStep):
    """Center and rotate vectors so that their features become uncorrelated and of variance 1.

    ``y = (x - mean) @ W``, for vectors over `dims` together (an image patch: y, x and channel), by default all dims but the
    sample dim. With the eigenvectors U and eigenvalues L of the covariance, W is

    - pca: ``U / sqrt(L + epsilon)``. Component k takes the k-th place of the vector, the one of most variance first; of each
      eigenvector the element of largest magnitude is positive. As scikit-learn's ``PCA(whiten=True)``.
    - zca: ``U / sqrt(L + epsilon) @ U.T``: the whitened vector nearest to the original (Bell and Sejnowski, 1997).
    - zca-cor: ``V**-0.5 @ G / sqrt(T + epsilon) @ G.T``, V the variances, G and T eigenvectors and eigenvalues of the
      correlation: the one that correlates most with the original, whatever the units (Kessy, Lewin and Strimmer, 2018).

    It is the second half of the recipe of LeCun et al., "Efficient BackProp" (1998): cancel the mean, decorrelate, equalize.

    With `components` only the k components of most variance are kept, k columns of U. With pca they lie along a dim of their
    own, `component_dim`, without labels, in the place of `dims`: (patch, y, x, channel) becomes (patch, component), and the
    steps after it name that dim. The other methods keep the shape: what lies along other components becomes 0.

    - A direction without variance (an eigenvalue at most the number of features times 2e-16 of the largest, epsilon
      included), such as that of a constant feature, is divided by 1: it becomes 0.
    - A vector with a NaN becomes NaN throughout, and is left out of the fit.
    - A vector with an infinity is left out of the fit, and refused by the transformation with DataError.
    - Means may be far larger than standard deviations. Eigenvalues are known to about 2e-16 of the largest: where standard
      deviations of features differ by more than 1e4, take zca-cor, or scale the features first.
    - Raises DataError where there are not more than `ddof` complete vectors, and where a finite result overflows.
    - Raises DataError where standard deviations are so small that their squares underflow, for zca-cor any of them, else all.
    - The covariance is of floating point: its last bits, and with them the parameters', depend on how the data are read. The
      transformation does not: its bits depend on the vector and the parameters alone.

    Inverse: ``x = y @ inv(W) + mean``, off by about 2e-16 of the largest value times the ratio of the largest to the smallest
    of the numbers that components are divided by. With fewer components than features inv is the pseudo-inverse, and x what was
    kept of the vector, its projection onto these components, as scikit-learn's ``PCA.inverse_transform`` gives it.

    Parameters
    ----------
    method : {"zca", "pca", "zca-cor"}
    epsilon : float
        Added to every eigenvalue: 0 or above. Directions of little variance, mostly noise, are amplified less.
    components : int, optional
        How many components are kept: at most as many as a vector has elements, all by default.
    component_dim : str
        The name of the dim along which pca puts `components`; none that the array has.
    ddof : int
        The covariance is the sum of products divided by n - ddof.
    dims : tuple of str, optional
        The dims that a vector runs over; all but the sample dim where None.

    Examples
    --------
    >>> step = Whiten(dims=("x",))
    >>> matrix = np.array([[1.0, 0.0], [0.0, 4.0]])
    >>> fitted = step.restore({"mean": np.array([1.0, 0.0]), "whitening": matrix, "unwhitening": np.diag([1.0, 0.25])})
    >>> fitted(np.array([[2.0, 0.5]]), ("sample", "x")).tolist()
    [[1.0, 2.0]]
    """

    name: ClassVar[str] = "whiten"
    summary: ClassVar[str] = "Center and rotate vectors so that their features become uncorrelated and of variance 1."
    formula: ClassVar[str] = "y = (x - mean) @ W, W = U / sqrt(L + epsilon) (pca), or that @ U.T (zca)"
    reference: ClassVar[str] = "scikit-learn, PCA(whiten=True); Bell and Sejnowski 1997; Kessy et al. 2018, arXiv:1512.00809"
    inverse_note: ClassVar[str] = (
        "exact but for rounding, more of it the more the components' deviations differ; of fewer components the projection"
    )
    requires: ClassVar[frozenset[str]] = frozenset({"moments", "covariance"})

    method: Literal["zca", "pca", "zca-cor"] = Field(default="zca", description="zca, pca or zca-cor")
    epsilon: Number = Field(default=0.0, ge=0, description="a finite number from 0 on")
    components: Count | None = Field(
        default=None, ge=1, description="a whole number from 1 to that of the features; by default all, and no other dims"
    )
    component_dim: str = Field(
        default="component", min_length=1, description="the name of the dim of the components, with method pca and components"
    )
    ddof: Count = Field(default=1, ge=0, description="a whole number from 0 on")

    @property
    def becomes(self) -> dict[str, int] | None:
        """The dims, with their sizes, that take the place of `dims`; None where these stay."""
        return None if self.components is None or self.method != "pca" else {self.component_dim: self.components}

    def bind(self, given: Input) -> Self:
        """The same with `dims` settled.

        Raises
        ------
        ConfigError
            Where there are fewer features than components, or the array has a dim of the components' name.
        """
        bound = super().bind(given)
        if all(dim in given.sizes for dim in bound.fitted_per):
            bound._check_components(prod(given.sizes[dim] for dim in bound.fitted_per))
        taken = given.selected.union(given.dims)
        if bound.becomes is not None and self.component_dim in taken:
            raise ConfigError(
                "the array has a dim of the components' name",
                where=f"{self.name}.component_dim",
                found=self.component_dim,
                expected=f"none of {', '.join(sorted(taken))}",
                remedy="name the dim of the components otherwise",
            )
        return bound

    def output_sizes(self, sizes: Mapping[str, int]) -> dict[str, int]:
        return dict(sizes) if self.becomes is None else replaced(sizes, self.fitted_per, self.becomes)

    @property
    def fitted_per(self) -> tuple[str, ...]:
        return self.dims or ()

    def parameter_count(self, features: int, values: int) -> int:
        return features + 2 * features * self._columns(features)

    def derived_count(self, features: int) -> int:
        return SLICES * features * self._columns(features)

    def fit(self, statistics: Statistics | None) -> FittedWhiten:
        statistics = checked_vectors(self, statistics)
        shape = statistics.feature_shape
        self._check_components(prod(shape))
        if statistics.withheld().any():
            own = (self._columns(prod(shape)),)
            mean, whitening, unwhitening = (np.full((*shape, *each), np.nan) for each in ((), own, own))
        else:
            sums = self._sums(statistics)
            self._check_underflow(statistics)
            mean = sums.mean
            whitening, unwhitening = (each.reshape(*shape, -1) for each in self._matrices(sums.covariance(self.ddof)))
        return FittedWhiten(self, self.fitted_per, frozen_parameters(mean=mean, whitening=whitening, unwhitening=unwhitening))

    def restore(self, parameters: Parameters) -> FittedWhiten:
        stored = stored_parameters(self, self.fitted_per, parameters, NAMES, FittedWhiten.own_dims)
        features, columns = stored["mean"].size, stored["whitening"].shape[-1]
        if columns != self._columns(features):
            raise ManifestError(
                "stored parameters of a wrong shape",
                where=f"{self.name}.whitening",
                found=f"{columns} components",
                expected=self._columns(features),
            )
        return FittedWhiten(self, self.fitted_per, stored)

    def _columns(self, features: int) -> int:
        """How many elements the whitened vector of so many features has."""
        return features if self.becomes is None else self.becomes[self.component_dim]

    def _check_components(self, features: int) -> None:
        if self.components is not None and self.components > features:
            raise ConfigError(
                "more components than there are features",
                where=f"{self.name}.components",
                found=self.components,
                expected=f"at most {features}",
            )

    def _sums(self, statistics: Statistics) -> CovarianceSums:
        """The co-moments; DataError where they are not known or are of too few vectors."""
        sums = statistics.covariance
        if sums is None:
            raise DataError(
                "no covariance of these vectors",
                where=self.name,
                found="a covariance of longer vectors, some of which have NaN or infinities",
                remedy="put fillna or clip before it, or fit the steps that need longer vectors in a run of their own",
            )
        if sums.nobs <= self.ddof or not np.isfinite(sums.comoments).all():
            raise DataError(
                "no covariance to whiten with",
                where=self.name,
                found=f"{sums.nobs} vectors without NaN or infinities, {sums.left_out} with some",
                expected=f"more than {self.ddof} vectors, and products that float64 holds",
                remedy="put fillna before it, or an affine step that brings the data near 1",
            )
        return sums

    def _check_underflow(self, statistics: Statistics) -> None:
        """Raise DataError where deviations, which the moments know exactly, are lost in their squares."""
        deviations = statistics.std()
        lost = (deviations > 0) & (deviations < LEAST_DEVIATION)
        if lost.any() and (self.method == "zca-cor" or not (deviations >= LEAST_DEVIATION).any()):
            raise DataError(
                "values so near to each other that their covariance underflows float64",
                where=self.name,
                found=f"{lost.sum()} of {lost.size} features with standard deviations of {deviations[lost].max():.2g} or less",
                expected=f"standard deviations of {LEAST_DEVIATION:.0e} or more",
                remedy="put an affine step before it that brings the data near 1",
            )

    def _matrices(self, covariance: Floats) -> tuple[Floats, Floats]:
        """W and the transpose of its inverse, both of shape (features, components)."""
        deviations = np.ones(len(covariance))
        if self.method == "zca-cor":
            deviations = np.sqrt(np.where(np.diag(covariance) > 0, np.diag(covariance), 1.0))
        vectors, scales = _decompose(covariance / deviations / deviations[:, np.newaxis], self.epsilon)
        vectors, scales = vectors[:, : self.components], scales[: self.components]
        whitening, unwhitening = vectors / scales, vectors * scales
        if self.method != "pca":
            whitening, unwhitening = whitening @ vectors.T, unwhitening @ vectors.T
        return whitening / deviations[:, np.newaxis], unwhitening * deviations[:, np.newaxis]


@dataclass(frozen=True, eq=False)
class FittedWhiten(FittedVectorStep):
    """`Whiten` with the parameters mean, whitening (W) and unwhitening (the transpose of its inverse)."""

    own_dims: ClassVar[Mapping[str, tuple[str, ...]]] = MATRIX_DIMS

    step: Whiten

    @cached_property
    def _forward(self) -> SlicedMatrix:
        return SlicedMatrix.cut(self._matrix("whitening"))

    @cached_property
    def _backward(self) -> SlicedMatrix:
        return SlicedMatrix.cut(np.ascontiguousarray(self._matrix("unwhitening").T))

    def _matrix(self, name: str) -> Floats:
        stored = self.parameters[name]
        return stored.reshape(-1, stored.shape[-1])

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("step", "per", "parameters")}

    def input_sizes(self, sizes: Mapping[str, int]) -> dict[str, int]:
        becomes = self.step.becomes
        return dict(sizes) if becomes is None else replaced(sizes, tuple(becomes), self._own_sizes)

    @property
    def _own_sizes(self) -> dict[str, int]:
        return dict(zip(self.per, self.parameters["mean"].shape, strict=True))

    def __call__(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        return self.by_rows(self.fill, values, dims, out, becomes=self.step.becomes)

    def fill(self, rows: Floats, result: Floats) -> None:
        centered = np.subtract(rows, self.parameters["mean"].ravel(), out=result if result.shape == rows.shape else None)
        self._multiply(centered, self._forward, result)

    def inverse(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        becomes = self.step.becomes
        if becomes is None:
            return self.by_rows(self._unfill, values, dims, out)
        return self.by_rows(self._unfill, values, dims, out, tuple(becomes), self._own_sizes)

    def _unfill(self, rows: Floats, result: Floats) -> None:
        self._multiply(rows, self._backward, result)
        np.add(result, self.parameters["mean"].ravel(), out=result)

    def _multiply(self, rows: Floats, matrix: SlicedMatrix, result: Floats) -> None:
        """Write `rows @ matrix` to `result`, which may be `rows`; NaN where a row has a NaN."""
        if np.isnan(self.parameters["mean"]).any():
            result.fill(np.nan)
            return
        refuse_infinite(self.step, rows)
        missing = np.asarray(np.isnan(rows).any(axis=1))
        product = multiply(np.where(missing[:, np.newaxis], 0.0, rows), matrix)
        if not np.isfinite(product).all():
            raise DataError(
                "finite values overflow float64",
                where=self.step.name,
                expected="results of magnitude below 1.8e308",
                remedy="put a clip step before it",
            )
        np.copyto(result, product)
        np.copyto(result, np.nan, where=missing[:, np.newaxis])


def _decompose(matrix: Floats, epsilon: float) -> tuple[Floats, Floats]:
    """The eigenvectors of a covariance as columns, of largest eigenvalue first, and the divisor of each."""
    values, vectors = np.linalg.eigh(matrix)
    values, vectors = values[::-1] + epsilon, vectors[:, ::-1]
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(len(matrix))]
    vectors = np.ascontiguousarray(vectors * np.where(largest < 0, -1.0, 1.0))
    negligible = values <= max(values[0], 0.0) * len(matrix) * np.finfo(np.float64).eps
    return vectors, np.sqrt(np.where(negligible, 1.0, values))
