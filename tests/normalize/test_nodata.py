"""Values that stand for missing ones."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import ConfigError
from pipeline.normalize import Input, parse_chain
from pipeline.normalize.nodata import Nodata

DIMS = ("sample", "feature")


def bound(dtype, **options):
    return Nodata(**options).bind(Input(DIMS, "sample", np.dtype(dtype)))


def test_listed_values_become_nan_and_nothing_else():
    values = np.array([[-9999.0, 0.0, np.inf], [255.0, np.nan, -9998.0]])
    output = Nodata(values=[-9999, 255]).fit(None)(values, DIMS)
    np.testing.assert_array_equal(output, [[np.nan, 0.0, np.inf], [np.nan, np.nan, -9998.0]])


def test_one_number_is_a_list_of_one():
    assert parse_chain([{"nodata": {"values": -1}}]) == (Nodata(values=(-1.0,)),)


@pytest.mark.parametrize("values", [None, [], "x", [True], True, np.nan, np.inf])
def test_what_is_no_number_is_refused(values):
    with pytest.raises(ConfigError) as caught:
        parse_chain([{"nodata": {"values": values}}])
    assert caught.value.where.startswith("normalize.0.nodata.values")


def test_a_value_of_a_narrow_float_is_the_stored_one(chain_of):
    stored = np.array([[1.0], [-9999.1], [3.0]], dtype=np.float32)
    assert float(stored[1, 0]) != -9999.1
    output = chain_of([{"nodata": {"values": -9999.1}}], stored)(stored)
    np.testing.assert_array_equal(np.isnan(output), [[False], [True], [False]])


@pytest.mark.parametrize(
    ("dtype", "value"), [("uint8", -9999), ("uint8", 256), ("int16", 0.5), ("bool", 2), ("float16", 1e6), ("float32", 1e39)]
)
def test_a_value_that_the_data_cannot_hold_is_refused(dtype, value):
    with pytest.raises(ConfigError, match="cannot hold") as caught:
        bound(dtype, values=value)
    assert (caught.value.where, caught.value.found) == ("nodata.values", value)


@pytest.mark.parametrize(
    "value", [2**53 + 1, -(2**53) - 1, 10**400, np.int64(2**60 + 1), [0, 2**53 + 1], np.array([2**53 + 1])]
)
def test_a_whole_number_that_float64_rounds_is_refused(value):
    with pytest.raises(ConfigError, match="invalid option") as caught:
        parse_chain([{"nodata": {"values": value}}])
    assert (caught.value.where, caught.value.expected) == ("normalize.0.nodata.values", "numbers that float64 holds exactly")
    assert bound("float64", values=[2**53 + 2, 2**60]).values == (2.0**53 + 2, 2.0**60)


def test_statistics_and_output_leave_them_out(chain_of):
    values = np.array([[1.0, 2.0], [-9999.0, 4.0], [3.0, -9999.0]])
    chain = chain_of([{"nodata": {"values": -9999}}, {"zscore": {"per": ["feature"]}}], values)
    np.testing.assert_array_equal(chain(values), [[-1, -1], [np.nan, 1], [1, np.nan]])


def test_the_inverse_gives_integers_back(chain_of):
    values = np.array([[1, 2], [255, 4], [3, 255]], dtype=np.uint8)
    chain = chain_of([{"nodata": {"values": [255, 0]}}, {"minmax": {"per": ["feature"]}}], values)
    output = chain(values)
    assert np.isnan(output).sum() == 2
    np.testing.assert_array_equal(chain.inverse(output), values)


@pytest.mark.parametrize(("options", "expected"), [({}, np.nan), ({"fill": -1}, -1.0)])
def test_the_inverse_of_floats_fills_only_where_asked(options, expected):
    step = bound("float32", values=-9999, **options).fit(None)
    np.testing.assert_array_equal(step.inverse(np.array([1.0, np.nan]), ("sample",)), [1.0, expected])
