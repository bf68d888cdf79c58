"""The laws that every registered summary obeys: a commutative monoid, and a function of the values alone."""

from __future__ import annotations

import pickle
from functools import reduce
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.block import tile
from pipeline.errors import DataError, ManifestError
from pipeline.statistics import SUMMARIES
from tests.statistics import samples
from tests.statistics.bounds import assert_covariances_agree

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True, database=None)
NAMES = sorted(SUMMARIES)
AXES = samples.axes_of(3)


def summarize(name: str, values: NDArray[Any], axes: tuple[int, ...]) -> Any:
    shape = tuple(values.shape[axis] for axis in axes)
    return SUMMARIES[name].empty(shape, values.dtype).update(values, axes)


def bits(summary: Any) -> dict[str, tuple[Any, ...]]:
    return {name: (array.dtype, array.shape, array.tobytes()) for name, array in summary.arrays().items()}


def draw_values(name: str, data: st.DataObject) -> NDArray[Any]:
    return data.draw(samples.arrays(samples.DTYPES.get(name, samples.FLOATS), moderate=not SUMMARIES[name].bitwise))


def assert_same(one: Any, other: Any) -> None:
    """The same bits, or within the bound that a summary without them states."""
    if one.bitwise:
        assert bits(one) == bits(other)
    else:
        assert_covariances_agree(one, other)


@pytest.mark.parametrize("name", NAMES)
@EXAMPLES
@given(data=st.data(), axes=AXES)
def test_empty_is_the_identity(name, data, axes):
    values = draw_values(name, data)
    summary = summarize(name, values, axes)
    nothing = type(summary).empty(summary.feature_shape, values.dtype)
    assert bits(summary.merge(nothing)) == bits(summary) == bits(nothing.merge(summary))


@pytest.mark.parametrize("name", NAMES)
@EXAMPLES
@given(data=st.data(), axes=st.sampled_from([(), (1,), (2,), (1, 2)]))
def test_merge_is_associative_and_commutative(name, data, axes):
    values = draw_values(name, data)
    parts = [summarize(name, values[start::3], axes) for start in range(3)]
    whole = summarize(name, values, axes)
    for one, two, three in permutations(parts):
        assert_same(one.merge(two).merge(three), whole)
        assert_same(one.merge(two.merge(three)), whole)


@pytest.mark.parametrize("name", NAMES)
@EXAMPLES
@given(data=st.data(), axes=AXES, step=st.tuples(*[st.integers(1, 5)] * 3))
def test_any_partition_in_any_order_gives_the_same_bits(name, data, axes, step):
    values = draw_values(name, data)
    if SUMMARIES[name].whole_features:
        step = tuple(max(1, values.shape[axis]) if axis in axes else size for axis, size in enumerate(step))
    groups: dict[Any, list[Any]] = {}
    for box in data.draw(st.permutations(list(tile(values.shape, step)))):
        features = tuple((box.start[axis], box.stop[axis]) for axis in axes)
        groups.setdefault(features, []).append(summarize(name, values[box.slices], axes))
    whole = summarize(name, values, axes)
    feature_step = tuple(step[axis] for axis in axes)
    parts = []
    for box in tile(whole.feature_shape, feature_step):
        shape = box.shape
        nothing = SUMMARIES[name].empty(shape, values.dtype)
        found = groups.get(tuple(zip(box.start, box.stop, strict=True)), [])
        parts.append((box, reduce(lambda one, other: one.merge(other), found, nothing)))
    assume(parts)
    joined = SUMMARIES[name].join(data.draw(st.permutations(parts)), whole.feature_shape)
    assert_same(joined, whole)


@pytest.mark.parametrize("name", NAMES)
@EXAMPLES
@given(data=st.data(), axes=AXES)
def test_memory_layout_leaves_no_trace_and_input_is_not_changed(name, data, axes):
    values = draw_values(name, data)
    before = values.tobytes()
    whole = summarize(name, values, axes)
    assert values.tobytes() == before
    for other in samples.layouts(values):
        assert_same(summarize(name, other, axes), whole)


@pytest.mark.parametrize("name", NAMES)
@EXAMPLES
@given(data=st.data(), axes=AXES, dropped=st.sets(st.integers(0, 2)))
def test_sum_features_is_what_would_have_been_kept_without_them(name, data, axes, dropped):
    values = draw_values(name, data)
    gone = tuple(position for position, axis in enumerate(axes) if axis in dropped)
    left = tuple(axis for axis in axes if axis not in dropped)
    assert_same(summarize(name, values, axes).sum_features(gone), summarize(name, values, left))


@pytest.mark.parametrize("name", NAMES)
@EXAMPLES
@given(data=st.data(), axes=AXES)
def test_pickle_and_arrays_give_the_summary_back(name, data, axes):
    summary = summarize(name, draw_values(name, data), axes)
    assert bits(pickle.loads(pickle.dumps(summary))) == bits(summary)
    copies = {name: array.copy() for name, array in summary.arrays().items()}
    restored = type(summary).from_arrays(copies)
    assert bits(restored) == bits(summary)
    assert bits(restored.merge(summary)) == bits(summary.merge(summary))
    assert all("." not in array_name for array_name in copies)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (0, 0)])
def test_no_values(name, shape):
    dtype = np.dtype(samples.DTYPES.get(name, samples.FLOATS)[1])
    for axes in ((), (0,), (1,), (0, 1)):
        summary = summarize(name, np.zeros(shape, dtype), axes)
        assert bits(summary) == bits(type(summary).empty(summary.feature_shape, dtype))


def test_only_nan():
    statistics = summarize("moments", np.full((4, 2), np.nan, np.float32), (1,)).statistics()
    assert statistics.nan.tolist() == [4, 4]
    assert statistics.empty().all()
    assert np.isnan(statistics.mean()).all()


@pytest.mark.parametrize("name", NAMES)
def test_large_blocks_cut_in_any_way_give_the_same_bits(name):
    dtypes = samples.DTYPES.get(name, samples.FLOATS)
    rng = np.random.default_rng(7)
    for dtype in dtypes:
        mean, std = (1e3, 7.0) if dtype in samples.FLOATS else (60.0, 15.0)
        values = rng.normal(mean, std, (4000, 3, 11)).clip(0).astype(dtype)
        for axes, cut_axis in (((), 0), ((1,), 2), ((2,), 0), ((1, 2), 0)):
            whole = summarize(name, values, axes)
            cuts = np.array_split(values, [1, 3, 5, 513], axis=cut_axis)
            merged = reduce(lambda one, other: one.merge(other), (summarize(name, cut, axes) for cut in reversed(cuts)))
            assert_same(merged, whole)
            assert_same(summarize(name, np.asfortranarray(values), axes), whole)


@pytest.mark.parametrize("name", NAMES)
def test_arrays_that_do_not_fit_are_refused(name):
    dtype = np.dtype(samples.DTYPES.get(name, samples.FLOATS)[1])
    summary = summarize(name, np.ones((4, 3), dtype), (1,))
    arrays = summary.arrays()
    for missing in arrays:
        with pytest.raises(ManifestError, match=missing):
            type(summary).from_arrays({key: array for key, array in arrays.items() if key != missing})
        with pytest.raises(ManifestError, match=missing):
            type(summary).from_arrays({**arrays, missing: arrays[missing].astype(np.complex64)})
    counts = np.zeros((9, 9, 9), np.int64)
    with pytest.raises(ManifestError, match="shape"):
        type(summary).from_arrays({**arrays, "counts": counts})


@pytest.mark.parametrize("name", NAMES)
def test_other_features_or_dtypes_do_not_merge(name):
    dtype = np.dtype(samples.DTYPES.get(name, samples.FLOATS)[1])
    summary = summarize(name, np.ones((4, 3), dtype), (1,))
    with pytest.raises(DataError):
        summary.merge(summarize(name, np.ones((4, 2), dtype), (1,)))
    other = summarize(name, np.ones((4, 3), np.bool_ if dtype.kind != "b" else np.int8), (1,))
    if bits(other) != bits(summary):  # a summary that is the same for equal values of any dtype may be merged with any
        with pytest.raises(DataError):
            summary.merge(other)
    with pytest.raises(DataError):
        SUMMARIES[name].empty((3,), np.dtype(np.complex128))
