"""The same outputs as scikit-learn's scalers on the same data, to 1e-12 in float64."""

from __future__ import annotations

import numpy as np
import pytest

preprocessing = pytest.importorskip("sklearn.preprocessing", reason="scikit-learn is the oracle")


@pytest.fixture(params=["normal", "counts", "far from zero", "constants and zeros", "small"])
def values(request):
    rng = np.random.default_rng(11)
    data = {
        "normal": lambda: rng.normal(3.0, 2.0, (500, 7)),
        "counts": lambda: rng.negative_binomial(2, 0.1, (500, 7)).astype(np.float64),
        "far from zero": lambda: rng.normal(100.0, 1.0, (500, 7)),
        "constants and zeros": lambda: np.column_stack([np.full(500, 4.0), np.zeros(500), rng.normal(size=500)]),
        "small": lambda: rng.normal(0.0, 1e-8, (500, 7)),
    }
    return data[request.param]()


@pytest.fixture
def same(chain_of, values):
    """Whether a step does to the data, to new data and backwards what a scaler does."""

    def check(entry, scaler, atol=1e-12):
        chain = chain_of([entry], values)
        new = values[::-3] * 1.5 - 0.25 * np.abs(values).max()
        scaler.fit(values)
        for data in (values, new):
            expected = scaler.transform(data.copy())
            np.testing.assert_allclose(chain(data), expected, rtol=1e-12, atol=atol * max(1.0, np.abs(expected).max()))
        if chain.invertible:
            magnitude = np.abs(values).max()
            np.testing.assert_allclose(chain.inverse(chain(values)), values, rtol=1e-12, atol=1e-12 * magnitude)

    return check


def test_standard_scaler(same):
    same({"zscore": {"per": ["feature"]}}, preprocessing.StandardScaler())


@pytest.mark.parametrize("ends", [(0, 1), (-1, 1), (0.1, 0.9)])
@pytest.mark.parametrize("clip", [False, True])
def test_min_max_scaler(same, ends, clip):
    same({"minmax": {"per": ["feature"], "range": ends, "clip": clip}}, preprocessing.MinMaxScaler(ends, clip=clip))


def test_max_abs_scaler(same):
    same({"maxabs": {"per": ["feature"]}}, preprocessing.MaxAbsScaler())


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_normalizer(same, norm):
    same({"unit_norm": {"norm": norm}}, preprocessing.Normalizer(norm))


def test_missing_values_are_disregarded_alike(chain_of):
    values = np.random.default_rng(2).normal(size=(50, 3))
    values[::7, 1] = np.nan
    expected = preprocessing.StandardScaler().fit_transform(values)
    np.testing.assert_allclose(chain_of([{"zscore": {"per": ["feature"]}}], values)(values), expected, rtol=1e-12, atol=1e-12)
