"""Histograms of small integers against NumPy's, on every way through a block."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.statistics import Histogram, histogram
from tests.statistics import samples


def assert_counts(values, axes):
    shape = tuple(values.shape[axis] for axis in axes)
    summary = Histogram.empty(shape, values.dtype)
    found = summary.update(values, axes).counts.reshape(-1, summary.counts.shape[-1])
    rows = np.moveaxis(values, axes, range(len(axes))).reshape(len(found), -1).astype(np.int64)
    first = int(summary.values()[0])
    assert np.array_equal(found, [np.bincount(row - first, minlength=found.shape[1]) for row in rows])


SHAPES = [
    ((100,), ()),
    ((70_001,), ()),
    ((60, 3), (1,)),
    ((900, 3), (1,)),
    ((9001, 3), (1,)),
    ((9000, 10), (1,)),
    ((3000, 130), (1,)),
    ((130, 3000), (0,)),
    ((2, 3, 50, 50), (1,)),
    ((5, 50, 51, 3), (3,)),
    ((700, 5, 7), (1,)),
    ((40, 5, 7), (1,)),
    ((9, 6, 70, 4), (1, 3)),
]


@pytest.mark.parametrize(("shape", "axes"), SHAPES)
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8"])
def test_bytes(shape, axes, dtype):
    info = None if dtype == "bool" else np.iinfo(dtype)
    low, high = (0, 2) if info is None else (info.min, info.max + 1)
    assert_counts(np.random.default_rng(1).integers(low, high, shape).astype(dtype), axes)


@pytest.mark.parametrize("dtype", ["uint16", "int16"])
@pytest.mark.parametrize(
    ("shape", "axes"),
    [((100,), ()), ((600_001,), ()), ((900, 3), (1,)), ((140_001, 3), (1,)), ((530_000, 3), (1,)), ((2, 3, 400, 400), (1,))],
)
def test_sixteen_bits(shape, axes, dtype):
    info = np.iinfo(dtype)
    values = np.random.default_rng(1).integers(info.min, info.max + 1, shape).astype(dtype)
    values.ravel()[:3] = info.min, info.max, info.max
    assert_counts(values, axes)


def test_many_features_some_at_a_time(monkeypatch):
    monkeypatch.setattr(histogram, "TABLE_BYTES", 5 * 4 * 256)
    rng = np.random.default_rng(1)
    assert_counts(rng.integers(0, 256, (700, 113)).astype(np.uint8), (1,))
    assert_counts(rng.integers(0, 256, (700, 23, 2)).astype(np.uint8), (1,))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_memory_layouts(dtype):
    values = np.random.default_rng(1).integers(0, 250, (300, 40, 3)).astype(dtype)
    for axes in ((), (0,), (1,), (2,), (0, 2), (1, 2)):
        for view in samples.layouts(values):
            assert_counts(view, axes)


def test_pieces_of_a_block_that_is_not_contiguous(monkeypatch):
    monkeypatch.setattr(histogram, "PIECE_SIZE", 1000)
    values = np.random.default_rng(1).integers(0, 250, (90, 80, 6)).astype(np.uint8)
    for axes in ((), (0,), (1,), (2,), (0, 1)):
        assert_counts(values[:, ::2], axes)


def test_one_value_everywhere():
    assert_counts(np.full((100_000, 3), 255, np.uint8), (1,))
    assert_counts(np.full((3, 300_000), 7, np.uint16), (0,))
