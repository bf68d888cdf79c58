"""Quantiles from bit-pattern buckets against exact ones on many shapes of data, and what they take of memory."""

from __future__ import annotations

import math
from collections import Counter
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.block import Block
from pipeline.errors import DataError, ManifestError
from pipeline.statistics import float_histogram
from pipeline.statistics.buckets import FULL_BITS, LEAST_BITS
from pipeline.statistics.float_histogram import FloatHistogram, entries_at_most, float_histogram_bytes, limits_of
from tests.statistics.among import MANY_FEATURES, distribution_among

EXAMPLES = settings(max_examples=100, deadline=None, derandomize=True, database=None)
PROBABILITIES = np.array([0.0, 0.005, 0.01, 0.05, 0.25, 0.5, 0.75, 0.9, 0.99, 0.995, 1.0])
SIZE = 2**17 + 1
TOLERANCE = 0.005


def shapes():
    rng = np.random.default_rng(11)
    normal = rng.normal(size=SIZE)
    constant_but_one = np.full(SIZE, 0.1)
    constant_but_one[77] = 1e30
    yield "normal", normal
    yield "heavy tails", rng.standard_cauchy(SIZE)
    yield "heavier tails", np.exp(np.abs(rng.standard_cauchy(SIZE)).clip(0, 600)) * np.sign(normal)
    yield "spike at zero", np.where(normal > -1, 0.0, rng.lognormal(0, 3, SIZE))
    yield "constant", np.full(SIZE, math.pi)
    yield "two far modes", np.where(normal > 0.3, rng.normal(1e12, 1, SIZE), rng.normal(-1e-12, 1e-14, SIZE))
    yield "all equal but one", constant_but_one
    yield "subnormal", rng.integers(0, 2**40, SIZE) * 5e-324
    yield "smallest subnormal", rng.integers(-700, 700, SIZE) * 5e-324
    yield "negative", -rng.gamma(0.3, 2, SIZE)
    yield "lognormal over 60 octaves", rng.lognormal(0, 60 * math.log(2) / 8, SIZE)
    yield "all octaves", np.ldexp(rng.uniform(0.5, 1, SIZE), rng.integers(-1074, 1024, SIZE))
    yield "integers", rng.integers(-(10**6), 10**9, SIZE)
    yield "counts", rng.poisson(rng.gamma(0.2, 50, SIZE)).astype(np.float32)
    yield "near the largest", rng.uniform(-1, 1, SIZE) * np.finfo(np.float64).max
    yield "float32", rng.lognormal(0, 2, SIZE).astype(np.float32)
    yield "float32 subnormal", rng.integers(-(2**22), 2**22, SIZE).astype(np.float32) * np.float32(1e-45)
    yield "float16", (normal * 1e-4).astype(np.float16)
    some = rng.permutation(SIZE)[: SIZE // 2]
    not_finite = normal.astype(np.float32)
    not_finite[some] = rng.choice([np.nan, np.inf, -np.inf], len(some))
    yield "not finite among them", not_finite
    yield "mean 1e8", rng.normal(1e8, 1, SIZE)
    yield "narrow mode far away", np.where(rng.random(SIZE) < 0.5, normal, rng.uniform(1e6 - 1, 1e6 + 1, SIZE))
    yield "narrow modes in an octave", rng.choice([1.1, 1.9], SIZE) + 1e-7 * normal
    yield "often a value amid others", np.where(rng.random(SIZE) < 0.6, 5.0, rng.normal(5, 1, SIZE))
    often = rng.random(SIZE)
    yield "often two values amid others", np.select([often < 0.4, often < 0.6], [-1.3, 0.7], normal).astype(np.float32)


SHAPES = dict(shapes())


def histogram_of(values, axes=()):
    shape = tuple(values.shape[axis] for axis in axes)
    return FloatHistogram.empty(shape, values.dtype).update(values, axes)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("short", [False, True])
def test_percentiles_are_within_half_a_percent_of_the_exact_ones(name, short):
    values = SHAPES[name]
    distribution = distribution_among(values) if short else histogram_of(values).distribution()
    finite = np.sort(values[np.isfinite(values)].astype(np.float64))
    wanted = np.arange(1025) / 1024
    ranks = (wanted * (finite.size - 1)).astype(int)
    exact = finite[ranks]
    found, (low, high) = distribution.quantile(wanted), distribution.bounds(wanted)
    assert distribution.relative_error <= 2.0**-8 < TOLERANCE
    assert (np.abs(found - exact) <= distribution.relative_error * np.abs(exact) * (1 + 1e-9)).all()
    assert (np.sign(found) == np.sign(exact)).all()
    assert ((low <= exact) & (exact <= high) & (low <= found) & (found <= high)).all()
    below, not_above = (np.searchsorted(finite, found, side) for side in ("left", "right"))
    off = distribution.rank_error * finite.size + 1
    assert ((below - off <= ranks) & (ranks <= not_above + off)).all()
    assert distribution.rank_error < 0.02
    if name == "mean 1e8":
        assert (np.abs(found - exact) <= TOLERANCE * finite.std()).all()
    if name == "narrow mode far away":
        assert (np.abs(found - exact)[exact > 10] <= TOLERANCE).all()


def test_at_mean_1e8_deviations_are_right_beside_the_standard_deviation_too():
    values = np.random.default_rng(12).normal(1e8, 1, (SIZE, 2))
    distribution = histogram_of(values, (1,)).distribution()
    exact = np.quantile(values, PROBABILITIES, axis=0)
    assert np.abs(distribution.quantile(PROBABILITIES) - exact).max() < TOLERANCE
    deviation = np.median(np.abs(values - np.median(values, axis=0)), axis=0)
    np.testing.assert_allclose(distribution.median_absolute_deviation(), deviation, rtol=TOLERANCE)
    mean = values.mean(axis=0)
    np.testing.assert_allclose(distribution.mean_absolute_deviation(mean), np.abs(values - mean).mean(axis=0), rtol=TOLERANCE)


def test_few_different_values_are_kept_exactly():
    for name in ("constant", "all equal but one", "smallest subnormal", "counts"):
        distribution = histogram_of(SHAPES[name]).distribution()
        values, counts = np.unique(SHAPES[name].astype(np.float64) + 0.0, return_counts=True)
        assert distribution.relative_error == 0.0
        assert distribution.values.tobytes() == values.tobytes()
        assert distribution.counts.tolist() == counts.tolist()


def test_zeros_have_no_sign_and_touch_nothing_else():
    values = np.array([0.0, -0.0, 5e-324, -5e-324, 2.0**-1022, -(2.0**-1022)])
    for dtype in (np.float64, np.float32):
        some = values.astype(dtype)
        distribution = histogram_of(some).distribution()
        assert distribution.values.tolist() == np.unique(some.astype(np.float64) + 0.0).tolist()
        assert not np.signbit(distribution.values[distribution.values == 0]).any()


def keys_of(values):
    patterns = np.sort(values[np.isfinite(values)].astype(np.float64) + 0.0).view(np.int64)
    return np.sort(patterns ^ ((patterns >> 63) & np.int64(2**63 - 1))).tolist()


def number(key):
    return np.array(key ^ ((key >> 63) & (2**63 - 1)), np.int64).view(np.float64).item()


def cut(key, bits):
    """A number's first significant bits, the slow way."""
    fraction, exponent = math.frexp(number(key))
    return math.ldexp(math.trunc(math.ldexp(fraction, bits + 1)), exponent - bits - 1) + 0.0


def reference(values, limits):
    """(level, buckets as (first key, last key, count)), straight from the definition."""
    counts = Counter(keys_of(values))
    keys = sorted(counts)
    for bits in range(FULL_BITS, LEAST_BITS - 1, -1):
        if len({cut(key, bits) for key in keys}) <= limits.entries:
            break
    buckets = []
    for key in keys:
        before = buckets[-1][1] if buckets else None
        if before is None or cut(before, bits) != cut(key, bits) or forks_above(before, key, keys) < limits.forks:
            buckets.append([key, key, counts[key]])
        else:
            buckets[-1][1:] = key, buckets[-1][2] + counts[key]
    return bits, buckets


def forks_above(one, other, keys):
    """At how many of the bits above the first in which two keys differ others differ from them."""
    offset = 1 << 63  # so that the shifted keys have no sign
    highest = (one ^ other).bit_length() if (one < 0) == (other < 0) else 64
    differing = {((key + offset) ^ (one + offset)).bit_length() for key in keys}
    return sum(length > highest for length in differing)


def as_listed(bits, buckets):
    """What a histogram of these buckets is."""
    sizes = [(first ^ last).bit_length() for first, last, _ in buckets]
    keys = [first >> size << size for (first, _, _), size in zip(buckets, sizes, strict=True)]
    return keys, sizes, [count for _, _, count in buckets], [bits]


def listed(histogram):
    return *(histogram.arrays()[name].tolist() for name in ("keys", "sizes", "counts")), [histogram.bits.item()]


HARD = st.one_of(
    st.floats(),
    st.floats(width=32),
    st.integers(-40, 40).map(lambda step: 1e8 + step * 2.0**-20),
    st.integers(-40, 40).map(lambda step: 1.5 + step * 2.0**-52),
    st.integers(-300, 300).map(lambda step: step * 5e-324),
    st.integers(0, 60).map(lambda step: 2.0**-step),
    st.integers(0, 60).map(lambda step: 1 + 2.0**-step),
    st.sampled_from([0.0, -0.0, 5.0, -7.25, math.nan, math.inf]),
)


@EXAMPLES
@given(
    values=st.lists(HARD, min_size=1, max_size=150),
    limit=st.integers(1, 70),
    data=st.data(),
)
def test_buckets_are_those_of_the_definition_in_whatever_order_they_are_merged(values, limit, data):
    values = np.array(values)
    if data.draw(st.booleans()):
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=6)))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(float_histogram, "ENTRIES_PER_FEATURE", (limit, limit))
        expected = as_listed(*reference(values, limits_of(1)))
        assert listed(histogram_of(values)) == expected
        parts = [histogram_of(part) for part in np.split(values, cuts)]
        while len(parts) > 1:
            one = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
            at = data.draw(st.integers(0, len(parts) - 1))
            parts[at] = parts[at].merge(one)
        assert listed(parts[0]) == expected


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("limit", [64, 1024, 4096])
def test_large_samples_are_counted_as_defined(dtype, limit, monkeypatch):
    monkeypatch.setattr(float_histogram, "ENTRIES_PER_FEATURE", (limit, limit))
    rng = np.random.default_rng(21)
    values = np.concatenate([rng.normal(1e6, 1, 3000), rng.normal(0, 1, 3000), np.full(2000, 0.7), rng.lognormal(0, 30, 300)])
    values = rng.permutation(values.astype(dtype))
    whole = histogram_of(values)
    assert listed(whole) == as_listed(*reference(values, limits_of(1)))
    parts = [histogram_of(part) for part in np.array_split(values, 17)]
    assert listed(reduce(lambda one, other: other.merge(one), parts)) == listed(whole)


def test_coarse_lists_obey_the_laws_bit_for_bit():
    rng = np.random.default_rng(13)
    values = np.concatenate([rng.normal(1e8, 1, 90_000), rng.lognormal(0, 2, 90_000), -rng.lognormal(-700, 1, 90_000)])
    values = rng.permutation(values)
    whole = histogram_of(values)
    assert LEAST_BITS < whole.bits < FULL_BITS
    parts = [histogram_of(part) for part in np.array_split(values, [10, 90_000, 90_001, 200_000])]
    forward, backward = (reduce(lambda one, other: one.merge(other), order) for order in (parts, parts[::-1]))
    late = reduce(
        lambda summary, part: summary.update(part, ()), np.array_split(values, 3), FloatHistogram.empty((), values.dtype)
    )
    for other in (forward, backward, late, parts[0].merge(parts[2]).merge(parts[3].merge(parts[4]).merge(parts[1]))):
        for name, array in whole.arrays().items():
            assert other.arrays()[name].tobytes() == array.tobytes()


def test_summing_coarse_features_keeps_the_bound():
    values = np.random.default_rng(14).lognormal(0, 8, (70_000, 3)) * np.array([1.0, -1.0, 1e-300])
    values[:, 1] = np.round(values[:, 1].clip(-1000, 0))
    parts = histogram_of(values, (1,))
    summed = parts.sum_features((0,))
    assert parts.bits.min() < parts.bits.max()
    assert summed.bits <= parts.bits.min()
    exact = np.sort(values.ravel())
    at = np.rint(PROBABILITIES * (exact.size - 1)).astype(int)
    found = summed.distribution().quantile(at / (exact.size - 1))
    np.testing.assert_allclose(found, exact[at], rtol=2.0**-8)
    assert summed.counts.sum() == exact.size


@pytest.mark.parametrize("axes", [(1,), (2,), (0, 2), (1, 2)])
def test_features_side_by_side_are_counted_as_each_alone(axes):
    values = np.random.default_rng(15).normal(size=(70, 40, 30)).astype(np.float32)
    histogram = histogram_of(values, axes)
    moved = np.moveaxis(values, axes, range(len(axes))).reshape(histogram.ends.size, -1)
    for feature, its, counts in histogram.distribution().each():
        unique, expected = np.unique(moved[feature].astype(np.float64), return_counts=True)
        assert its.tobytes() == unique.tobytes() and counts.tolist() == expected.tolist()


def test_twenty_thousand_features_stay_within_the_predicted_bytes():
    features, rows, blocks = 20_000, 60, 4
    rng = np.random.default_rng(16)
    summary = FloatHistogram.empty((features,), np.dtype("float32"))
    for _ in range(blocks):
        summary = summary.update(rng.normal(size=(rows, features)).astype(np.float32), (1,))
    taken = sum(array.nbytes for array in summary.arrays().values())
    assert summary.counts.sum() == blocks * rows * features
    assert taken <= float_histogram_bytes(features, blocks * rows) <= float_histogram_bytes(features)
    assert float_histogram_bytes(features) == features * (1024 * 17 + 16 + 4 * 46 * 8)


@pytest.mark.parametrize("mean", [0.0, 3.0, 1e8])
def test_features_with_more_values_than_room_stay_within_the_predicted_bytes(mean):
    features, rows, blocks = MANY_FEATURES, 300, 8
    rng = np.random.default_rng(17)
    summary = FloatHistogram.empty((features,), np.dtype("float64"))
    for _ in range(blocks):
        summary = summary.update(rng.normal(mean, 1, size=(rows, features)), (1,))
    assert summary.bits.max() < FULL_BITS
    taken = sum(array.nbytes for array in summary.arrays().values())
    assert taken <= float_histogram_bytes(features, blocks * rows)
    lengths = np.diff(summary.ends, prepend=0)
    assert (lengths[summary.bits > LEAST_BITS] <= entries_at_most(features)).all()


def test_parts_of_many_features_join_to_the_whole_and_are_no_longer_than_it_is():
    values = np.random.default_rng(18).normal(8, size=(2500, 40)).astype(np.float32)
    boxes = [Block((start,), (stop,)) for start, stop in ((0, 15), (15, 40), (40, MANY_FEATURES))]

    def joined(among, order):
        *parts, nothing = (FloatHistogram.empty(box.shape, values.dtype, among) for box in boxes)
        parts = [part.update(values[:, box.slices[0]], (1,)) for part, box in zip(parts, boxes, strict=False)]
        together = list(zip(boxes, [*parts, nothing], strict=True))
        return parts, FloatHistogram.join([together[at] for at in order], (MANY_FEATURES,))

    parts, whole = joined(MANY_FEATURES, (0, 1, 2))
    assert sum(len(part.keys) for part in parts) == len(whole.keys) <= 40 * entries_at_most(MANY_FEATURES)
    alone, coarsened = joined(None, (0, 1, 2))
    assert sum(len(part.keys) for part in alone) > len(whole.keys)
    for other in (coarsened, joined(MANY_FEATURES, (2, 0, 1))[1]):
        for name, array in whole.arrays().items():
            assert other.arrays()[name].tobytes() == array.tobytes()
    with pytest.raises(DataError, match="wholes of different sizes"):
        parts[0].merge(alone[0])


def test_fewer_features_have_more_room():
    rooms = [entries_at_most(features) for features in (0, 1, 64, 65, 3000, 20_000, 10**6)]
    assert rooms == sorted(rooms, reverse=True)
    assert (rooms[0], rooms[-1]) == (65536, 1024)


def test_a_part_of_fewer_features_than_it_has_is_refused():
    arrays = histogram_of(np.ones((3, 2)), (1,)).arrays()
    with pytest.raises(ManifestError, match="fewer features"):
        FloatHistogram.from_arrays({**arrays, "among": np.array(1)})


@pytest.mark.parametrize(("name", "wrong"), [("bits", 3), ("bits", 53), ("counts", 0), ("ends", -1), ("sizes", 46)])
def test_lists_that_do_not_fit_together_are_refused(name, wrong):
    arrays = histogram_of(np.ones((3, 2)), (1,)).arrays()
    broken = {**arrays, name: arrays[name].copy()}
    broken[name][0] = wrong
    with pytest.raises(ManifestError, match="fit together"):
        FloatHistogram.from_arrays(broken)
