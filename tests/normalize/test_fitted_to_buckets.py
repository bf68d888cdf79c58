"""Steps fitted to the buckets of a float histogram, where values are more than it keeps: within the error that it states."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.normalize.clip_percentiles import ClipPercentiles
from pipeline.normalize.power import Power
from pipeline.normalize.quantile import Quantile
from pipeline.normalize.robust import Robust
from pipeline.statistics.float_histogram import FloatHistogram
from pipeline.statistics.moments import Moments
from tests.statistics.among import distribution_among

preprocessing = pytest.importorskip("sklearn.preprocessing", reason="scikit-learn is the oracle")

DRAWS = 200_000
SHAPES = {
    "lognormal": lambda rng: rng.lognormal(0, 1, DRAWS),
    "normal": lambda rng: rng.normal(3, 2, DRAWS),
    "unit variance at 1e8": lambda rng: rng.normal(1e8, 1, DRAWS),
    "many zeros": lambda rng: np.where(rng.random(DRAWS) < 0.3, 0.0, rng.gamma(2, 3, DRAWS)),
    "mostly one value amid others": lambda rng: np.where(rng.random(DRAWS) < 0.6, 5.0, rng.normal(5, 1, DRAWS)),
    "often one value amid others": lambda rng: np.where(rng.random(DRAWS) < 0.3, -0.1, rng.normal(0, 1, DRAWS)),
    "one value of two modes": lambda rng: np.where(rng.random(DRAWS) < 0.6, 5.0, rng.normal(0, 1, DRAWS)),
    "a narrow mode far away": lambda rng: np.where(rng.random(DRAWS) < 0.5, 1e6 + rng.random(DRAWS), rng.normal(0, 1, DRAWS)),
    "mostly a narrow mode": lambda rng: np.where(rng.random(DRAWS) < 0.7, rng.normal(1e6, 1, DRAWS), rng.random(DRAWS)),
    "two narrow modes": lambda rng: rng.choice([1.1, 1.9], DRAWS, p=[0.4, 0.6]) + rng.normal(0, 1e-7, DRAWS),
    "negative": lambda rng: -rng.gamma(0.3, 2, DRAWS),
    "heavy tails": lambda rng: rng.standard_cauchy(DRAWS),
}
WITH_POWER = ("lognormal", "normal", "unit variance at 1e8", "many zeros")
IN_OUTPUT = 1e-3


@pytest.fixture(scope="module", params=[(name, many) for name in SHAPES for many in (False, True)], ids=str)
def fitted_to(request):
    name, many = request.param
    values = SHAPES[name](np.random.default_rng(0))
    alone = FloatHistogram.empty((), values.dtype).update(values, ())
    distribution = distribution_among(values) if many else alone.distribution()
    assert 0 < distribution.relative_error < 0.004
    assert distribution.rank_error < (0.05 if many else 1e-3 if "one value" not in name else 0.01)
    statistics = Moments.empty((), values.dtype).update(values, ()).statistics()
    return name, values, replace(statistics, distribution=distribution)


def test_percentiles(fitted_to):
    _, values, statistics = fitted_to
    error = statistics.distribution.relative_error
    low, median, high = np.percentile(values, [0.5, 50, 99.5])
    clip = ClipPercentiles().fit(statistics).parameters
    robust = Robust(scale="mad").fit(statistics).parameters
    for found, exact in ((clip["low"], low), (clip["high"], high), (robust["median"], median)):
        assert abs(found - exact) <= error * abs(exact)


def test_spreads(fitted_to):
    """In terms of the spread itself, and 1 where it is 0."""
    _, values, statistics = fitted_to
    low, high = np.percentile(values, [25, 75])
    deviation = np.median(np.abs(values - np.median(values)))
    for options, exact in (({}, high - low), ({"scale": "mad"}, deviation)):
        spread = Robust(**options).fit(statistics).parameters["spread"]
        assert spread == pytest.approx(exact or 1.0, rel=0.005)


def test_quantile_output(fitted_to):
    """Within 1e-3 in probability, and as much more as is stated; values that occur often are among those that are tried."""
    _, values, statistics = fitted_to
    expected = Quantile().restore({"quantiles": np.percentile(values, np.linspace(0, 1, 1000) * 100)})
    error = statistics.distribution.rank_error
    some = np.concatenate([values[::7], [5.0, -0.1, 0.0]])
    fitted = Quantile().fit(statistics)
    np.testing.assert_allclose(fitted(some, ("sample",)), expected(some, ("sample",)), atol=IN_OUTPUT + error)


def test_an_order_that_is_lost_is_refused():
    rng = np.random.default_rng(0)
    values = np.where(rng.random(DRAWS) < 0.5, 1 + 1e-6 * rng.normal(0, 1, DRAWS), rng.normal(0, 1, DRAWS))
    distribution = FloatHistogram.empty((), values.dtype).update(values, ()).distribution()
    statistics = replace(Moments.empty((), values.dtype).update(values, ()).statistics(), distribution=distribution)
    with pytest.raises(DataError, match="to tell their order") as caught:
        Quantile().fit(statistics)
    assert caught.value.found == "1 of 1 features with more than a tenth of their values in one bucket"


def test_outputs(fitted_to):
    """Far below what a network could notice: 1e-3 in probability, 2e-3 standard deviations of a power."""
    name, values, statistics = fitted_to
    if name not in WITH_POWER:
        pytest.skip("a shape for quantiles")
    column = values[:, np.newaxis]
    uniform = Quantile().fit(statistics)(values, ("sample",))
    expected = preprocessing.QuantileTransformer(subsample=None).fit_transform(column).ravel()
    np.testing.assert_allclose(uniform, expected, atol=IN_OUTPUT + statistics.distribution.rank_error)
    power = Power().fit(statistics)(values, ("sample",))
    assert abs(power.mean()) < 1e-3 and abs(power.std() - 1) < 1e-3
    if values.mean() < 1e6:  # beyond, scikit-learn finds no lambda
        expected = preprocessing.PowerTransformer().fit_transform(column).ravel()
        np.testing.assert_allclose(power, expected, atol=2e-3)
