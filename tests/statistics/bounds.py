"""Within what two covariances of the same samples agree, as the docstring of `CovarianceSums` states it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.statistics.covariance import CovarianceSums

EPSILON = 2.0**-52


def covariance_bound(mean: NDArray[np.float64], std: NDArray[np.float64]) -> NDArray[np.float64]:
    mean = np.abs(mean)
    mixed = np.outer(mean, std)
    return (
        256 * EPSILON * np.outer(std, std)
        + 16 * EPSILON * (mixed + mixed.T)
        + 256 * EPSILON**2 * np.outer(mean, mean)
        + np.finfo(np.float64).tiny
    )


def assert_covariances_agree(one: CovarianceSums, other: CovarianceSums) -> None:
    assert one.counts.tolist() == other.counts.tolist()
    assert one.feature_shape == other.feature_shape
    covariance = other.covariance(ddof=0)
    mean, std = other.mean.ravel(), np.sqrt(np.diag(covariance))
    if other.nobs:
        assert (np.abs(one.covariance(ddof=0) - covariance) <= covariance_bound(mean, std)).all()
        assert (np.abs(one.mean.ravel() - mean) <= 16 * EPSILON * (np.abs(mean) + std)).all()
