"""Exact sums of powers: what the compiled code adds up, against integers and fractions of Python."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.block import Block
from pipeline.statistics.exact import POWERS, PowerSums
from pipeline.statistics.moments import Moments
from tests.statistics import oracle, samples

EXAMPLES = settings(max_examples=100, deadline=None, derandomize=True, database=None)


def sums_of(values, axes=()):
    shape = tuple(values.shape[axis] for axis in axes)
    return Moments.empty(shape, values.dtype).update(values, axes).sums


def as_fractions(sums, power):
    return oracle.as_fractions(*sums.to_integers(power))


@EXAMPLES
@given(values=samples.arrays(samples.FLOATS + samples.INTEGERS), axes=samples.axes_of(3))
def test_sums_are_exact(values, axes):
    sums = sums_of(values, axes)
    moved = np.moveaxis(values, axes, range(len(axes)))
    features = [oracle.finite_fractions(moved[index]) for index in np.ndindex(sums.feature_shape)]
    for power in POWERS:
        expected = [oracle.power_sum(feature, power) for feature in features]
        assert as_fractions(sums, power) == expected


WORST = [
    (np.float32, 2.0**24 - 1),
    (np.float32, np.finfo(np.float32).max),
    (np.float64, 2.0**53 - 1),
    (np.float64, 8_305_780_992_201_002.0),  # its square has the largest digits in base 2^27
    (np.float64, -np.finfo(np.float64).max),
    (np.float64, float(2**27 - 1)),
    (np.float64, np.nextafter(2.0**-1022, 0)),
    (np.uint8, 255),
    (np.int16, -(2**15)),
    (np.uint16, 2**16 - 1),
    (np.int32, -(2**31)),
    (np.uint32, 2**32 - 1),
    (np.int64, -(2**63)),
    (np.int64, 2**53),
    (np.int64, 2**53 + 1),
    (np.uint64, 2**64 - 1),
]


@pytest.mark.parametrize(("dtype", "value"), WORST)
def test_many_values_of_the_largest_digits_do_not_overflow(dtype, value):
    count = 2**17 + 3
    for values, axes in ((np.full(count, value, dtype), ()), (np.full((count // 2, 2), value, dtype), (1,))):
        sums = sums_of(values, axes)
        each = Fraction(values.ravel()[0].item())
        for power in POWERS:
            assert as_fractions(sums, power) == [each**power * values.shape[0]] * (2 if axes else 1)


def test_numbers_of_all_exponents_in_one_strip():
    rng = np.random.default_rng(3)
    wide = np.ldexp(rng.uniform(-1, 1, 6000), rng.integers(-1073, 1024, 6000))
    narrow = np.ldexp(rng.integers(-(2**24), 2**24, 6000).astype(float), rng.integers(-1074, 1000, 6000))
    for values in (wide, narrow, np.concatenate([wide, narrow])):
        fractions = oracle.finite_fractions(values)
        sums = sums_of(values)
        for power in POWERS:
            assert as_fractions(sums, power) == [oracle.power_sum(fractions, power)]


def test_windows_grow_in_both_directions():
    values = np.repeat([1.0, 1e-200, 1e200, 3.0, -7e-320], 40_000)
    sums = sums_of(values)
    for power in POWERS:
        assert as_fractions(sums, power) == [40_000 * sum(Fraction(each) ** power for each in np.unique(values).tolist())]


@EXAMPLES
@given(
    integers=st.lists(st.lists(st.integers(-(2**200), 2**200), min_size=3, max_size=3), min_size=4, max_size=4),
    exponents=st.lists(st.integers(-300, 300), min_size=4, max_size=4),
)
def test_integers_there_and_back_are_canonical(integers, exponents):
    sums = PowerSums.from_integers(integers, exponents, (3,))
    shifted = PowerSums.from_integers(
        [[each << 70 for each in power] for power in integers], [each - 70 for each in exponents], (3,)
    )
    for power in POWERS:
        expected = [Fraction(each) * Fraction(2) ** exponents[power - 1] for each in integers[power - 1]]
        assert as_fractions(sums, power) == expected
        assert np.array_equal(sums.words[power - 1], shifted.words[power - 1])
    assert sums.lows == shifted.lows
    common, unit = sums.common_integers()
    assert [oracle.as_fractions(common[power - 1], power * unit) for power in POWERS] == [as_fractions(sums, k) for k in POWERS]


def test_words_span_the_smallest_window():
    sums = PowerSums.from_integers([[2**40, -(2**40)], [2**31, 0], [2**31 - 1, -(2**31)], [0, 0]], [0, 0, 0, 0], (2,))
    assert [len(words) for words in sums.words] == [1, 2, 1, 0]
    assert sums.lows == (1, 0, 0, 0)


def test_sums_that_cancel_leave_nothing():
    one = sums_of(np.array([1e300, 3.0]))
    other = sums_of(np.array([-1e300, -3.0]))
    assert (one + other).to_integers(1) == ([0], 0)
    assert len((one + other).words[0]) == 0


def test_join_puts_boxes_of_features_in_their_places():
    values = np.random.default_rng(1).normal(size=(20, 4, 3)) * np.array([1e-9, 1.0, 1e9, 0.0])[:, None]
    boxes = [Block((0, 0), (1, 3)), Block((1, 0), (4, 2)), Block((1, 2), (4, 3))]
    parts = [(box, sums_of(values[(slice(None), *box.slices)], (1, 2))) for box in boxes]
    joined, whole = PowerSums.join(parts[::-1], (4, 3)), sums_of(values, (1, 2))
    assert joined.lows == whole.lows
    assert all(np.array_equal(one, other) for one, other in zip(joined.words, whole.words, strict=True))
