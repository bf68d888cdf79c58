"""Weighted summaries: a function of pairs of values and weights alone, exact; whole weights are repeated samples."""

from __future__ import annotations

import math
import pickle
from fractions import Fraction
from functools import reduce
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from pipeline.block import tile
from pipeline.errors import ManifestError
from pipeline.statistics import SUMMARIES, Distribution, Statistics, derive_affine
from pipeline.statistics import float_histogram as float_histogram_module
from pipeline.statistics.weighted import Weighted
from pipeline.statistics.weights import WeightSums
from tests.statistics import samples

EXAMPLES = settings(max_examples=30, deadline=None, derandomize=True, database=None)
KINDS = ("moments", "histogram", "float_histogram")
WEIGHTS = (0.1, 0.5, 1.0, 3.0, 1e-300, 2.0**70)


def weighted(name: str, values: NDArray[Any], weights: NDArray[Any], axes: tuple[int, ...]) -> Weighted:
    shape = tuple(values.shape[axis] for axis in axes)
    empty = SUMMARIES[name].empty(shape, values.dtype)
    return Weighted({float(weight): empty.update(values[weights == weight], axes) for weight in np.unique(weights)})


def bits(arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    return {name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()}


def bits_of(summary: Weighted) -> dict[float, Any]:
    return {weight: bits(part.arrays()) for weight, part in summary.parts.items()}


def distribution_bits(distribution: Distribution) -> Any:
    arrays = {name: getattr(distribution, name) for name in ("values", "counts", "ends")}
    return bits(arrays), distribution.relative_error, distribution.feature_shape


def drawn(name: str, data: st.DataObject) -> tuple[NDArray[Any], NDArray[np.float64]]:
    values = data.draw(samples.arrays(samples.DTYPES[name]).filter(lambda array: len(array) > 0))
    return values, data.draw(hnp.arrays(np.float64, len(values), elements=st.sampled_from(WEIGHTS)))


@pytest.mark.parametrize("name", KINDS)
@EXAMPLES
@given(data=st.data(), axes=st.sampled_from([(), (1,), (2,), (1, 2)]))
def test_merge_is_associative_and_commutative(name: str, data: st.DataObject, axes: tuple[int, ...]) -> None:
    values, weights = drawn(name, data)
    parts = [weighted(name, values[start::3], weights[start::3], axes) for start in range(min(3, len(values)))]
    whole = bits_of(weighted(name, values, weights, axes))
    for order in permutations(parts):
        assert bits_of(reduce(Weighted.merge, order)) == whole
        assert bits_of(reduce(lambda one, other: other.merge(one), order)) == whole
    assert bits_of(pickle.loads(pickle.dumps(weighted(name, values, weights, axes)))) == whole


@pytest.mark.parametrize("name", KINDS)
@EXAMPLES
@given(data=st.data(), step=st.integers(1, 3))
def test_boxes_of_features_join(name: str, data: st.DataObject, step: int) -> None:
    values, weights = drawn(name, data)
    boxes = list(tile(values.shape[1:2], (step,)))
    if not boxes:
        return
    parts = [(box, weighted(name, values[:, *box.slices], weights, (1,))) for box in boxes]
    assert bits_of(Weighted.join(parts, values.shape[1:2])) == bits_of(weighted(name, values, weights, (1,)))


def _moments(values: list[float], weights: list[float]) -> tuple[Fraction, Fraction, Fraction]:
    """Σw, the mean and Σw(x − mean)², in rational arithmetic."""
    pairs = [(Fraction(value), Fraction(weight)) for value, weight in zip(values, weights, strict=True)]
    total = sum((weight for _, weight in pairs), Fraction(0))
    mean = sum((value * weight for value, weight in pairs), Fraction(0)) / total
    return total, mean, sum((weight * (value - mean) ** 2 for value, weight in pairs), Fraction(0))


@pytest.mark.parametrize("scale", [1.0, 1e-3, 3.7, 2.0**80])
def test_moments_are_correctly_rounded(scale: float) -> None:
    generator = np.random.default_rng(3)
    values = generator.normal(1e8, 1.0, 60)
    weights = generator.choice([0.1, 0.7, 1.0, 2.5], 60) * scale
    statistics = weighted("moments", values, weights, ()).statistics()
    total, mean, second = _moments(values.tolist(), weights.tolist())
    assert float(statistics.mean()) == float(mean)
    assert float(statistics.variance(ddof=0)) == float(second / total)
    if total > 1:
        assert float(statistics.variance(ddof=1)) == float(second / (total - 1))
        assert math.isclose(float(statistics.std(ddof=1)), math.sqrt(second / (total - 1)), rel_tol=1e-15)
    pairs = [(Fraction(x), Fraction(w)) for x, w in zip(values.tolist(), weights.tolist(), strict=True)]
    third, fourth = (float(sum(w * (x - mean) ** k for x, w in pairs) / total) for k in (3, 4))
    assert math.isclose(float(statistics.skewness()), third / float(second / total) ** 1.5, rel_tol=1e-13)
    assert math.isclose(float(statistics.kurtosis()), fourth / float(second / total) ** 2 - 3, rel_tol=1e-12)
    assert statistics.weights is not None and float(statistics.weights.finite()) == float(total)
    assert statistics.weights.whole == (scale == 2.0**80)


def test_ddof_is_taken_from_the_sum_of_weights() -> None:
    values = np.array([1.0, 2.0, 4.0])
    statistics = weighted("moments", values, np.array([0.25, 0.25, 0.5]), ()).statistics()
    assert np.isnan(statistics.variance(ddof=1)) and float(statistics.variance(ddof=0)) == 1.6875
    assert statistics.unavailable() == {"variance": "weights of 1 or less in sum"}
    assert statistics.to_json()["nobs"] == 3 and statistics.to_json()["weight"] == 1.0


@pytest.mark.parametrize("limit", [8, 65536])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "uint8"])
def test_whole_weights_are_repetition(dtype: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(float_histogram_module, "ENTRIES_PER_FEATURE", (limit, limit))
    generator = np.random.default_rng(7)
    values = generator.normal(100, 30, (200, 3)).clip(0, 255).astype(dtype)
    weights = generator.integers(1, 5, 200)
    again = np.repeat(values, weights, axis=0)
    ours, theirs = weighted("moments", values, weights, (1,)), weighted("moments", again, np.ones(len(again)), (1,))
    _assert_same_but_for_counts(ours.statistics(), theirs.statistics())
    repeated = SUMMARIES["float_histogram"].empty((3,), again.dtype).update(again, (1,))
    found = weighted("float_histogram", values, weights, (1,)).distribution()
    assert distribution_bits(found) == distribution_bits(repeated.distribution())  # type: ignore[union-attr]
    if dtype == "uint8":
        table = np.log1p(np.arange(256.0))
        ours, theirs = weighted("histogram", values, weights, (1,)), weighted("histogram", again, np.ones(len(again)), (1,))
        one, other = ours.statistics(table=table), theirs.statistics(table=table)
        _assert_same_but_for_counts(one, other)
        assert one.distribution is not None and other.distribution is not None
        assert distribution_bits(one.distribution) == distribution_bits(other.distribution)


def _assert_same_but_for_counts(one: Statistics, other: Statistics) -> None:
    counts = ("nobs", "nan", "posinf", "neginf", "zeros")
    arrays = [{name: array for name, array in each.arrays().items() if name not in counts} for each in (one, other)]
    assert bits(arrays[0]) == bits(arrays[1])
    assert one.observations() == other.observations()


def test_fractional_weights_give_numpys_inverted_cdf() -> None:
    generator = np.random.default_rng(11)
    values, weights = generator.normal(0, 5, (300, 4)).round(1), generator.choice([0.25, 0.5, 1.0, 2.75], 300)
    distribution = weighted("float_histogram", values, weights, (1,)).distribution()
    wanted = np.array([0.0, 0.01, 0.25, 0.5, 0.73, 0.99, 1.0])
    expected = np.quantile(values, wanted, axis=0, weights=weights, method="inverted_cdf")
    np.testing.assert_array_equal(distribution.quantile(wanted), expected)
    np.testing.assert_array_equal(distribution.nobs(), np.full(4, weights.sum()))
    center = np.average(values, axis=0, weights=weights)
    deviation = np.average(np.abs(values - center), axis=0, weights=weights)
    np.testing.assert_allclose(distribution.mean_absolute_deviation(center), deviation, rtol=1e-13)
    median = np.quantile(values, 0.5, axis=0, weights=weights, method="inverted_cdf")
    spread = np.quantile(np.abs(values - median), 0.5, axis=0, weights=weights, method="inverted_cdf")
    np.testing.assert_array_equal(distribution.median_absolute_deviation(), spread)


def test_a_feature_without_values_has_no_quantile() -> None:
    values = np.array([[1.0, np.nan], [3.0, np.nan], [9.0, np.nan]])
    distribution = weighted("float_histogram", values, np.array([0.5, 0.5, 1.5]), (1,)).distribution()
    np.testing.assert_array_equal(distribution.quantile([0.2, 0.9]), [[1.0, np.nan], [9.0, np.nan]])


def test_whole_weights_beyond_int64_are_taken_as_fractions() -> None:
    values, weights = np.array([1.0, 2.0, 3.0, 5.0]), np.array([2.0**70, 1.0, 1.0, 2.0**71])
    assert weighted("float_histogram", values, weights, ()).distribution().quantile([0.3, 0.34]).tolist() == [1.0, 5.0]
    assert weighted("moments", values, weights, ()).statistics().observations() == 3 * 2**70 + 2


def test_an_affine_step_is_derived_with_weights() -> None:
    generator = np.random.default_rng(5)
    values, weights = generator.integers(-9, 9, (50, 2)) / 8, generator.choice([0.1, 0.3, 4.0], 50)
    statistics = weighted("moments", values, weights, (1,)).statistics()
    moved = (values - 3) * 4 + 0.5  # without rounding
    direct = weighted("moments", moved, weights, (1,)).statistics()
    derived = derive_affine(statistics, 3.0, 4.0, 0.5, moved.min(axis=0), moved.max(axis=0))
    assert bits(derived.sums.arrays()) == bits(direct.sums.arrays())
    assert derived.to_json() == {**direct.to_json(), "zeros": derived.to_json()["zeros"]}


def test_features_are_summed_with_their_weights() -> None:
    generator = np.random.default_rng(6)
    values, weights = generator.normal(0, 1, (40, 3, 2)), generator.choice([0.1, 2.0], 40)
    kept = weighted("moments", values, weights, (1, 2)).statistics()
    direct = weighted("moments", values, weights, (2,)).statistics()
    assert bits(kept.sum_features((0,)).arrays()) == bits(direct.arrays())
    taken = kept.take_features(0, np.array([0, 2])).arrays()
    assert bits(taken) == bits(weighted("moments", values[:, [0, 2]], weights, (1, 2)).statistics().arrays())


def test_weights_come_back_from_their_arrays() -> None:
    values = np.array([[1.0, np.nan], [3.0, 4.0]])
    statistics = weighted("moments", values, np.array([0.1, 3.0]), (1,)).statistics()
    again = Statistics.from_arrays(statistics.arrays())
    assert bits(again.arrays()) == bits(statistics.arrays())
    assert again.to_json() == statistics.to_json()
    assert again.weights is not None and again.weights.finite().tolist() == [3.1, 3.0]
    broken = {**statistics.arrays(), "weights": np.zeros((1, 2, 3), np.uint32)}
    with pytest.raises(ManifestError, match="wrong shape"):
        Statistics.from_arrays(broken)


@pytest.mark.parametrize("weight", [1.0, 4.0, 2.0**100, 0.1, 5e-324])
def test_sums_of_weights_are_exact(weight: float) -> None:
    sums = WeightSums.of([(weight, np.array([7, 0]), np.array([8, 1]))])
    integers, shift = sums.in_unit()
    assert [Fraction(integer, 2**shift) for integer in integers] == [7 * Fraction(weight), 0]
    assert sums.most(finite=True) == math.floor(7 * Fraction(weight))
    assert sums.most(finite=False) == math.floor(8 * Fraction(weight))
