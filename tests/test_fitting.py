"""What follows from a histogram without a read is what a read would have given."""

from __future__ import annotations

import numpy as np
import pytest
import xarray

from pipeline import fit

VALUES = np.random.default_rng(3).integers(0, 3, (50, 4)) * np.array([1, 20, 3, 5]) + np.array([0, 100, 7, 200])
CHAIN = [{"minmax": {"per": ["gene"]}}, "log1p", {"zscore": {"per": ["gene"]}}]


@pytest.mark.parametrize("dtype", ["uint8", "int16"])
def test_values_that_only_other_features_have_are_never_asked_about(dtype: str) -> None:
    """0 occurs in the first gene; in the second, whose range is 100 to 140, log1p would refuse it."""
    derived, read = (
        fit(xarray.DataArray(VALUES.astype(kind), dims=("cell", "gene")), normalize=CHAIN) for kind in (dtype, "f8")
    )
    for one, other in zip(derived.chain.steps, read.chain.steps, strict=True):
        for name, values in one.parameters.items():
            assert values.tobytes() == other.parameters[name].tobytes()
