"""Values that occur often amid others that share their bucket: found exactly, and nothing is found that is not there."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.statistics import SUMMARIES, float_histogram
from pipeline.statistics.float_histogram import FloatHistogram
from pipeline.statistics.weighted import Weighted
from tests.statistics.among import distribution_among

SIZE = 2**17 + 1
FINE = np.arange(513) / 512


def others(name, rng):
    """What lies around the values that occur often."""
    return {
        "normal": lambda: rng.normal(1, 2, SIZE),
        "uniform": lambda: rng.random(SIZE),
        "lognormal": lambda: rng.lognormal(0, 1, SIZE),
        "fixed point": lambda: np.rint(rng.normal(0, 2, SIZE) * 2**16) / 2**16,
        "both signs, heavy tails": lambda: rng.standard_cauchy(SIZE),
    }[name]()


def with_ties(values, ties, rng):
    """`values`, some of them replaced by the keys of `ties`, with the probabilities that these have there."""
    at, start = rng.random(SIZE), 0.0
    for tie, part in ties.items():
        values = np.where((at >= start) & (at < start + part), tie, values)
        start += part
    return values


def count_of(distribution, value):
    return distribution.counts[distribution.values == value].sum()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["normal", "uniform", "lognormal", "fixed point", "both signs, heavy tails"])
@pytest.mark.parametrize("ties", [{0.7: 0.6}, {0.7: 0.2}, {1.3: 0.05}, {0.7: 0.4, 1.3: 0.15}, {-0.1: 0.1, 0.3: 0.4}])
def test_they_are_found(ties, name, dtype):
    rng = np.random.default_rng(31)
    values = with_ties(others(name, rng), ties, rng).astype(dtype)
    distribution = distribution_among(values)
    exact = np.quantile(values, FINE, method="nearest")
    found, (low, high) = distribution.quantile(FINE), distribution.bounds(FINE)
    assert ((low <= exact) & (exact <= high)).all()
    for tie in (np.array(each, dtype).astype(np.float64) for each in ties):
        truth = np.count_nonzero(values == tie)
        assert truth - 0.03 * SIZE <= count_of(distribution, tie) <= truth
        assert np.mean(found == tie) > np.mean(exact == tie) - 0.02
    assert distribution.rank_error < 0.02


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", [3e-5, 1e-4, 1e-3])
def test_many_values_in_one_bucket_are_not_taken_for_one(width, dtype):
    rng = np.random.default_rng(32)
    values = with_ties(rng.normal(0, 1, SIZE), {1.2: 0.4}, rng)
    values = np.where(values == 1.2, 1.2 + width * rng.random(SIZE), values).astype(dtype)
    distribution = distribution_among(values)
    low, high = distribution.bounds(FINE)
    exact = np.quantile(values, FINE, method="nearest")
    assert ((low <= exact) & (exact <= high)).all()
    assert distribution.rank_error > 0.3


@pytest.mark.parametrize("parts", [(0.5, 0.5), (0.4, 0.3, 0.3), (0.8, 0.2), (0.95, 0.05), (0.99, 0.005, 0.005)])
def test_a_few_values_in_one_bucket_are_within_the_bounds(parts):
    for seed in range(10):
        rng = np.random.default_rng([33, seed])
        few = 1.2 + 1e-4 * rng.random(len(parts))
        values = np.where(rng.random(SIZE) < 0.4, rng.choice(few, SIZE, p=parts), rng.normal(0, 1, SIZE))
        low, high = distribution_among(values).bounds(FINE)
        exact = np.quantile(values, FINE, method="nearest")
        assert ((low <= exact) & (exact <= high)).all()


def test_they_are_found_in_any_order_and_of_any_part():
    rng = np.random.default_rng(34)
    values = with_ties(rng.normal(1, 2, SIZE), {0.7: 0.5}, rng)
    whole = distribution_among(values)
    again = distribution_among(values[::-1].copy())
    for name in ("values", "counts", "ends", "radius", "even"):
        assert getattr(whole, name).tobytes() == getattr(again, name).tobytes()
    turned = distribution_among(-values)
    assert count_of(turned, -0.7) == count_of(whole, 0.7) > 0


@pytest.mark.parametrize("weights", [(1.0, 3.0), (0.25, 1.5)])
def test_with_weights_too(weights, monkeypatch):
    monkeypatch.setattr(float_histogram, "ENTRIES_PER_FEATURE", (512, 512))
    rng = np.random.default_rng(35)
    values, which = with_ties(rng.normal(1, 2, SIZE), {0.7: 0.5}, rng), rng.integers(0, 2, SIZE)
    histogram = SUMMARIES["float_histogram"]
    parts = {weight: histogram.empty((), values.dtype).update(values[which == at], ()) for at, weight in enumerate(weights)}
    distribution = Weighted(parts).distribution()
    weight_of = np.array(weights)[which]
    truth = weight_of[values == 0.7].sum()
    assert truth - 0.03 * weight_of.sum() <= count_of(distribution, 0.7) <= truth
    assert distribution.quantile([0.35, 0.5, 0.6]).tolist() == [0.7] * 3
    if weights == (1.0, 3.0):
        repeated = FloatHistogram.empty((), values.dtype).update(np.repeat(values, weight_of.astype(int)), ()).distribution()
        for name in ("values", "counts", "radius"):
            assert getattr(repeated, name).tobytes() == getattr(distribution, name).tobytes()


def test_subnormal_values_and_zeros_count_too(monkeypatch):
    monkeypatch.setattr(float_histogram, "ENTRIES_PER_FEATURE", (64, 64))
    rng = np.random.default_rng(36)
    for dtype, step in ((np.float32, 2.0**-149), (np.float64, 5e-324)):
        values = (rng.integers(0, 2**22, SIZE).astype(dtype) * dtype(step)).astype(dtype)
        values[rng.random(SIZE) < 0.5] = dtype(2_345_678) * dtype(step)
        values[rng.random(SIZE) < 0.1] = 0.0
        distribution = FloatHistogram.empty((), values.dtype).update(values, ()).distribution()
        assert distribution.quantile(0.55) == 2_345_678 * step
