"""The quick sums of floats, panel by panel, against sums of one number after the other: the same bits."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.statistics import Moments
from pipeline.statistics.exact import POWERS
from tests.statistics import oracle, samples, scalar

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def assert_exact(values, axes):
    found = Moments.empty(tuple(values.shape[axis] for axis in axes), values.dtype).update(values, axes).arrays()
    expected = scalar.state(values, axes)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape, found[name].tobytes()) == (array.dtype, array.shape, array.tobytes()), (
            name
        )


def of_bits(rng, shape, dtype, low, high):
    """Random floats of random signs whose exponents are from `low` up to `high`."""
    significands = rng.integers(1, 2, shape) + rng.random(shape)
    return (np.ldexp(significands, rng.integers(low, high, shape)) * rng.choice([-1.0, 1.0], shape)).astype(dtype)


SHAPES = [
    ((1,), (0,)),
    ((40_000,), ()),
    ((16_391,), ()),
    ((1030, 3), (1,)),
    ((15, 3), (1,)),
    ((2100, 10), (1,)),
    ((1029, 140), (1,)),
    ((3, 300), (1,)),
    ((300, 3), (0,)),
    ((5, 300, 3), (1,)),
    ((40, 5, 7), (1,)),
    ((200, 5, 7), (1,)),
    ((3, 4, 70), (1,)),
    ((3, 4, 20_000), (1,)),
    ((6, 5, 9, 4), (1, 3)),
]


@pytest.mark.parametrize(("shape", "axes"), SHAPES)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_way_through_a_block(shape, axes, dtype):
    values = np.random.default_rng(4).normal(3, 5, shape).astype(dtype)
    values[np.random.default_rng(5).random(shape) < 0.1] = 0
    assert_exact(values, axes)


@pytest.mark.parametrize(("shape", "axes"), SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_non_finite_values_are_counted_and_left_out(shape, axes, dtype):
    values = np.random.default_rng(4).normal(3, 5, shape).astype(dtype)
    for seed, wrong in enumerate((np.nan, np.inf, -np.inf, -0.0)):
        values[np.random.default_rng(seed).random(shape) < 0.05] = wrong
    assert_exact(values, axes)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int32", "int64"])
def test_memory_layouts(dtype):
    values = np.random.default_rng(4).normal(60, 15, (70, 18, 33)).clip(0, 255).astype(dtype)
    for axes in ((), (0,), (1,), (2,), (0, 1), (1, 2), (0, 2)):
        for view in samples.layouts(values):
            assert_exact(view, axes)
    frozen = values.copy()
    frozen.flags.writeable = False
    assert_exact(frozen, (1,))
    packed = np.zeros(values.nbytes + 1, np.uint8)[1:].view(dtype).reshape(values.shape)
    packed[...] = values
    assert_exact(packed, (1,))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exponents_from_few_to_all(dtype):
    rng = np.random.default_rng(6)
    least, most = (-149, 128) if dtype == "float32" else (-1074, 1024)
    for low, high in [(0, 1), (0, 13), (0, 14), (0, 20), (0, 21), (-30, 10), (-80, 40), (least, least + 40), (most - 30, most)]:
        assert_exact(of_bits(rng, (1100, 9), dtype, low, high), (1,))
        assert_exact(of_bits(rng, (9, 700), dtype, low, high), (0,))
    assert_exact(of_bits(rng, (1100, 9), dtype, least, most), (1,))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_features_of_very_different_sizes_side_by_side(dtype):
    scales = np.array([1e-30, 1.0, 1e30, 0.0, 1e8, 1e-8, 1e-38, 1e38, 3.0, 1e5])
    assert_exact((np.random.default_rng(2).normal(1, 0.3, (3000, 10)) * scales).astype(dtype), (1,))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 3, 60, 600])
def test_a_few_values_very_near_to_zero(dtype, count):
    rng = np.random.default_rng(count)
    values = rng.normal(2, 0.1, (2000, 8)).astype(dtype)
    values.ravel()[rng.choice(values.size, count, replace=False)] = of_bits(rng, count, dtype, -120, -20)
    assert_exact(values, (1,))
    assert_exact(values, ())


def test_doubles_too_small_for_a_window():
    rng = np.random.default_rng(8)
    assert_exact(of_bits(rng, (600, 3), "float64", -1074, -1000), (1,))
    assert_exact(of_bits(rng, (600, 3), "float64", -930, -890), (1,))
    mixed = of_bits(rng, (600, 24), "float64", -1074, -1000)
    mixed[:, 5] = 1.0
    assert_exact(mixed, (1,))


@pytest.mark.parametrize("mean", [1e3, 1e8])
def test_means_far_from_zero(mean):
    values = mean + np.random.default_rng(3).normal(size=(3000, 5))
    assert_exact(values, (1,))
    assert_exact(values.astype(np.float32), (1,))


# Found by search: k and the m for which, with x = m·2^k in a window's unit, a digit or a sum of products of digits is greatest.
LARGEST_DIGITS = {
    "slim": {
        0: [9437183, 10484312, 10693419, 14829104, 14829105, 15971382, 16512992, 16663769],
        1: [8650751, 9436460, 11195728, 15763554, 16040117, 16711552],
        4: [8392703, 8518660, 12578815, 13748197, 16646660, 16646661],
        8: [8388623, 8396785, 10010805, 11112719, 16769026, 16777199, 16777212],
    },
    "narrow": {
        0: [9437183, 10484312, 10693419],
        1: [16040117],
        2: [13033593, 13033592],
        9: [11863282, 11863283],
        10: [13263594, 14682111],
        19: [16771451, 16777199, 16777212, 16777215],
    },
    "wide": {
        0: [7821198031321688, 7881299103580159],
        1: [4519886143356912, 7740149542649864],
        3: [5331531883085823, 5515648541127772, 6483888788471627, 8903776442253131],
        4: [4944067514871807, 6896123927068671],
        5: [6364799059688962],
        6: [7915623546402335],
        9: [5140531886742287, 8374028347637759],
        10: [4611556851580803, 7714611438999561],
        12: [
            8496735936553488,
            8650006047049215,
            8864709793674750,
            8948192820953587,
            9003928044843601,
            9007021011044983,
            9007199253145088,
        ],
    },
}
WINDOWS = {"slim": ("float32", 32), "narrow": ("float32", 43), "wide": ("float64", 65)}


def largest_digits(window):
    """Values of the largest digits, and one above which a window ends that holds them all."""
    dtype, bits = WINDOWS[window]
    largest = [float(m) * 2.0**k for k, significands in LARGEST_DIGITS[window].items() for m in significands]
    return np.array(largest, dtype), 2.0 ** (bits - 1)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("layout", ["rows", "features"])
def test_full_panels_of_the_largest_digits(window, layout):
    size = 5000 if layout == "rows" else 80_000
    largest, top = largest_digits(window)
    values = np.repeat(largest[:, np.newaxis], size, axis=1)
    values[::2] *= -1
    values[:, 0] = top
    times = 10 if layout == "rows" else 1  # so many features that one row is not made of several
    block = np.ascontiguousarray(np.tile(values, (times, 1)).T) if layout == "rows" else values
    sums = Moments.empty((len(values) * times,), block.dtype).update(block, (1,) if layout == "rows" else (0,)).sums
    for power in POWERS:
        exact = [(size - 1) * Fraction(float(row[1])) ** power + Fraction(float(row[0])) ** power for row in values]
        assert oracle.as_fractions(*sums.to_integers(power)) == exact * times


@pytest.mark.parametrize("window", WINDOWS)
def test_more_panels_than_totals_are_kept_of(window):
    largest, top = largest_digits(window)
    size = 16_384 * 130 + 5
    for value in largest:
        values = np.full(size, value)
        values[0] = top
        sums = Moments.empty((), values.dtype).update(values, ()).sums
        for power in POWERS:
            exact = (size - 1) * Fraction(float(value)) ** power + Fraction(top) ** power
            assert oracle.as_fractions(*sums.to_integers(power)) == [exact]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("factor", [0, 1, 3, 8, 12, 20])
def test_panels_of_other_magnitudes_one_below_the_other(dtype, factor):
    rng = np.random.default_rng(factor)
    for width in (3, 140):
        panel = np.arange(6000) // 1024
        for order in (panel, -panel, rng.permutation(6)[panel]):
            values = of_bits(rng, (6000, width), dtype, 0, 4) * np.ldexp(1.0, factor * order)[:, np.newaxis]
            assert_exact(values.astype(dtype), (1,))


@EXAMPLES
@given(data=st.data(), dtype=st.sampled_from(["float32", "float64"]), axes=samples.axes_of(2))
def test_few_values_many_times(data, dtype, axes):
    """Any floats, so often that panels are full, in any order."""
    values = data.draw(st.lists(samples.elements(np.dtype(dtype)), min_size=1, max_size=12))
    shape = data.draw(st.sampled_from([(1100, 3), (40, 70), (3, 1500), (17, 130)]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    assert_exact(rng.choice(np.array(values, dtype), shape), axes)


@EXAMPLES
@given(
    dtype=st.sampled_from(["float32", "float64"]),
    low=st.integers(-149, 126),
    width=st.integers(1, 150),
    axes=samples.axes_of(2),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_range_of_magnitudes(dtype, low, width, axes, seed):
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 1300)), int(rng.integers(1, 40)))
    values = of_bits(rng, shape, dtype, low, min(low + width, 127))
    values[rng.random(shape) < rng.choice([0, 0.5, 0.99])] = 0
    assert_exact(values, axes)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        ("bool", 0, 2),
        ("uint8", 0, 256),
        ("int8", -128, 128),
        ("uint16", 0, 2**16),
        ("int16", -(2**15), 2**15),
        ("int32", -(2**24), 2**24 + 1),
        ("int32", -(2**31), 2**31),
        ("uint32", 0, 2**32),
        ("int64", -(2**24), 2**24 + 1),
        ("int64", -(2**53), 2**53 + 1),
        ("uint64", 0, 2**53 + 1),
    ],
)
def test_integers_that_floats_hold(dtype, low, high):
    values = np.random.default_rng(9).integers(low, high, (1500, 7)).astype(dtype)
    values[0], values[-1] = low, high - 1
    for axes in ((), (0,), (1,)):
        assert_exact(values, axes)
