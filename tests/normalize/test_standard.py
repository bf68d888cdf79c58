"""Zscore at the edges: constants, ddof, gamma and beta, spreads that float64 does not hold."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import ConfigError, DataError, ManifestError
from pipeline.normalize import parse_chain
from pipeline.normalize.standard import ZScore

NAN, INF = np.nan, np.inf
DIMS = ("sample", "feature")
VALUES = np.array([[1.0, 5.0, NAN], [2.0, 5.0, INF], [6.0, 5.0, -INF]])


def test_mean_and_deviation_of_each_feature(fitted):
    step = fitted({"zscore": {"per": ["feature"]}}, VALUES)
    assert step.parameters["mean"].tolist() == [3.0, 5.0, 0.0]
    np.testing.assert_allclose(step.parameters["std"], [np.sqrt(14 / 3), 1.0, 1.0], rtol=1e-15)
    expected = np.array([[-2.0, 0.0, NAN], [-1.0, 0.0, INF], [3.0, 0.0, -INF]]) / [np.sqrt(14 / 3), 1, 1]
    np.testing.assert_allclose(step(VALUES, DIMS), expected, rtol=1e-15)


def test_ddof_changes_the_deviation(fitted):
    values = np.array([[1.0], [2.0], [6.0]])
    assert fitted({"zscore": {"ddof": 1}}, values).parameters["std"] == np.sqrt(7.0)


def test_one_value_is_a_constant_whatever_ddof(fitted):
    step = fitted({"zscore": {"ddof": 1, "beta": 3}}, np.array([[7.0]]))
    assert step.parameters["std"] == 1.0
    assert step(np.array([[7.0]]), DIMS).tolist() == [[3.0]]


def test_too_few_values_that_vary_are_refused(fitted):
    with pytest.raises(DataError, match="no standard deviation") as caught:
        fitted({"zscore": {"ddof": 2, "per": ["feature"]}}, np.array([[1.0, 3.0], [2.0, 3.0]]))
    assert "1 of 2 features" in caught.value.found
    assert "ddof" in caught.value.remedy


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_deviation_is_had_where_the_variance_is_not(scale, fitted):
    values = np.array([[1.0], [2.0], [6.0]])
    output = fitted("zscore", values * scale)(values * scale, DIMS)
    np.testing.assert_allclose(output, fitted("zscore", values)(values, DIMS), rtol=1e-12)


def test_constant_at_a_large_value_is_a_constant(fitted):
    output = fitted("zscore", np.full((10, 1), 1e8 + 0.1))(np.full((1, 1), 1e8 + 0.1), DIMS)
    assert output.tolist() == [[0.0]]


def test_unit_variance_at_a_large_mean(fitted):
    values = np.random.default_rng(3).normal(1e8, 1.0, (1000, 1))
    output = fitted("zscore", values)(values, DIMS)
    assert abs(output.std() - 1) < 1e-12
    assert abs(output.mean()) < 1e-7


def test_gamma_and_beta_are_those_of_batch_normalization(fitted):
    values = np.array([[1.0, 10.0], [2.0, 30.0], [6.0, 20.0]])
    plain = fitted({"zscore": {"per": ["feature"]}}, values)(values, DIMS)
    listed = fitted({"zscore": {"per": ["feature"], "gamma": [2.0, -3.0], "beta": [0.5, 1.0]}}, values)
    np.testing.assert_array_equal(listed(values, DIMS), plain * [2.0, -3.0] + [0.5, 1.0])
    np.testing.assert_array_equal(listed.select({"feature": slice(1, 2)})(values[:, 1:], DIMS), listed(values, DIMS)[:, 1:])
    np.testing.assert_allclose(listed.inverse(listed(values, DIMS), DIMS), values, rtol=1e-14)
    assert set(listed.parameters) == {"mean", "std", "gamma", "beta"}
    assert set(fitted({"zscore": {"gamma": 2.0}}, values).parameters) == {"mean", "std"}


def test_infinities_take_the_sign_of_gamma(fitted):
    step = fitted({"zscore": {"gamma": -1.0}}, np.array([[1.0], [2.0]]))
    np.testing.assert_array_equal(step(np.array([[INF], [-INF], [NAN]]), DIMS), [[-INF], [INF], [NAN]])


def test_affine_of_listed_gamma_has_one_scale_a_feature(fitted):
    values = np.array([[1.0, 10.0], [3.0, 30.0]])
    center, scale, offset = fitted({"zscore": {"per": ["feature"], "gamma": [2.0, -3.0], "beta": [0.5, 1.0]}}, values).affine
    assert (center.tolist(), scale.tolist(), offset.tolist()) == ([2.0, 20.0], [2.0, -0.3], [0.5, 1.0])


def test_lists_are_checked_against_the_features(fitted):
    values = np.zeros((2, 3))
    with pytest.raises(ConfigError) as caught:
        fitted({"zscore": {"per": ["feature"], "gamma": [1.0, 2.0]}}, values)
    assert (caught.value.where, caught.value.found) == ("zscore.gamma", "2 numbers")
    assert caught.value.expected.startswith("3 numbers")
    with pytest.raises(ConfigError, match="needs one dim") as caught:
        fitted({"zscore": {"beta": [1.0]}}, values)
    assert caught.value.where == "normalize.0.zscore.beta"


def test_options_are_validated():
    for options, where in (
        ({"gamma": 0}, "gamma"),
        ({"gamma": [1, 0]}, "gamma"),
        ({"ddof": -1}, "ddof"),
        ({"beta": "x"}, "beta"),
    ):
        with pytest.raises(ConfigError) as caught:
            parse_chain([{"zscore": options}])
        assert caught.value.where == f"normalize.0.zscore.{where}"
    assert ZScore(gamma=np.array([1, 2], np.float32)).gamma == (1.0, 2.0)


def test_propagated_features_become_nan_because_asked(fitted):
    values = np.array([[1.0, 5.0, NAN, NAN], [2.0, 5.0, INF, 4.0]])
    step = fitted({"zscore": {"per": ["feature"]}}, values, nan_policy="propagate")
    assert np.isnan(step(np.ones((1, 4)), DIMS)).tolist() == [[False, False, True, True]]
    assert np.isnan(step.parameters["mean"]).tolist() == [False, False, True, True]
    assert np.isnan(step.parameters["std"]).tolist() == [False, False, True, True]


def test_stored_deviation_must_be_positive():
    with pytest.raises(ManifestError, match="divide by zero"):
        ZScore().restore({"mean": np.array(0.0), "std": np.array(0.0)})


def test_statistics_of_another_shape_are_a_programming_error(statistics_of):
    with pytest.raises(TypeError, match="needs statistics per"):
        ZScore(per=("feature",)).fit(statistics_of(VALUES, DIMS, ()))
    with pytest.raises(TypeError, match="needs statistics per"):
        ZScore().fit(None)
