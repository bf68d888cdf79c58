"""Log1p, affine and clip at the edges."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.normalize import parse_chain
from pipeline.normalize.elementwise import Affine, Clip, Log1p

NAN, INF = np.nan, np.inf
SAMPLE = ("sample",)


def test_log1p_is_accurate_near_zero():
    np.testing.assert_array_equal(
        Log1p().fit()(np.array([0.0, 1e-300, np.e - 1, INF, NAN]), SAMPLE), [0.0, 1e-300, 1.0, INF, NAN]
    )


@pytest.mark.parametrize("wrong", [-1.0, -1.5, -INF])
def test_log1p_refuses_what_has_no_finite_logarithm(wrong, chain_of):
    values = np.array([[1.0], [wrong], [NAN], [wrong]])
    with pytest.raises(DataError, match="-1 or less") as caught:
        chain_of(["log1p"], values)(values)
    assert caught.value.where == "normalize.0.log1p"
    assert caught.value.found == f"2 of 4 values, the least {wrong}"


def test_log1p_takes_the_float_just_above_minus_1():
    assert np.isfinite(Log1p().fit()(np.array([np.nextafter(-1, 0)]), SAMPLE)).all()


@pytest.mark.parametrize(("function", "call"), [("log1p", "__call__"), ("expm1", "inverse")])
def test_transcendental_functions_see_one_memory_layout(function, call, monkeypatch):
    seen = []
    original = getattr(np, function)
    monkeypatch.setattr(np, function, lambda values, out: (seen.append(values.flags), original(values, out=out))[1])
    unaligned = np.zeros(81, np.uint8)[1:].view(np.float64)
    for values in (np.ones(10)[::3], np.ones((4, 3)).T, unaligned):
        getattr(Log1p().fit(), call)(values, ("y", "x")[: values.ndim])
    assert len(seen) == 3
    assert all(flags.c_contiguous and flags.aligned for flags in seen)


def test_log1p_inverse_refuses_overflow(chain_of):
    chain = chain_of(["log1p"], np.ones((1, 1)))
    with pytest.raises(DataError, match="overflow float64") as caught:
        chain.inverse(np.array([[1000.0]]))
    assert caught.value.where == "normalize.0.log1p"
    np.testing.assert_array_equal(chain.inverse(np.array([[INF], [NAN]])), [[INF], [NAN]])


def test_affine_with_a_negative_scale_turns_infinities():
    step = Affine(scale=-2, shift=1).fit()
    np.testing.assert_array_equal(step(np.array([0.0, 3.0, INF, -INF, NAN]), SAMPLE), [1.0, -5.0, -INF, INF, NAN])
    assert [float(number) for number in step.affine] == [0.0, -2.0, 1.0]


def test_affine_overflow_is_an_error_and_not_an_infinity(chain_of):
    values = np.array([[1e308], [1.0]])
    with pytest.raises(DataError, match="overflow float64") as caught:
        chain_of([{"affine": {"shift": 1}}, {"affine": {"scale": 10}}], values)(values)
    assert caught.value.where == "normalize.1.affine"


def test_affine_options_are_validated():
    for options, where in (
        ({"scale": 0}, ""),
        ({"scale": INF}, ".scale"),
        ({"shift": NAN}, ".shift"),
        ({"shift": True}, ".shift"),
    ):
        with pytest.raises(ConfigError) as caught:
            parse_chain([{"affine": options}])
        assert caught.value.where == f"normalize.0.affine{where}"
    assert Affine(scale=np.float32(0.5)).scale == 0.5
    assert parse_chain([{"affine": {"scale": "1e-3"}}])[0].scale == 1e-3  # YAML 1.1 reads 1e-3 as text


def test_clip_moves_to_the_bounds():
    values = np.array([-INF, -3.0, 0.5, 3.0, INF, NAN])
    np.testing.assert_array_equal(Clip(min=-1, max=1).fit()(values, SAMPLE), [-1.0, -1.0, 0.5, 1.0, 1.0, NAN])
    np.testing.assert_array_equal(Clip(min=-1).fit()(values, SAMPLE), [-1.0, -1.0, 0.5, 3.0, INF, NAN])
    np.testing.assert_array_equal(Clip(max=1).fit()(values, SAMPLE), [-INF, -3.0, 0.5, 1.0, 1.0, NAN])


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 17])
@pytest.mark.parametrize("options", [{"min": 0}, {"max": 0}, {"min": 0, "max": 1}, {"min": -1, "max": 0}])
def test_clip_leaves_the_sign_of_zero_alone_in_any_layout(count, options):
    """A maximum with 0 may return either zero, which must not depend on where an element lies."""
    step = Clip(**options).fit()
    for zero in (-0.0, 0.0):
        for values in (np.full(count, zero), np.full(3 * count, zero)[::3], np.full((count, 2), zero).T[0]):
            assert (np.signbit(step(values, SAMPLE)) == np.signbit(zero)).all()


def test_clip_options_are_validated():
    for options in ({}, {"min": 1, "max": 1}, {"min": 2, "max": 1}):
        with pytest.raises(ConfigError) as caught:
            parse_chain([{"clip": options}])
        assert caught.value.where == "normalize.0.clip"
    with pytest.raises(ConfigError) as caught:
        parse_chain([{"clip": {"min": INF}}])
    assert (caught.value.where, caught.value.expected) == ("normalize.0.clip.min", "a finite number below max")
