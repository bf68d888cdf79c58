"""The mean of magnitudes against rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from pipeline.statistics import Deviations


@pytest.mark.parametrize("dtype", ["float64", "float32", "int8", "int64", "uint64"])
def test_the_mean_is_the_exact_one_rounded_once(dtype: str) -> None:
    generator = np.random.default_rng(4)
    if dtype.startswith("float"):
        values = (generator.normal(size=(3, 400)) * 10.0 ** generator.integers(-30, 30, (3, 400))).astype(dtype)
        values[:, ::7], values[2, 1] = np.nan, np.inf
    else:
        limits = np.iinfo(dtype)
        values = generator.integers(limits.min, limits.max, (3, 400), dtype=dtype, endpoint=True)
        values[0, :2] = limits.min, limits.max
    found = Deviations.empty((3,), values.dtype).update(values, (0,)).mean()
    for feature in range(3):
        finite = [item for item in values[feature].tolist() if np.isfinite(item)]
        assert found[feature] == float(sum(abs(Fraction(item)) for item in finite) / len(finite))


def test_there_is_none_of_no_value() -> None:
    found = Deviations.empty((2,), np.dtype(np.float64)).update(np.array([[np.nan, 1.0], [np.inf, -3.0]]), (1,)).mean()
    np.testing.assert_array_equal(found, [np.nan, 2.0])
