"""A chain fitted at once is the chain fitted step by step: what is derived is what another read would have found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline import fit

DIMS = ("cell", "gene")
FIRST: dict[str, dict[str, Any]] = {
    "zscore": {"per": ["gene"]},
    "minmax": {"per": ["gene"]},
    "maxabs": {"per": ["gene"]},
    "robust": {"per": ["gene"]},
    "affine": {"scale": -0.3, "shift": 0.1},
}


def _with_ties(dtype: str) -> NDArray[Any]:
    """Half of each gene's values are one value, as in expression data."""
    generator = np.random.default_rng(12)
    values = np.round(generator.gamma(1.0, 3.0, size=(400, 12)), 1)
    return np.where(generator.random(values.shape) < 0.5, 0.1 * np.arange(12), values).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
@pytest.mark.parametrize(
    "second", [{"quantile": {"per": ["gene"]}}, {"robust": {"per": ["gene"]}}, {"maxabs": {"per": ["gene"]}}]
)
@pytest.mark.parametrize("first", FIRST)
def test_a_chain_fitted_at_once_is_the_chain_fitted_step_by_step(first: str, second: dict[str, Any], dtype: str) -> None:
    values = _with_ties(dtype)
    at_once = fit(values, dims=DIMS, normalize=[{first: FIRST[first]}, second], dtype="float64").transform(values)
    between = fit(values, dims=DIMS, normalize=[{first: FIRST[first]}], dtype="float64").transform(values)
    by_step = fit(between, dims=DIMS, normalize=[second]).transform(between)
    np.testing.assert_allclose(at_once, by_step, rtol=1e-12, atol=1e-12)


def test_a_constant_feature_stays_exactly_zero_through_a_chain() -> None:
    for seed in range(20):
        values = np.random.default_rng(seed).random((3, 2, 2))
        values[:, :, 0] = 5.0
        chain = [{"minmax": {"per": ["c"]}}, {"robust": {"per": ["g"]}}, {"maxabs": {"per": ["c", "g"]}}]
        at_once = fit(values, dims=("s", "c", "g"), normalize=chain).transform(values)
        between = values
        for step in chain:
            between = fit(between, dims=("s", "c", "g"), normalize=[step]).transform(between)
        np.testing.assert_allclose(at_once, between, rtol=1e-9, atol=1e-9)


def test_whitening_after_a_step_of_more_dims_reads_again_and_survives_nan() -> None:
    values = np.random.default_rng(0).standard_normal((50, 4, 3))
    values[0, 0, 0] = np.nan
    chain = [{"zscore": {"per": ["y", "c"]}}, {"whiten": {"dims": ["c"]}}]
    manifest = fit(values, dims=("sample", "y", "c"), normalize=chain)
    assert np.isfinite(manifest.transform(values)[1:]).all()
