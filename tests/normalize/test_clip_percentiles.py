"""Clip_percentiles: NumPy's percentiles, and the edges that are its own."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import ConfigError, ManifestError
from pipeline.normalize import parse_chain
from pipeline.normalize.clip_percentiles import ClipPercentiles

NAN, INF = np.nan, np.inf
DIMS = ("sample", "feature")
PER = {"per": ["feature"]}


def data():
    rng = np.random.default_rng(8)
    hot = np.where(rng.random(2000) < 0.002, 65535, rng.poisson(300, 2000))
    return np.column_stack([hot, rng.standard_cauchy(2000), rng.normal(1e8, 1.0, 2000), np.full(2000, -3.0)])


@pytest.mark.parametrize(("lower", "upper"), [(0.5, 99.5), (5, 95), (0, 99), (2.5, 100)])
def test_the_bounds_are_those_of_numpy(chain_of, lower, upper):
    values = data()
    chain = chain_of([{"clip_percentiles": {**PER, "lower": lower, "upper": upper}}], values)
    new = np.vstack([values * 1.1, values * 0.9])
    expected = np.clip(new, *np.percentile(values, [lower, upper], axis=0))
    np.testing.assert_allclose(chain(new), expected, rtol=1e-15)


def test_the_microscope_recipe_is_one_chain(chain_of):
    values = data().astype(np.uint16)[:, :1]
    low, high = np.percentile(values, [0.5, 99.5])
    assert high < 1000
    expected = (np.clip(values, low, high) - low) / (high - low)
    np.testing.assert_allclose(chain_of(["clip_percentiles", "minmax"], values, output_dtype="float64")(values), expected)


def test_nan_stays_and_infinities_become_the_bounds(fitted):
    values = np.column_stack([np.arange(11.0), np.full(11, NAN)])
    step = fitted({"clip_percentiles": {**PER, "lower": 10, "upper": 80}}, values)
    assert step.parameters["low"].tolist() == [1.0, 0.0]
    assert step.parameters["high"].tolist() == [8.0, 0.0]
    output = step(np.array([[INF, 1.0], [-INF, -INF], [NAN, NAN], [3.0, 0.0]]), DIMS)
    np.testing.assert_array_equal(output, [[8.0, 0.0], [1.0, 0.0], [NAN, NAN], [3.0, 0.0]])


def test_propagated_features_are_nan(fitted):
    values = np.array([[1.0, 1.0], [2.0, INF], [3.0, 3.0]])
    output = fitted({"clip_percentiles": PER}, values, DIMS, "propagate")(values, DIMS)
    assert np.isnan(output).tolist() == [[False, True]] * 3


def test_within_the_stated_bound_where_the_distribution_is_rounded(rounded_statistics):
    values = data()[:, :2]
    statistics = rounded_statistics(values)
    error = statistics.distribution.relative_error
    step = ClipPercentiles(per=("feature",), lower=1, upper=99).fit(statistics)
    for name, percent in (("low", 1), ("high", 99)):
        exact = np.percentile(values, percent, axis=0)
        assert (np.abs(step.parameters[name] - exact) <= error * np.abs(exact) * (1 + 1e-9)).all()
        assert (step.parameters[name] != exact).any()
    ends = ClipPercentiles(per=("feature",), lower=0, upper=100).fit(statistics)
    assert ends.parameters["low"].tolist() == values.min(axis=0).tolist()
    assert ends.parameters["high"].tolist() == values.max(axis=0).tolist()


@pytest.mark.parametrize(
    "options", [{"lower": 50, "upper": 50}, {"lower": -1}, {"upper": 100.5}, {"lower": NAN}, {"lower": True}]
)
def test_percentiles_that_make_no_sense_are_refused(options):
    with pytest.raises(ConfigError, match="clip_percentiles"):
        parse_chain([{"clip_percentiles": options}])


def test_stored_bounds_in_the_wrong_order_are_refused():
    with pytest.raises(ManifestError, match="above"):
        ClipPercentiles().restore({"low": np.array(2.0), "high": np.array(1.0)})
