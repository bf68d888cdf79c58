"""Dtype_range: every integer type, ranges, named types, and floats refused."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import ConfigError
from pipeline.normalize import Input, bind_chain, parse_chain
from pipeline.normalize.dtype_range import DtypeRange

UNSIGNED = ["uint8", "uint16", "uint32", "uint64"]
SIGNED = ["int8", "int16", "int32", "int64"]


def extremes(dtype):
    limits = np.iinfo(dtype)
    return np.array([[limits.min], [limits.max]], dtype)


@pytest.mark.parametrize("dtype", UNSIGNED)
def test_unsigned_become_0_to_1(dtype, chain_of):
    assert chain_of(["dtype_range"], extremes(dtype))(extremes(dtype)).ravel().tolist() == [0.0, 1.0]


@pytest.mark.parametrize("dtype", SIGNED)
def test_signed_become_minus_1_to_below_1(dtype, chain_of):
    low, high = chain_of(["dtype_range"], extremes(dtype), output_dtype="float64")(extremes(dtype)).ravel()
    assert low == -1.0
    assert high == np.float64(np.iinfo(dtype).max) / 2.0 ** (np.iinfo(dtype).bits - 1)


@pytest.mark.parametrize("dtype", UNSIGNED + SIGNED)
@pytest.mark.parametrize("ends", [[-1, 1], [-0.1, 0.2]])
def test_a_range_is_reached_exactly(dtype, ends, chain_of):
    chain = chain_of([{"dtype_range": {"range": ends}}], extremes(dtype), output_dtype="float64")
    assert chain(extremes(dtype)).ravel().tolist() == ends


@pytest.mark.parametrize("options", [{}, {"range": [-0.5, 0.5]}, {"range": [0.1, 0.9]}])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_every_integer_comes_back(dtype, options, chain_of):
    limits = np.iinfo(dtype)
    values = np.arange(limits.min, limits.max + 1).astype(dtype)[:, np.newaxis]
    chain = chain_of([{"dtype_range": options}], values)
    output = chain(values)
    assert output.dtype == np.float32
    np.testing.assert_array_equal(chain.inverse(output), values)
    assert chain.inverse(output).dtype == dtype


def test_booleans_are_0_and_1(chain_of):
    values = np.array([[False], [True]])
    chain = chain_of([{"dtype_range": {"range": [-1, 1]}}], values)
    assert chain(values).ravel().tolist() == [-1.0, 1.0]
    assert chain.inverse(chain(values)).tolist() == [[False], [True]]
    assert chain_of(["dtype_range"], values)(values).ravel().tolist() == [0.0, 1.0]


def test_the_division_by_255_of_every_tutorial(chain_of):
    values = np.arange(256, dtype=np.uint8)[:, np.newaxis]
    np.testing.assert_array_equal(chain_of(["dtype_range"], values)(values), (values / 255).astype(np.float32))


def test_floats_are_refused_with_the_remedy():
    for entries, index in ((["dtype_range"], 0), (["log1p", "dtype_range"], 1)):
        dtype = np.dtype("float32" if index == 0 else "uint8")
        with pytest.raises(ConfigError, match="needs integers") as caught:
            bind_chain(parse_chain(entries), Input(("sample", "x"), "sample", dtype))
        assert caught.value.where == f"normalize.{index}.dtype_range"
        assert "minmax" in caught.value.remedy


def test_floats_with_a_named_type_keep_nan_and_infinities():
    step = DtypeRange(dtype="uint8").bind(Input(("sample",), "sample", np.dtype("float32"))).fit()
    np.testing.assert_array_equal(step(np.array([51.0, np.nan, np.inf]), ("sample",)), [0.2, np.nan, np.inf])


def test_unknown_type_is_refused():
    with pytest.raises(ConfigError) as caught:
        parse_chain([{"dtype_range": {"dtype": "float32"}}])
    assert caught.value.where == "normalize.0.dtype_range.dtype"


def test_unbound_step_is_a_programming_error():
    with pytest.raises(TypeError, match="not bound"):
        DtypeRange().fit()(np.array([1.0]), ("sample",))
