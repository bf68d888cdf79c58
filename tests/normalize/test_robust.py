"""Robust: its oracles, and the edges that are its own."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline import fit
from pipeline.errors import ConfigError, DataError, ManifestError
from pipeline.normalize import parse_chain
from pipeline.normalize.robust import Robust

preprocessing = pytest.importorskip("sklearn.preprocessing", reason="scikit-learn is an oracle")
stats = pytest.importorskip("scipy.stats", reason="SciPy is an oracle")

NAN, INF = np.nan, np.inf
DIMS = ("sample", "feature")
PER = {"per": ["feature"]}


def data():
    rng = np.random.default_rng(5)
    columns = [
        rng.normal(3, 2, 801),
        rng.standard_cauchy(801),
        rng.negative_binomial(2, 0.1, 801),
        np.where(rng.random(801) < 0.4, 0.0, rng.lognormal(size=801)),
        np.concatenate([rng.normal(-1e3, 1, 400), rng.normal(1e3, 1, 401)]),
        np.full(801, 4.0),
        np.append(np.full(800, 2.0), 9.0),
    ]
    return np.column_stack(columns)


@pytest.mark.parametrize("unit_variance", [False, True])
@pytest.mark.parametrize("quantile_range", [(25, 75), (10, 80), (1, 99.5)])
def test_robust_scaler_to_1e_12(chain_of, quantile_range, unit_variance):
    values = data()
    options = {**PER, "quantile_range": quantile_range, "unit_variance": unit_variance}
    chain = chain_of([{"robust": options}], values)
    scaler = preprocessing.RobustScaler(quantile_range=quantile_range, unit_variance=unit_variance).fit(values)
    for given in (values, values[::-3] * 1.5 - 40):
        np.testing.assert_allclose(chain(given), scaler.transform(given), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(chain.inverse(chain(values)), values, rtol=1e-13, atol=1e-13 * np.abs(values).max())


@pytest.mark.parametrize("unit_variance", [False, True])
def test_median_absolute_deviation_of_scipy_to_1e_12(fitted, unit_variance):
    values = data()
    step = fitted({"robust": {**PER, "scale": "mad", "unit_variance": unit_variance}}, values)
    spread = stats.median_abs_deviation(values, axis=0, scale="normal" if unit_variance else 1.0)
    varied = spread > 0
    assert varied.sum() == 5
    np.testing.assert_allclose(step.parameters["spread"][varied], spread[varied], rtol=1e-12)
    expected = (values - np.median(values, axis=0))[:, varied] / spread[varied]
    np.testing.assert_allclose(step(values, DIMS)[:, varied], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scale", ["iqr", "mad"])
def test_mean_1e8_and_unit_variance_lose_nothing(fitted, scale):
    """801 values: the quartiles are values, and differences of values at 1e8 are exact."""
    values = np.random.default_rng(1).normal(1e8, 1.0, (801, 1))
    options = {"scale": scale, "unit_variance": True}
    output = fitted({"robust": options}, values)(values, DIMS)
    np.testing.assert_array_equal(output, fitted({"robust": options}, values - 1e8)(values - 1e8, DIMS))
    assert abs(output.std() - 1) < 0.1


def test_without_spread_a_feature_is_centered(fitted):
    values = np.array([[5.0, 1.0], [5.0, 1.0], [5.0, 1.0], [5.0, 9.0]])
    for options in ({}, {"scale": "mad"}):
        step = fitted({"robust": {**PER, **options}}, values)
        assert step.parameters["spread"].tolist() == [1.0, 2.0 if options == {} else 1.0]
        assert step(values, DIMS)[:, 0].tolist() == [0.0] * 4


def test_nan_and_infinities_do_not_count_and_stay(fitted):
    values = np.array([[1.0, NAN], [NAN, INF], [2.0, NAN], [INF, -INF], [4.0, NAN], [-INF, NAN], [8.0, NAN], [16.0, NAN]])
    step = fitted({"robust": PER}, values)
    assert step.parameters["median"].tolist() == [4.0, 0.0]
    assert step.parameters["spread"].tolist() == [6.0, 1.0]
    np.testing.assert_array_equal(step(values, DIMS)[:, 0], [-0.5, NAN, -1 / 3, INF, 0.0, -INF, 2 / 3, 2.0])
    np.testing.assert_array_equal(step(values, DIMS)[:, 1], values[:, 1])
    asked = fitted({"robust": PER}, np.column_stack([values, np.arange(8.0)]), DIMS, "propagate")
    assert np.isnan(asked.parameters["median"]).tolist() == [True, True, False]
    assert np.isnan(asked.parameters["spread"]).tolist() == [True, True, False]


def test_within_the_stated_bound_where_the_distribution_is_rounded(rounded_statistics):
    values = data()[:, :5]
    statistics = rounded_statistics(values)
    error = statistics.distribution.relative_error
    step = Robust(per=("feature",)).fit(statistics)
    low, median, high = np.percentile(values, [25, 50, 75], axis=0)
    assert (np.abs(step.parameters["median"] - median) <= error * np.abs(median)).all()
    assert (np.abs(step.parameters["spread"] - (high - low)) <= error * (np.abs(low) + np.abs(high)) * (1 + 1e-9)).all()
    assert (step.parameters["spread"] != high - low).any()


def test_what_overflows_is_refused(fitted):
    for options in ({}, {"scale": "mad", "unit_variance": True}):
        with pytest.raises(DataError, match="overflows") as caught:
            fitted({"robust": options}, np.array([[-1.7e308], [-1.7e308], [0.1], [1.7e308], [1.7e308]]))
        assert "affine" in caught.value.remedy


@pytest.mark.parametrize(
    "options",
    [
        {"scale": "std"},
        {"quantile_range": [75, 25]},
        {"quantile_range": [-1, 75]},
        {"quantile_range": [25, 101]},
        {"quantile_range": [0, 75], "unit_variance": True},
        {"quantile_range": [10, 90], "scale": "mad"},
    ],
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ConfigError, match="robust"):
        parse_chain([{"robust": options}])


def test_the_whole_range_may_be_the_spread(fitted):
    step = fitted({"robust": {"quantile_range": [0, 100]}}, np.array([[1.0], [2.0], [9.0]]))
    assert (float(step.parameters["median"]), float(step.parameters["spread"])) == (2.0, 8.0)


def test_stored_spread_of_zero_is_refused():
    with pytest.raises(ManifestError, match="divide by zero"):
        Robust().restore({"median": np.array(1.0), "spread": np.array(0.0)})


def test_a_spread_that_the_buckets_do_not_tell_is_refused() -> None:
    """A mode that is much narrower than the values around it are apart."""
    generator = np.random.default_rng(0)
    values = np.concatenate([generator.normal(1, 1e-6, 280_000), generator.normal(0, 1, 120_000)])
    for options in ({"scale": "mad"}, {"quantile_range": [40, 70]}):
        with pytest.raises(DataError, match="too small beside"):
            fit(values, normalize=[{"robust": options}])
        shifted = values - 1  # what the message tells to do
        spread = float(fit(shifted, normalize=[{"robust": options}]).chain.steps[0].parameters["spread"])
        low, high = np.percentile(shifted, [40, 70])
        exact = high - low if "quantile_range" in options else np.median(np.abs(shifted - np.median(shifted)))
        assert abs(spread / exact - 1) < 0.005


def test_zero_spread_of_data_that_is_mostly_zero_is_taken_as_one() -> None:
    generator = np.random.default_rng(1)
    values = np.where(generator.random(100_000) < 0.8, 0.0, generator.gamma(2, 3, 100_000))
    assert float(fit(values, normalize=["robust"]).chain.steps[0].parameters["spread"]) == 1.0
