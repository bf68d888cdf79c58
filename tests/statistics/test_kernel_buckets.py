"""Compiled sweeps over buckets against the same done number by number."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.statistics.kernel_buckets import ends_ascend, find_middles
from pipeline.statistics.ties import numbers

EXAMPLES = settings(max_examples=100, deadline=None, derandomize=True, database=None)


@EXAMPLES
@given(
    st.lists(st.tuples(st.integers(-(2**63) + 1, 2**63 - 1), st.integers(0, 45)), min_size=1, max_size=40),
    st.sampled_from([0, 11, 40]),
)
def test_the_middle_of_a_bucket_and_its_radius_are_those_of_its_numbers(
    drawn: list[tuple[int, int]], subnormal_shift: int
) -> None:
    """Against numbers made of the keys one by one, subnormal ones too, whose radius is no power of two's exponent."""
    largest = np.float64(np.finfo("f8").max).view("i8")
    sizes = np.array([size for _, size in drawn], np.uint8)
    keys = np.array([(key >> subnormal_shift) % (2 * int(largest)) - int(largest) for key, _ in drawn], np.int64)
    keys = keys >> sizes.astype(np.int64) << sizes.astype(np.int64)
    keys = np.where(np.abs(keys) + 2.0**46 < float(largest), keys, 0)
    patterns, radius, even = np.empty_like(keys), np.empty(len(keys)), np.empty(len(keys), np.bool_)
    find_middles(keys, sizes, patterns, radius, even)
    for key, size, middle, half in zip(keys.tolist(), sizes.tolist(), patterns.view("f8"), radius, strict=True):
        first, last = (float(numbers(np.array([at]))[0]) for at in (key, key + 2**size - 1))
        assert first <= middle <= last
        unit = math.ulp(middle)
        assert half == (math.ldexp(unit, size - 1) if size else 0.0)


@EXAMPLES
@given(
    st.lists(st.lists(st.tuples(st.floats(-9, 9), st.floats(0, 3)), max_size=4), min_size=1, max_size=4),
)
def test_ends_ascend_where_neither_falls_within_a_feature(features: list[list[tuple[float, float]]]) -> None:
    values, radius = (np.array([pair[at] for each in features for pair in sorted(each)]) for at in (0, 1))
    ends = np.cumsum([len(each) for each in features]).astype(np.int64)
    parts = [part for end in (values - radius, values + radius) for part in np.split(end, ends[:-1])]
    assert ends_ascend(values, radius, ends) == all((part[1:] >= part[:-1]).all() for part in parts)
