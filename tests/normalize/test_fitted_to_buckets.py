"""Steps fitted to the buckets of a float histogram, where values are more than it keeps: within the error that it states."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.normalize.clip_percentiles import ClipPercentiles
from pipeline.normalize.power import Power
from pipeline.normalize.quantile import Quantile
from pipeline.normalize.robust import Robust
from pipeline.statistics.float_histogram import FloatHistogram
from pipeline.statistics.moments import Moments

preprocessing = pytest.importorskip("sklearn.preprocessing", reason="scikit-learn is the oracle")

DRAWS = 150_000
SHAPES = {
    "lognormal": lambda rng: rng.lognormal(0, 1, DRAWS),
    "normal": lambda rng: rng.normal(3, 2, DRAWS),
    "unit variance at 1e8": lambda rng: rng.normal(1e8, 1, DRAWS),
    "many zeros": lambda rng: np.where(rng.random(DRAWS) < 0.3, 0.0, rng.gamma(2, 3, DRAWS)),
}


@pytest.fixture(scope="module", params=list(SHAPES))
def fitted_to(request):
    values = SHAPES[request.param](np.random.default_rng(0))
    distribution = FloatHistogram.empty((), values.dtype).update(values, ()).distribution()
    assert 0 < distribution.relative_error < 0.004
    statistics = Moments.empty((), values.dtype).update(values, ()).statistics()
    return values, replace(statistics, distribution=distribution), distribution.relative_error


def test_percentiles(fitted_to):
    values, statistics, error = fitted_to
    low, median, high = np.percentile(values, [0.5, 50, 99.5])
    clip = ClipPercentiles().fit(statistics).parameters
    robust = Robust(scale="mad").fit(statistics).parameters
    deviation = np.median(np.abs(values - median))
    for found, exact, bound in (
        (clip["low"], low, error * abs(low)),
        (clip["high"], high, error * abs(high)),
        (robust["median"], median, error * abs(median)),
        (robust["spread"], deviation, 2 * error * np.abs(values).max()),
    ):
        assert abs(found - exact) <= bound


def test_outputs(fitted_to):
    """Far below what a network could notice: 1e-3 in probability, 2e-3 standard deviations of a power."""
    values, statistics, _ = fitted_to
    column = values[:, np.newaxis]
    uniform = Quantile().fit(statistics)(values, ("sample",))
    expected = preprocessing.QuantileTransformer(subsample=None).fit_transform(column).ravel()
    np.testing.assert_allclose(uniform, expected, atol=1e-3)
    power = Power().fit(statistics)(values, ("sample",))
    assert abs(power.mean()) < 1e-3 and abs(power.std() - 1) < 1e-3
    if values.mean() < 1e6:  # beyond, scikit-learn finds no lambda
        expected = preprocessing.PowerTransformer().fit_transform(column).ravel()
        np.testing.assert_allclose(power, expected, atol=2e-3)
