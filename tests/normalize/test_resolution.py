"""Where float64 does not tell values apart, a fit says so instead of giving numbers."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline import fit
from pipeline.errors import DataError


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
@pytest.mark.parametrize("step", ["zscore", "minmax"])
def test_integers_beyond_2_to_53_that_lie_close_together_are_refused(dtype: str, step: str) -> None:
    with pytest.raises(DataError, match="does not tell apart"):
        fit(np.array([2**62, 2**62 + 100, 2**62 + 300], dtype=dtype), normalize=[step])


def test_integers_beyond_2_to_53_that_lie_far_apart_are_fitted() -> None:
    values = np.array([[-(2**62), 5], [2**62, 5], [2**61, 5]])
    manifest = fit(values, dims=["cell", "gene"], normalize=[{"minmax": {"per": ["gene"]}}])
    np.testing.assert_array_equal(manifest.transform(values)[:, 0], [0, 1, 0.75])
    assert manifest.to_json()["statistics"]["min"] == [-(2**62), 5]


def test_an_output_too_coarse_to_derive_from_is_refused() -> None:
    values = np.random.default_rng(0).random(1000)
    with pytest.raises(DataError, match="too coarse") as caught:
        fit(values, normalize=[{"minmax": {"range": [1e16, 1e16 + 2]}}, "zscore"])
    assert caught.value.where == "normalize.0.minmax"
