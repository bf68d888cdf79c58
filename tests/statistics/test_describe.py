"""Statistics as a user meets them: derived ones, unavailable ones, policies, JSON, storage."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import DataError, ManifestError
from pipeline.statistics import Histogram, Moments, Statistics, derive_affine
from pipeline.statistics.exact import POWERS
from tests.statistics import oracle

EXAMPLES = settings(max_examples=100, deadline=None, derandomize=True, database=None)
KEYS = ["nobs", "min", "max", "mean", "variance", "skewness", "kurtosis", "zeros", "nan", "posinf", "neginf"]


def statistics_of(values, axes=(), nan_policy="skip"):
    shape = tuple(values.shape[axis] for axis in axes)
    return Moments.empty(shape, values.dtype).update(values, axes).statistics(nan_policy)


def bits(statistics):
    return {name: (array.dtype, array.shape, array.tobytes()) for name, array in statistics.arrays().items()}


NORMAL = st.floats(-1e150, 1e150, allow_subnormal=True)


@EXAMPLES
@given(values=st.lists(NORMAL, min_size=1, max_size=6), center=NORMAL, scale=NORMAL, offset=NORMAL)
def test_derived_sums_are_exact(values, center, scale, offset):
    derived = derive_affine(statistics_of(np.array(values)), center, scale, offset, np.float64(-1), np.float64(1))
    exact = [(Fraction(value) - Fraction(center)) * Fraction(scale) + Fraction(offset) for value in values]
    for power in POWERS:
        assert oracle.as_fractions(*derived.sums.to_integers(power)) == [oracle.power_sum(exact, power)]


def test_derived_equals_read_where_the_step_does_not_round():
    values = np.random.default_rng(0).integers(-1000, 1000, (50, 3)).astype(np.float32)
    values[0, 0] = np.nan
    values[1, 1] = 2.0
    center, scale, offset = np.array([1.0, 2.0, 3.0]), np.array([0.5, 4.0, -0.25]), np.array([0.0, 0.0, 1e6])
    output = (values - center) * scale + offset
    read = statistics_of(output, (1,))
    derived = derive_affine(statistics_of(values, (1,)), center, scale, offset, read.min, read.max)
    without_zeros = {name: array for name, array in bits(read).items() if name != "zeros"}
    assert bits(derived) == without_zeros
    assert derived.zeros is None
    np.testing.assert_array_equal(derived.mean(), read.mean())


@pytest.mark.parametrize(
    ("center", "scale", "offset", "low", "high", "zeros"),
    [
        (0.0, 3.0, 0.0, -3.0, 6.0, 2),
        (2.0, -1.0, -2.0, -2.0, 1.0, 2),
        (0.0, 0.0, 0.0, 0.0, 0.0, 4),
        (0.0, 0.0, 7.0, 7.0, 7.0, 0),
        (0.0, 1.0, 9.0, 8.0, 11.0, 0),
        (1.0, 1.0, 0.0, -2.0, 1.0, None),
    ],
)
def test_zeros_are_derived_where_they_follow(center, scale, offset, low, high, zeros):
    statistics = statistics_of(np.array([-1.0, 0.0, -0.0, 2.0, np.nan]))
    derived = derive_affine(statistics, center, scale, offset, np.float64(low), np.float64(high))
    assert (None if derived.zeros is None else int(derived.zeros)) == zeros
    assert ("zeros" in derived.unavailable()) == (zeros is None)


def test_features_without_values_or_parameters_stay_defined_when_derived():
    values = np.array([[np.nan, 1.0], [np.nan, np.inf]])
    statistics = statistics_of(values, (1,), "propagate")
    nan = np.full(2, np.nan)
    derived = derive_affine(statistics, nan, nan, nan, nan, nan)
    assert np.isnan(derived.mean()).all()
    assert derived.min[0] == np.inf


def table_cases():
    values = np.random.default_rng(4).integers(0, 200, (300, 2)).astype(np.uint8)
    histogram = Histogram.empty((2,), values.dtype).update(values, (1,))
    bins = histogram.values().astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        yield values, histogram, np.log1p(bins)
        yield values, histogram, np.log(bins - 50)
        yield values, histogram, np.exp(bins * 3)
        yield values, histogram, (bins - np.array([[3.0], [40.0]])) / np.array([[7.0], [0.3]])
        yield values, histogram, np.zeros(256) - 0.0
        yield values, histogram, np.full(256, np.nan)


def test_a_table_gives_the_statistics_of_the_transformed_values():
    for values, histogram, table in table_cases():
        transformed = np.take_along_axis(np.broadcast_to(table, (2, 256)), values.T.astype(np.intp), axis=1)
        read = statistics_of(np.ascontiguousarray(transformed), (0,))
        assert bits(histogram.statistics(table=table)) == bits(read)


def test_signed_values_are_counted_in_ascending_order():
    values = np.array([-128, -1, 0, 127, 127], np.int8)
    histogram = Histogram.empty((), values.dtype).update(values, ())
    assert dict(zip(histogram.values().tolist(), histogram.counts.tolist(), strict=True))[127] == 2
    assert histogram.counts[[0, 127, 128, 255]].tolist() == [1, 1, 1, 2]
    assert all(one < other for one, other in pairwise(histogram.values().tolist()))


@pytest.mark.parametrize("values", [np.zeros(3), np.array([-0.0, -0.0]), np.array([0.0, -0.0]), np.array([-0.0, 0.0])])
def test_zeros_have_no_sign(values):
    statistics = statistics_of(values)
    assert not np.signbit([statistics.min, statistics.max]).any()
    assert int(statistics.zeros) == values.size


def test_integer_extrema_are_exact_beyond_the_significand_of_float64():
    for dtype, low, high in ((np.int64, -(2**63) + 1, 2**63 - 3), (np.uint64, 2**53 + 1, 2**64 - 3)):
        statistics = statistics_of(np.array([low, high], dtype))
        assert (int(statistics.min), int(statistics.max)) == (low, high)
        assert statistics.to_json()["min"] == low


def test_unavailable_says_why_and_in_how_many_features():
    values = np.array([[1.0, 5.0, np.nan, 1e308, 3.0], [2.0, 5.0, np.nan, -1e308, np.inf], [4.0, 5.0, np.nan, 0.0, np.nan]])
    statistics = statistics_of(values, (1,))
    none = "no finite value in 1 of 5 features"
    assert statistics.unavailable() == {
        "min": none,
        "max": none,
        "mean": none,
        "variance": f"{none}; fewer than 2 values in 1 of 5 features; overflows float64 in 1 of 5 features",
        "skewness": f"{none}; constant in 2 of 5 features",
        "kurtosis": f"{none}; constant in 2 of 5 features",
    }
    assert statistics_of(np.array([1.0, 2.0, 4.0])).unavailable() == {}
    assert statistics_of(np.array([3.0, 3.0])).unavailable() == {"skewness": "constant", "kurtosis": "constant"}


def test_unavailable_and_nan_go_together():
    values = np.array([[1.0, 5.0, np.nan], [2.0, 5.0, np.nan], [4.0, 5.0, np.nan]])
    for column in (values[:, [0]], values[:, [1]], values[:, [2]]):
        statistics = statistics_of(column, (1,))
        document = statistics.to_json()
        assert {name for name, value in document.items() if value == [None]} == set(statistics.unavailable())


@pytest.mark.parametrize("ddof", [0, 1, 2, 3])
def test_degrees_of_freedom(ddof):
    values = np.array([1.0, 2.0, 4.0])
    variance = statistics_of(values).variance(ddof)
    assert np.isnan(variance) if ddof == 3 else variance == pytest.approx(np.var(values, ddof=ddof), rel=1e-15)


def test_propagate_gives_nan_for_features_with_any_non_finite_value():
    values = np.array([[1.0, 2.0, np.nan], [3.0, np.inf, 4.0]])
    statistics = statistics_of(values, (1,), "propagate")
    for accessor in ("mean", "variance", "std", "skewness", "kurtosis", "minimum", "maximum"):
        assert np.isnan(getattr(statistics, accessor)()).tolist() == [False, True, True]
    assert statistics.unavailable()["mean"] == "non-finite values propagate in 2 of 3 features"
    assert statistics.to_json()["max"] == [3.0, None, None]
    assert np.isnan(statistics.sum_features((0,)).mean())


def test_check_refuses_what_cannot_be_fitted_to():
    values = np.array([1.0, np.nan, np.nan, -np.inf])
    statistics_of(values).check()
    with pytest.raises(DataError, match=r"2 NaN, 1 .inf"):
        statistics_of(values, nan_policy="error").check()
    statistics_of(values[:1], nan_policy="error").check()
    with pytest.raises(DataError, match="no finite value"):
        statistics_of(values[1:]).check()
    with pytest.raises(DataError, match="no values"):
        statistics_of(values[:0]).check()


def test_json_has_the_names_of_scipy_and_python_numbers():
    whole = statistics_of(np.array([[0, 2], [4, 2]], np.int32))
    assert list(whole.to_json()) == KEYS
    assert json.loads(json.dumps(whole.to_json())) == {
        "nobs": 4,
        "min": 0,
        "max": 4,
        "mean": 2.0,
        "variance": 8 / 3,
        "skewness": 0.0,
        "kurtosis": -1.0,
        "zeros": 1,
        "nan": 0,
        "posinf": 0,
        "neginf": 0,
    }
    per_feature = statistics_of(np.array([[0.0, 2.0], [4.0, 2.0]]), (1,)).to_json()
    assert per_feature["skewness"] == [0.0, None]
    assert per_feature["nobs"] == [2, 2]


def test_arrays_give_the_statistics_back():
    values = np.array([[1.0, np.nan], [3.0, 1e200]])
    statistics = statistics_of(values, (1,), "propagate")
    restored = Statistics.from_arrays(statistics.arrays(), "propagate")
    assert bits(restored) == bits(statistics)
    assert restored.to_json() == statistics.to_json()
    derived = derive_affine(statistics, 2.0, 2.0, 0.0, np.array([-2.0, np.nan]), np.array([2.0, np.nan]))
    assert Statistics.from_arrays(derived.arrays()).zeros is None
    for name in ("nobs", "max", "sum3", "sum_lows"):
        with pytest.raises(ManifestError, match=name):
            Statistics.from_arrays({key: array for key, array in statistics.arrays().items() if key != name})
    with pytest.raises(ManifestError, match="sum2"):
        Statistics.from_arrays({**statistics.arrays(), "sum2": np.zeros((1, 3), np.uint32)})


def test_sum_features_of_statistics_is_that_of_all_values():
    values = np.array([[1.0, np.nan, 3.0], [2.0, np.nan, -np.inf]])
    assert bits(statistics_of(values, (0, 1)).sum_features((1,))) == bits(statistics_of(values, (0,)))
    assert bits(statistics_of(values, (1,)).sum_features((0,))) == bits(statistics_of(values))


def test_summaries_import_without_compiling_anything():
    code = (
        "import sys, pipeline.statistics as s; s.SUMMARIES; sys.exit(any(m in sys.modules for m in ('numba', 'zarr', 'dask')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
