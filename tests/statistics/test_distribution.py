"""Distributions against NumPy and SciPy on the values that they are of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import DataError
from pipeline.statistics import CovarianceSums, Distribution, FloatHistogram, Histogram, Moments, derive_affine

EXAMPLES = settings(max_examples=100, deadline=None, derandomize=True, database=None)
PROBABILITIES = [0.0, 0.005, 0.25, 1 / 3, 0.5, 0.75, 0.995, 1.0]


def distribution_of(values, axes=()):
    shape = tuple(values.shape[axis] for axis in axes)
    return FloatHistogram.empty(shape, values.dtype).update(values, axes).distribution()


def state(distribution):
    return [
        distribution.feature_shape,
        *(array.tolist() for array in (distribution.values, distribution.counts, distribution.ends)),
    ]


VALUES = st.lists(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([-1.0, 0.0, 2.0])), min_size=1)


@EXAMPLES
@given(values=VALUES, probabilities=st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_quantiles_of_exact_distributions_are_those_of_numpy(values, probabilities):
    values = np.array(values)
    found = distribution_of(values).quantile(probabilities)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = np.quantile(values + 0.0, probabilities)
    tame = np.isfinite(expected)
    np.testing.assert_array_equal(found[tame], expected[tame])
    assert np.isfinite(found).all()
    assert (found >= values.min()).all() and (found <= values.max()).all()


def test_quantiles_have_the_shapes_of_probabilities_and_features():
    values = np.random.default_rng(1).normal(size=(50, 2, 3))
    values[:, 1, 2] = np.nan
    distribution = distribution_of(values, (1, 2))
    assert distribution.quantile(0.5).shape == (2, 3)
    assert distribution.quantile([[0.1, 0.2]]).shape == (1, 2, 2, 3)
    np.testing.assert_array_equal(distribution.quantile(PROBABILITIES), np.quantile(values, PROBABILITIES, axis=0))
    assert np.isnan(distribution.quantile(0.5)[1, 2])
    np.testing.assert_array_equal(distribution.nobs(), [[50, 50, 50], [50, 50, 0]])
    assert [(feature, len(its), counts.sum()) for feature, its, counts in distribution.each()][-2:] == [(4, 50, 50), (5, 0, 0)]


@pytest.mark.parametrize("probability", [-0.1, 1.1, np.nan])
def test_what_is_no_probability_is_refused(probability):
    for values in (np.ones(3), np.random.default_rng(0).normal(size=200_000)):
        distribution = distribution_of(values)
        for ask in (distribution.quantile, distribution.bounds):
            with pytest.raises(DataError, match="probability"):
                ask([0.5, probability])


def test_no_values_at_all():
    for shape in ((3,), (0,), ()):
        nothing = FloatHistogram.empty(shape, np.dtype("float32")).distribution()
        assert np.isnan(nothing.quantile([0.5, 1.0])).all() and nothing.quantile([0.5, 1.0]).shape == (2, *shape)
        assert np.isnan(nothing.median_absolute_deviation()).all()
        assert np.isnan(nothing.mean_absolute_deviation(0.0)).all()
        assert nothing.nobs().shape == shape


def test_deviations():
    values = np.random.default_rng(2).normal(1e8, 1, (301, 4))
    values[7, 0] = 1e12
    values[:, 3] = -2.0
    distribution = distribution_of(values, (1,))
    np.testing.assert_array_equal(
        distribution.median_absolute_deviation(), scipy.stats.median_abs_deviation(values, axis=0, scale=1.0)
    )
    center = values.mean(axis=0)
    np.testing.assert_array_equal(distribution.median_absolute_deviation(center), np.median(np.abs(values - center), axis=0))
    np.testing.assert_allclose(distribution.mean_absolute_deviation(center), np.abs(values - center).mean(axis=0), rtol=1e-14)


def test_the_error_of_all_features_together_is_relative_to_zero():
    distribution = distribution_of(np.random.default_rng(4).lognormal(0, 9, 200_000))
    moved = replace(distribution, feature_shape=(1,), values=distribution.values - 11, origin=np.array([-11.0]))
    summed = moved.sum_features((0,))
    assert summed.origin is None and summed.relative_error > moved.relative_error


def test_sum_features_is_the_distribution_of_all_values():
    values = np.random.default_rng(5).integers(0, 9, (20, 3, 4)).astype(np.float32)
    values[:, 1, 1] = np.nan
    per_both = distribution_of(values, (1, 2))
    assert state(per_both.sum_features((0,))) == state(distribution_of(values, (2,)))
    assert state(per_both.sum_features((1,))) == state(distribution_of(values, (1,)))
    assert state(per_both.sum_features((0, 1))) == state(distribution_of(values))
    assert state(per_both.sum_features(())) == state(per_both)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int8, np.uint16])
def test_histograms_give_exact_distributions(dtype):
    values = np.random.default_rng(6).integers(0, 2 if dtype is np.bool_ else 100, (300, 2)).astype(dtype)
    histogram = Histogram.empty((2,), values.dtype).update(values, (1,))
    assert state(histogram.distribution()) == state(distribution_of(values, (1,)))
    assert histogram.distribution().relative_error == 0.0


def test_histograms_give_the_distribution_of_a_function_of_the_values():
    values = np.random.default_rng(7).integers(0, 256, (300, 2)).astype(np.uint8)
    histogram = Histogram.empty((2,), values.dtype).update(values, (1,))
    bins = histogram.values().astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        shared = np.log(bins - 50)
    assert state(histogram.distribution(shared)) == state(distribution_of(shared[values], (1,)))
    each = np.stack([-bins, bins // 10])
    assert state(histogram.distribution(each)) == state(
        distribution_of(np.stack([-1.0 * values[:, 0], values[:, 1] // 10], 1), (1,))
    )


def full_statistics(values, axes=(1,)):
    shape = tuple(values.shape[axis] for axis in axes)
    return replace(
        Moments.empty(shape, values.dtype).update(values, axes).statistics(),
        distribution=distribution_of(values, axes),
        covariance=CovarianceSums.empty(shape, values.dtype).update(values, axes),
    )


def test_derived_statistics_have_derived_distributions_and_covariances():
    values = np.random.default_rng(8).integers(-50, 50, (60, 3)).astype(np.float64)
    center, scale, offset = np.array([1.0, 2.0, 3.0]), np.array([0.5, -4.0, 2.0]), 7.0
    output = (values - center) * scale + offset
    given, after = full_statistics(values), distribution_of(output, (1,))
    derived = derive_affine(given, center, scale, offset, output.min(axis=0), output.max(axis=0), after)
    assert derived.distribution is after and derived.covariance is not None
    np.testing.assert_allclose(derived.covariance.covariance(), np.cov(output, rowvar=False), rtol=1e-13)
    np.testing.assert_allclose(derived.covariance.mean, output.mean(axis=0), rtol=1e-14)
    plain = derive_affine(replace(full_statistics(values), distribution=None, covariance=None), 0.0, 1.0, 0.0, 0.0, 1.0)
    assert plain.distribution is None and plain.covariance is None


def test_statistics_of_fewer_features_have_what_is_defined():
    values = np.random.default_rng(9).normal(size=(60, 3, 2))
    fewer = full_statistics(values, (1, 2)).sum_features((0,))
    assert fewer.distribution is not None and fewer.covariance is not None
    assert state(fewer.distribution) == state(distribution_of(values, (2,)))
    np.testing.assert_allclose(fewer.covariance.covariance(), np.cov(values.reshape(-1, 2), rowvar=False), rtol=1e-12)
    values[0, 0, 0] = np.nan
    fewer = full_statistics(values, (1, 2)).sum_features((0,))
    assert fewer.covariance is None and fewer.distribution is not None


def test_what_is_stored_of_statistics_is_the_same_with_and_without():
    values = np.random.default_rng(10).normal(size=(9, 2))
    with_both = full_statistics(values)
    without = replace(with_both, distribution=None, covariance=None)
    assert {name: array.tobytes() for name, array in with_both.arrays().items()} == {
        name: array.tobytes() for name, array in without.arrays().items()
    }


def test_features_in_any_order_and_large_counts():
    distribution = Distribution((2,), np.array([1.0, 2.0, 5.0]), np.array([2**40, 2**40, 1]), np.array([2, 3]), 0.0)
    np.testing.assert_array_equal(distribution.quantile([0.25, 0.75]), [[1.0, 5.0], [2.0, 5.0]])
    np.testing.assert_array_equal(distribution.mean_absolute_deviation(np.array([1.0, 0.0])), [0.5, 5.0])


def test_bounds_are_the_quantiles_of_the_ends_in_whichever_order_they_are():
    """An entry whose ends are beyond those of the next one: the order of the lower ends is not that of the upper ones."""
    ascending = Distribution((), np.array([1.0, 4.0]), np.array([3, 2]), np.array([2]), np.array([0.5, 1.0]))
    crossing = Distribution((), np.array([1.0, 4.0]), np.array([3, 2]), np.array([2]), np.array([0.5, 3.8]))
    for distribution in (ascending, crossing):
        ends = (distribution.values - distribution.radius, distribution.values + distribution.radius)
        for found, end in zip(distribution.bounds([0.1, 0.5, 0.9]), ends, strict=True):
            np.testing.assert_array_equal(found, np.quantile(np.repeat(end, distribution.counts), [0.1, 0.5, 0.9]))
    widest = Distribution((), np.array([1e308]), np.array([1]), np.array([1]), np.array([1e308]))
    assert widest.bounds(0.5) == (0.0, np.finfo(np.float64).max)
    lowest = Distribution((), np.array([-1e308]), np.array([1]), np.array([1]), np.array([1e308]))
    assert lowest.bounds(0.5) == (-np.finfo(np.float64).max, 0.0)
    weighted = Distribution((), np.array([1.0, 4.0]), np.array([0.5, 0.25]), np.array([2]), np.array([0.5, 1.0]))
    assert [bound.tolist() for bound in weighted.bounds([0.1, 0.9])] == [[0.5, 3.0], [1.5, 5.0]]
