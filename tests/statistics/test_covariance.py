"""Covariances against NumPy's and against exact arithmetic, at means where a naive formula has nothing left."""

from __future__ import annotations

from fractions import Fraction
from functools import reduce

import numpy as np
import pytest

from pipeline.block import Block
from pipeline.errors import DataError
from pipeline.statistics.covariance import CovarianceSums, covariance_bytes
from tests.statistics.bounds import assert_covariances_agree


def covariance_of(values, axes=(1,)):
    shape = tuple(values.shape[axis] for axis in axes)
    return CovarianceSums.empty(shape, values.dtype).update(values, axes)


def correlated(samples, mean, features=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(samples, features)) @ rng.normal(size=(features, features)) + mean


def exact_covariance(values):
    rows = [[Fraction(value) for value in row] for row in values.tolist()]
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    centered = [[value - mean for value, mean in zip(row, means, strict=True)] for row in rows]
    columns = list(zip(*centered, strict=True))
    return np.array(
        [[float(sum(a * b for a, b in zip(x, y, strict=True)) / (len(rows) - 1)) for y in columns] for x in columns]
    )


@pytest.mark.parametrize("mean", [0.0, 1e4, 1e8, -1e12])
def test_far_from_zero_the_covariance_is_that_of_exact_arithmetic(mean):
    values = correlated(300, mean)
    parts = [covariance_of(part) for part in np.array_split(values, [1, 2, 50, 51, 200])]
    found = reduce(lambda one, other: one.merge(other), parts)
    exact = exact_covariance(values)
    scale = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    assert (np.abs(found.covariance() - exact) / scale).max() < (1e-6 if abs(mean) <= 1e8 else 1e-3)


def test_many_samples_at_1e8_keep_unit_variance():
    rng = np.random.default_rng(1)
    deviations = rng.integers(-(2**20), 2**20, (100_000, 3)) / 2.0**20
    found = covariance_of(deviations + 1e8).covariance()
    np.testing.assert_allclose(found, np.cov(deviations, rowvar=False), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("mean", [0.0, 1e8])
def test_any_partition_stays_within_the_stated_bound(mean):
    values = correlated(5000, mean)
    values[:, 4] = 1e8 + 0.1
    whole = covariance_of(values)
    rng = np.random.default_rng(2)
    for parts in (2, 7, 300):
        cuts = np.sort(rng.integers(0, len(values), parts))
        summaries = [covariance_of(values[rows]) for rows in np.array_split(rng.permutation(len(values)), cuts)]
        assert_covariances_agree(reduce(lambda one, other: one.merge(other), summaries), whole)


def test_the_bound_tells_a_naive_formula_from_this_one():
    values = correlated(5000, 1e8)
    whole = covariance_of(values)
    mean = values.mean(axis=0)
    naive = CovarianceSums(whole.counts, whole.mean, values.T @ values - len(values) * np.outer(mean, mean))
    with pytest.raises(AssertionError):
        assert_covariances_agree(naive, whole)


def test_constants_have_no_covariance_at_all():
    values = correlated(20_000, 0.0, 3)
    values[:, 1] = 0.1 + 1e8
    found = covariance_of(values)
    assert not found.comoments[1].any() and not found.comoments[:, 1].any()
    assert found.mean[1] == 0.1 + 1e8


def test_samples_that_are_not_complete_are_left_out_and_counted():
    values = correlated(100, 3.0)
    values[3, 1], values[50, 0], values[99, 4] = np.nan, np.inf, -np.inf
    found = covariance_of(values)
    complete = values[np.isfinite(values).all(axis=1)]
    assert (found.nobs, found.left_out) == (97, 3)
    np.testing.assert_allclose(found.covariance(), np.cov(complete, rowvar=False), rtol=1e-12)
    np.testing.assert_allclose(found.mean, complete.mean(axis=0), rtol=1e-13)
    nothing = covariance_of(values[[3, 50]])
    assert (nothing.nobs, nothing.left_out) == (0, 2)
    assert np.isnan(nothing.covariance()).all()
    assert nothing.merge(found).left_out == 5


def test_features_of_several_dims_are_flattened_in_their_order():
    values = np.random.default_rng(3).normal(size=(4, 50, 3)).astype(np.float32)
    found = covariance_of(values, (0, 2))
    assert found.feature_shape == (4, 3)
    samples = values.transpose(1, 0, 2).reshape(50, 12).astype(np.float64)
    np.testing.assert_allclose(found.covariance(ddof=0), np.cov(samples, rowvar=False, ddof=0), rtol=1e-12, atol=1e-15)
    assert (found.covariance() == found.covariance().T).all()


@pytest.mark.parametrize(("samples", "ddof"), [(0, 0), (1, 1), (2, 2)])
def test_too_few_samples_have_no_covariance(samples, ddof):
    assert np.isnan(covariance_of(np.ones((samples, 2))).covariance(ddof)).all()


def test_numbers_whose_products_overflow_raise_no_warning():
    found = covariance_of(np.array([[1e308, 1.0], [-1e308, 2.0], [0.0, 4.0]]))
    assert not np.isfinite(found.merge(found).covariance()[0, 0])
    np.testing.assert_allclose(found.covariance()[1, 1], np.var([1.0, 2.0, 4.0], ddof=1))


def test_parts_of_the_features_are_refused():
    part = covariance_of(np.ones((3, 2)))
    box = Block((0,), (2,))
    assert CovarianceSums.join([(box, part)], (2,)) is part
    with pytest.raises(DataError, match="parts of the features"):
        CovarianceSums.join([(box, part), (Block((2,), (4,)), part)], (4,))


def test_predicted_bytes_are_those_of_the_arrays_and_tell_what_does_not_fit():
    summary = covariance_of(np.ones((3, 70)))
    assert covariance_bytes(70) == summary.mean.nbytes + summary.comoments.nbytes
    assert covariance_bytes(60_000) > 28e9
