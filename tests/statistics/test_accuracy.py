"""Statistics against rational arithmetic straight from their definitions, and against SciPy on tame data."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings

from pipeline.statistics import Histogram, Moments
from tests.statistics import oracle, samples

EXAMPLES = settings(max_examples=150, deadline=None, derandomize=True, database=None)


def statistics_of(values):
    return Moments.empty((), values.dtype).update(values, ()).statistics()


def check_moments(statistics, fractions):
    """Mean, variance and kurtosis are correctly rounded; the skewness is within 2 ulp."""
    count = len(fractions)
    assert oracle.same_float(statistics.mean(), oracle.rounded(sum(fractions, Fraction(0)) / count))
    second = oracle.central_moment(fractions, 2)
    assert oracle.same_float(statistics.variance(ddof=0), oracle.rounded(second))
    if count > 1:
        assert oracle.same_float(statistics.variance(), oracle.rounded(second * count / (count - 1)))
    if second == 0:
        assert np.isnan(statistics.skewness())
        assert np.isnan(statistics.kurtosis())
        return
    third, fourth = (oracle.central_moment(fractions, power) for power in (3, 4))
    assert oracle.same_float(statistics.kurtosis(), oracle.rounded(fourth / second**2 - 3))
    skewness = float(statistics.skewness())
    assert np.sign(skewness) == np.sign(float(np.sign(third)))
    square = third**2 / second**3
    assert abs(Fraction(skewness) ** 2 - square) <= square * Fraction(2) ** -51 + Fraction(2) ** -2140


@EXAMPLES
@given(values=samples.arrays(samples.FLOATS + samples.INTEGERS))
def test_statistics_of_anything(values):
    statistics = statistics_of(values)
    fractions = oracle.finite_fractions(values)
    floats = values.astype(np.float64)
    assert int(statistics.nobs) == len(fractions)
    assert int(statistics.nan) == np.isnan(floats).sum()
    assert int(statistics.posinf) == (floats == np.inf).sum()
    assert int(statistics.neginf) == (floats == -np.inf).sum()
    assert int(statistics.zeros) == (values == 0).sum()
    if not fractions:
        assert statistics.empty()
        assert np.isnan([statistics.mean(), statistics.minimum(), statistics.kurtosis()]).all()
        return
    assert Fraction(statistics.min.item()) == min(fractions)
    assert Fraction(statistics.max.item()) == max(fractions)
    check_moments(statistics, fractions)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ratio", [0.0, 1.0, 1e3, 1e6, 1e8])
def test_means_far_from_zero(dtype, ratio):
    rng = np.random.default_rng(11)
    for draw in (rng.normal(size=1500), rng.exponential(size=1500), rng.standard_t(3, size=1500)):
        values = (draw + ratio).astype(dtype)
        check_moments(statistics_of(values), oracle.finite_fractions(values))


def test_variance_of_unit_normal_at_mean_1e8_is_not_eaten_by_cancellation():
    values = 1e8 + np.random.default_rng(5).normal(size=200_000)
    statistics = statistics_of(values)
    assert abs(float(statistics.mean()) - 1e8) < 0.02
    assert float(statistics.variance()) == pytest.approx(float(np.var(values - 1e8, ddof=1)), rel=1e-13)
    assert abs(float(statistics.skewness())) < 0.05
    assert abs(float(statistics.kurtosis())) < 0.1


def test_scipy_on_tame_data():
    scipy_stats = pytest.importorskip("scipy.stats", reason="the oracle is SciPy")
    values = np.random.default_rng(2).gamma(3.0, size=(5000, 6))
    statistics = Moments.empty((6,), values.dtype).update(values, (1,)).statistics()
    expected = scipy_stats.describe(values, axis=0, ddof=1)
    assert set(statistics.nobs.tolist()) == {expected.nobs}
    np.testing.assert_array_equal(statistics.minimum(), expected.minmax[0])
    np.testing.assert_array_equal(statistics.maximum(), expected.minmax[1])
    np.testing.assert_allclose(statistics.mean(), expected.mean, rtol=1e-13)
    np.testing.assert_allclose(statistics.variance(), expected.variance, rtol=1e-12)
    np.testing.assert_allclose(statistics.skewness(), expected.skewness, rtol=1e-11)
    np.testing.assert_allclose(statistics.kurtosis(), expected.kurtosis, rtol=1e-11)


@pytest.mark.parametrize("values", [[3.0, 4.0, 8.0], [1e308, -1e308, 1.5e308], [5e-324, 1e-323, 2e-320], [0.1, 0.1, 0.3]])
def test_std_is_the_rounded_root_of_the_exact_variance_even_where_that_overflows(values):
    array = np.array(values)
    fractions = oracle.finite_fractions(array)
    for ddof in (0, 1):
        variance = oracle.central_moment(fractions, 2) * len(values) / (len(values) - ddof)
        assert oracle.same_float(statistics_of(array).std(ddof), oracle.rounded_root(variance))


@EXAMPLES
@given(values=samples.arrays(samples.SMALL_INTEGERS), axes=samples.axes_of(3))
def test_histograms_give_the_statistics_of_moments_bit_for_bit(values, axes):
    shape = tuple(values.shape[axis] for axis in axes)
    one = Moments.empty(shape, values.dtype).update(values, axes).statistics().arrays()
    other = Histogram.empty(shape, values.dtype).update(values, axes).statistics().arrays()
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.tobytes() == other[name].tobytes(), name
        assert (array.dtype, array.shape) == (other[name].dtype, other[name].shape), name
