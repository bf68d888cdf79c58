"""Unit_norm: norms, dims, zeros, NaN, infinities, magnitudes at the ends of float64, and bits that only the vector decides."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.errors import ConfigError, DataError, InputMismatchError
from pipeline.normalize import Input, bind_chain, parse_chain
from pipeline.normalize.unit_norm import UnitNorm

NAN, INF = np.nan, np.inf
DIMS = ("sample", "feature")
NORMS = ["l1", "l2", "max"]


def unit(norm, dims=("feature",)):
    return UnitNorm(norm=norm, dims=dims).fit()


@pytest.mark.parametrize(("norm", "length"), [("l1", 7.0), ("l2", 5.0), ("max", 4.0)])
def test_each_norm(norm, length):
    values = np.array([[3.0, -4.0]])
    np.testing.assert_array_equal(unit(norm)(values, DIMS), values / length)


@pytest.mark.parametrize("norm", NORMS)
def test_zeros_nan_and_vectors_of_nan(norm):
    values = np.array([[0.0, -0.0], [NAN, -2.0], [NAN, NAN], [NAN, 0.0]])
    np.testing.assert_array_equal(unit(norm)(values, DIMS), [[0.0, 0.0], [NAN, -1.0], [NAN, NAN], [NAN, 0.0]])


@pytest.mark.parametrize("norm", NORMS)
def test_infinities_are_counted_and_refused(norm, chain_of):
    values = np.array([[1.0, INF], [1.0, 2.0], [-INF, NAN]])
    with pytest.raises(DataError, match="infinite") as caught:
        chain_of([{"unit_norm": {"norm": norm}}], values)(values)
    assert caught.value.found == "2 vectors with an infinity"
    assert caught.value.where == "normalize.0.unit_norm"


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("exponent", [-1074, -1060, -1000, -500, -480, -300, 0, 480, 500, 1000, 1021])
def test_magnitudes_at_the_ends_of_float64(norm, exponent, chain_of):
    values = np.array([[3.0, -4.0, 0.0, 0.0]])
    scaled = np.ldexp(values, exponent)
    np.testing.assert_array_equal(chain_of([{"unit_norm": {"norm": norm}}], scaled)(scaled), unit(norm)(values, DIMS))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("exponent", [-900, -540, -530, -520, -460, -440, 440, 460, 510, 520, 1000])
def test_a_power_of_two_changes_no_bit(norm, exponent):
    """Squares of such magnitudes are subnormal or infinite."""
    values = np.random.default_rng(1).uniform(0.5, 1.0, (3, 11))
    np.testing.assert_array_equal(unit(norm)(np.ldexp(values, exponent), DIMS), unit(norm)(values, DIMS))


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    rows=hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.floats(allow_infinity=False)),
    norm=st.sampled_from(NORMS),
)
def test_every_vector_has_length_1_and_depends_on_itself_alone(rows, norm):
    output = unit(norm)(rows, DIMS)
    np.testing.assert_array_equal(np.isnan(output), np.isnan(rows))
    for row, result in zip(rows, output, strict=True):
        assert unit(norm)(row, ("feature",)).tobytes() == result.tobytes()
        known = result[~np.isnan(result)]
        if row[~np.isnan(row)].any():
            length = {"l1": math.fsum(abs(known)), "l2": math.sqrt(math.fsum(known**2)), "max": abs(known).max()}[norm]
            assert abs(length - 1) < 1e-14


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("size", [1, 7, 8, 9, 127, 129, 1023, 8193, 20001])
def test_bits_do_not_depend_on_layout_for_vectors_of_any_size(norm, size, chain_of):
    rng = np.random.default_rng(size)
    values = rng.standard_normal((5, size)) * 10.0 ** rng.integers(-3, 4, (5, size))
    chain = chain_of([{"unit_norm": {"norm": norm}}], values)
    whole = chain(values)
    unaligned = np.zeros(values.nbytes + 1, np.uint8)[1:].view(np.float64).reshape(values.shape)
    unaligned[...] = values
    for other in (np.asfortranarray(values), unaligned, np.repeat(values, 2, axis=1)[:, ::2], values[::-1][::-1]):
        np.testing.assert_array_equal(chain(other), whole)
    np.testing.assert_array_equal(chain(values.T, DIMS[::-1]).T, whole)
    np.testing.assert_array_equal(np.stack([chain(row) for row in values]), whole)


def test_vectors_over_several_dims_or_over_one_of_them(chain_of):
    dims = ("sample", "y", "x")
    values = np.random.default_rng(5).standard_normal((4, 3, 2))
    np.testing.assert_allclose((chain_of(["unit_norm"], values, dims)(values) ** 2).sum(axis=(1, 2)), 1, rtol=1e-14)
    over_y = chain_of([{"unit_norm": {"dims": ["y"]}}], values, dims)
    assert over_y.whole_dims == {"y"}
    np.testing.assert_allclose((over_y(values) ** 2).sum(axis=1), 1, rtol=1e-14)


def test_dims_are_bound_in_the_order_of_the_array():
    given_input = Input(("sample", "y", "x"), "sample", np.dtype(np.float32))
    assert UnitNorm().bind(given_input).dims == ("y", "x")
    assert UnitNorm(dims=("x", "y")).bind(given_input).dims == ("y", "x")
    for dims, found in ((("z",), "z"), (("sample", "x"), "sample, x"), ((), "no dim"), (("x", "x"), "x, x")):
        with pytest.raises(ConfigError) as caught:
            bind_chain(parse_chain([{"unit_norm": {"dims": list(dims)}}]), given_input)
        assert (caught.value.where, caught.value.found) == ("normalize.0.unit_norm.dims", found)
    with pytest.raises(ConfigError, match="runs over the dims of one sample"):
        UnitNorm().bind(Input(("sample",), "sample", np.dtype(np.float32)))


def test_a_missing_vector_dim_is_refused(chain_of):
    values = np.ones((2, 3))
    with pytest.raises(InputMismatchError, match="other dims"):
        chain_of(["unit_norm"], values)(np.ones(2), ("sample",))


def test_unknown_norm_is_refused():
    with pytest.raises(ConfigError) as caught:
        parse_chain([{"unit_norm": {"norm": "l3"}}])
    assert (caught.value.found, caught.value.expected) == ("'l3'", "l1, l2 or max")
