"""The normal distribution's quantiles and probabilities against the standard library and SciPy."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from pipeline.normalize.gaussian import normal_probability, normal_quantile

special = pytest.importorskip("scipy.special", reason="SciPy is the oracle")

PROBABILITIES = np.unique(np.concatenate([np.logspace(-9.5, -0.4, 400), 1 - np.logspace(-9.5, -0.4, 400), [0.075, 0.5, 0.925]]))


def test_quantiles_are_those_of_the_same_algorithm():
    expected = [NormalDist().inv_cdf(probability) for probability in PROBABILITIES.tolist()]
    np.testing.assert_allclose(normal_quantile(PROBABILITIES), expected, rtol=1e-15)


def test_quantiles_are_those_of_another_algorithm():
    np.testing.assert_allclose(normal_quantile(PROBABILITIES), special.ndtri(PROBABILITIES), rtol=2e-15, atol=1e-16)


def test_quantiles_are_odd_and_keep_nan():
    assert normal_quantile(np.array(0.5)) == 0.0
    assert normal_quantile(np.array([0.25])) == -normal_quantile(np.array([0.75]))
    assert np.isnan(normal_quantile(np.array([np.nan, 0.5]))).tolist() == [True, False]


def test_probabilities_are_right_in_the_lower_tail_too():
    """The rounding of z is worth z² roundings of the probability."""
    values = np.linspace(-37.0, 9.0, 500)
    np.testing.assert_allclose(normal_probability(values), special.ndtr(values), rtol=3e-13)
    assert normal_probability(np.array([-np.inf, np.inf])).tolist() == [0.0, 1.0]
    assert np.isnan(normal_probability(np.array(np.nan)))


def test_one_undoes_the_other():
    np.testing.assert_allclose(normal_probability(normal_quantile(PROBABILITIES)), PROBABILITIES, rtol=1e-13)
