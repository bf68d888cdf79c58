"""Lanes: what compiled code does with floats side by side, against NumPy doing it with arrays."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from pipeline.statistics.kernels import cast_to, choose, compiled, fill, load, magnitude, multiply_add, some, store

COUNT = 8
VALUES = [0.0, -0.0, 1.5, -2.25, math.inf, -math.inf, math.nan, 1e-45, 3e38, -7.0, 2.0, 1.5, 0.1, -0.1, 1e-30, 5.0]


@compiled
def arithmetic(one, other, out):
    a, b = load(one, 1, 8), load(other, 1, 8)
    store(out, 0, a + b)
    store(out, 8, a - b)
    store(out, 16, a * b)
    store(out, 24, magnitude(a))
    store(out, 32, fill(2.5, a))


@compiled
def comparisons(one, other, out):
    a, b = load(one, 0, 8), load(other, 0, 8)
    yes, no = fill(1.0, a), fill(0.0, a)
    store(out, 0, choose(a < b, yes, no))
    store(out, 8, choose(a <= b, yes, no))
    store(out, 16, choose(a == b, yes, no))
    store(out, 24, choose((no < a) & (a < b), a, b))


@compiled
def anything_below(values, bound):
    a = load(values, 0, 8)
    return some(a < fill(bound, a))


@compiled
def fused(one, other, added, out):
    store(out, 0, multiply_add(load(one, 0, 8), load(other, 0, 8), load(added, 0, 8)))


@compiled
def there_and_back(singles, doubles, singles_out, doubles_out):
    one, other = load(singles, 0, 8), load(doubles, 0, 8)
    store(doubles_out, 0, cast_to(one, other))
    store(singles_out, 0, cast_to(other, one))
    store(doubles_out, 8, cast_to(other, other))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_operators_go_lane_by_lane(dtype):
    one = np.array(VALUES, dtype)
    other = np.roll(one, 3)
    out = np.empty(5 * COUNT, dtype)
    arithmetic(one, other, out)
    a, b = one[1:9], other[1:9]
    with np.errstate(all="ignore"):
        expected = np.concatenate([a + b, a - b, a * b, np.abs(a), np.full(8, 2.5, dtype)])
    np.testing.assert_array_equal(out, expected)
    assert (np.signbit(out) == np.signbit(expected))[~np.isnan(expected)].all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_compares_as_false(dtype):
    one = np.array(VALUES, dtype)
    for other in (one, np.roll(one, 1), np.roll(one, 5)):
        out = np.empty(4 * COUNT, dtype)
        comparisons(one, other, out)
        a, b = one[:8], other[:8]
        expected = [a < b, a <= b, a == b, np.where((a > 0) & (a < b), a, b)]
        np.testing.assert_array_equal(out, np.concatenate(expected).astype(dtype))


def test_some_sees_every_lane():
    for lane in range(COUNT):
        values = np.ones(COUNT)
        values[lane] = -1.0
        assert anything_below(values, 0.0)
        assert not anything_below(values, -1.0)
    assert not anything_below(np.full(COUNT, np.nan), 1.0)


def test_multiply_add_is_exact_where_the_result_is_a_float():
    rng = np.random.default_rng(1)
    one, other = rng.integers(-(2**21), 2**21, (2, COUNT)).astype(float)
    added, out = rng.integers(-(2**52), 2**52, COUNT).astype(float), np.empty(COUNT)
    fused(one, other, added, out)
    exact = [Fraction(a) * Fraction(b) + Fraction(c) for a, b, c in zip(one, other, added, strict=True)]
    assert [Fraction(value) for value in out] == exact


def test_casts_round_as_numpy_does():
    singles, doubles = np.array(VALUES[8:], np.float32), np.array([0.1, 1e300, -1e-46, 1 / 3, math.nan, -math.inf, 0.0, 7.0])
    singles_out, doubles_out = np.empty(COUNT, np.float32), np.empty(2 * COUNT)
    there_and_back(singles, doubles, singles_out, doubles_out)
    with np.errstate(over="ignore", under="ignore"):
        np.testing.assert_array_equal(singles_out, doubles.astype(np.float32))
    np.testing.assert_array_equal(doubles_out, np.concatenate([singles.astype(np.float64), doubles]))
