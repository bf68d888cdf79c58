"""Pieces, long rows and tables: the same bits as in one piece, no temporaries of the size of a block."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.normalize import STEPS, FittedChain, tiling
from pipeline.normalize.elementwise import Affine, Clip, Log1p
from pipeline.normalize.standard import ZScore
from tests.normalize.test_step_laws import OPTIONS

DIMS = ("sample", "y", "x", "channel")
SHAPE = (11, 3, 4, 3)
SMALL = ["bool", "int8", "uint8", "int16", "uint16", ">u2", "float16"]
ELEMENTWISE = [name for name, kind in STEPS.items() if kind.elementwise]
MIB = 2**20
QUANTILES = [{"quantile": {"per": ["gene"], "output": "normal"}}]


def bits(array):
    return array.shape, array.dtype, array.tobytes()


def zscore(per, shape, seed=0):
    rng = np.random.default_rng(seed)
    return ZScore(per=per).restore({"mean": rng.standard_normal(shape), "std": rng.uniform(0.5, 2.0, shape)})


def chain(*steps, input_dtype="float32", output_dtype="float32", dims=DIMS):
    return FittedChain(steps, dims, dims[0], np.dtype(input_dtype), np.dtype(output_dtype))


@pytest.fixture
def in_one_piece(monkeypatch):
    """What a chain makes of values in one piece, without a table."""

    def call(function, *arguments):
        with monkeypatch.context() as patch:
            patch.setattr(tiling, "PIECE_BYTES", 2**40)
            return function(*arguments)

    return call


@pytest.fixture
def tables(monkeypatch):
    """Every table that is looked up in; arrays of any size are worth one."""
    found = []
    real = tiling._table
    monkeypatch.setattr(tiling, "TABLE_SHARE", 0)
    monkeypatch.setattr(tiling, "PIECE_BYTES", 1000)
    monkeypatch.setattr(tiling, "_table", lambda work: found.append(real(work)) or found[-1])
    return found


def small_values(dtype):
    """Values that every elementwise step takes but for those of 0 or less, which `bool` has to have."""
    kind = np.dtype(dtype).kind
    rng = np.random.default_rng(3)
    values = rng.integers(0, 2, SHAPE) if kind == "b" else rng.integers(0, 100, SHAPE)
    return (values / 8 if kind == "f" else values).astype(dtype)


@pytest.mark.parametrize("dtype", SMALL)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_a_table_gives_the_bits_of_the_steps_themselves(name, dtype, chain_of, tables, in_one_piece):
    values = small_values(dtype)
    kept = ([], ["channel"], ["y", "channel"]) if values.itemsize == 1 else (["channel"],)
    for options in OPTIONS.get(name, [{}]):
        for per in kept if "per" in STEPS[name].model_fields else [None]:
            entry = {name: options if per is None else {**options, "per": per}}
            each = chain_of([{"clip": {"min": 0}}, entry], values, DIMS)
            expected = bits(in_one_piece(each, values))
            for order in ((0, 1, 2, 3), (0, 3, 1, 2)):
                dims = tuple(DIMS[axis] for axis in order)
                given = np.ascontiguousarray(values.transpose(order))
                assert bits(each(given, dims).transpose(np.argsort(order)).copy()) == expected
    assert any(table is not None for table in tables)


@pytest.mark.parametrize("dtype", SMALL)
def test_every_value_of_a_small_type_is_looked_up(dtype, tables, in_one_piece):
    size = np.dtype(dtype).itemsize
    count = 2 if dtype == "bool" else 2 ** (8 * size)
    values = np.arange(count).astype(f"<u{size}").view(np.dtype(dtype).newbyteorder("<")).astype(dtype)[:, np.newaxis]
    each = chain(Affine(scale=0.3, shift=-2).fit(), input_dtype=dtype, dims=("sample", "x"))
    assert bits(each(np.tile(values, (400, 1)))) == bits(np.tile(in_one_piece(each, values), (400, 1)))
    assert [len(table.results) for table in tables] == [count]


def test_a_value_that_does_not_occur_may_be_one_that_a_step_refuses(tables):
    each = chain(Log1p().fit(), input_dtype="int8", dims=("sample", "x"))
    values = np.arange(128, dtype=np.int8).reshape(16, 8)
    np.testing.assert_array_equal(each(values), np.log1p(values.astype(np.float64)).astype(np.float32))
    with pytest.raises(DataError, match="log1p of values of -1 or less"):
        each(-values)
    assert tables == [None, None]


def test_a_result_that_does_not_occur_may_be_one_that_the_output_cannot_hold(tables):
    each = chain(Affine(scale=2).fit(), input_dtype="uint8", output_dtype="uint8", dims=("sample", "x"))
    values = np.arange(128, dtype=np.uint8).reshape(16, 8)
    np.testing.assert_array_equal(each(values), 2 * values)
    with pytest.raises(DataError, match="uint8 cannot hold"):
        each(values + np.uint8(1))
    assert tables == [None, None]


def test_the_inverse_is_looked_up_as_well(tables, in_one_piece):
    each = chain(Affine(scale=0.5).fit(), zscore(("channel",), 3), input_dtype="uint8")
    values = np.random.default_rng(1).integers(0, 256, SHAPE, dtype=np.uint8)
    assert bits(each.inverse(values, None, "float64")) == bits(in_one_piece(each.inverse, values, None, "float64"))
    assert len(tables[0].results) == 3 * 256


@pytest.mark.parametrize(
    ("shape", "per", "dtype", "worth"),
    [
        ((3000, 5, 5, 3), ("channel",), "uint8", True),
        ((3000, 5, 5, 3), ("channel",), "float16", False),  # a table as large as the values
        ((3000, 5, 5, 3), ("channel",), "float32", False),
        ((3000, 5, 5, 3), ("y", "x", "channel"), "uint8", True),
        ((200, 40, 40, 1), ("y", "x", "channel"), "uint8", False),
        ((10, 5, 5, 3), ("channel",), "uint8", False),
    ],
)
def test_a_table_is_made_where_it_is_small_beside_the_values(shape, per, dtype, worth, monkeypatch):
    found = []
    real = tiling._look_up
    monkeypatch.setattr(tiling, "_look_up", lambda *arguments: found.append(arguments) or real(*arguments))
    sizes = dict(zip(DIMS, shape, strict=True))
    each = chain(zscore(per, tuple(sizes[dim] for dim in per)), input_dtype=dtype)
    values = np.random.default_rng(1).integers(0, 100, shape).astype(dtype)
    output = each(values)
    assert bool(found) == worth
    np.testing.assert_array_equal(output, np.concatenate([each(values[:1]), each(values[1:])]))


@pytest.mark.parametrize("rows", [1, 2, 170, 171, 1000])
@pytest.mark.parametrize("columns", [1, 2, 3, 255, 256, 257, 600])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_any_number_of_rows_and_columns_gives_the_same_bits(rows, columns, dtype, monkeypatch, in_one_piece):
    dims = ("sample", "channel")
    each = chain(zscore(("channel",), columns), Affine(scale=-0.3).fit(), dims=dims, input_dtype=dtype)
    values = np.random.default_rng(2).integers(0, 200, (rows, columns)).astype(dtype)
    expected = bits(in_one_piece(each, values))
    transposed = np.ascontiguousarray(values.T)
    for pieces in (3, 40):
        for share in (0, 8):
            monkeypatch.setattr(tiling, "PIECE_BYTES", values.size * 8 // pieces)
            monkeypatch.setattr(tiling, "TABLE_SHARE", share)
            assert bits(each(values)) == expected
            assert bits(each(transposed, dims[::-1]).T.copy()) == expected
            assert bits(each(np.asfortranarray(values))) == expected


def test_rows_of_few_channels_are_taken_together(monkeypatch):
    seen = []
    real = tiling._calculate
    monkeypatch.setattr(tiling, "_calculate", lambda work: seen.append(work.values.shape) or real(work))
    values = np.random.default_rng(4).standard_normal((1001, 10, 20, 3)).astype(np.float32)
    chain(zscore(("channel",), 3))(values)
    chain(zscore(("channel",), 3))(values.transpose(0, 3, 1, 2).copy(), ("sample", "channel", "y", "x"))
    assert seen == [(1177, 510), (110, 3), (1001, 3, 200)]


def test_features_that_are_withheld_stay_where_they_are_in_memory(monkeypatch):
    """Of NaN times NaN, the sign depends on the place."""
    monkeypatch.setattr(tiling, "_merged", lambda work: pytest.fail("rearranged"))
    values = np.random.default_rng(4).integers(0, 9, (1001, 10, 20, 3)).astype(np.float32)
    for dtype in ("float32", "uint8"):
        step = ZScore(per=("channel",)).restore({"mean": np.zeros(3), "std": np.array([1.0, np.nan, 2.0])})
        output = chain(step, input_dtype=dtype)(values.astype(dtype))
        np.testing.assert_array_equal(output, values / np.array([1.0, np.nan, 2.0], np.float32))


def test_parameters_of_many_features_are_cut_once_for_all_samples(monkeypatch):
    selected = []
    real = tiling.select_steps
    monkeypatch.setattr(tiling, "select_steps", lambda steps, part: selected.append(part) or real(steps, part))
    per = ("y", "x", "channel")
    each = chain(zscore(per, (100, 300, 3)))
    values = np.random.default_rng(5).standard_normal((20, 100, 300, 3)).astype(np.float32)
    output = each(values)
    assert [list(part.values()) for part in selected] == [[slice(first, first + 15_000)] for first in range(0, 90_000, 15_000)]
    np.testing.assert_array_equal(output[7], each(values[7]))


@pytest.mark.parametrize("shape", [(0, 3, 4, 3), (5, 3, 4, 0), (0, 0, 0, 0)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_nothing_becomes_nothing(shape, dtype, monkeypatch):
    monkeypatch.setattr(tiling, "PIECE_BYTES", -1)
    output = chain(zscore(("channel",), shape[-1]), input_dtype=dtype)(np.zeros(shape, dtype))
    assert (output.shape, output.dtype) == (shape, np.float32)


def _peak_beside_output(function, *arguments):
    function(*arguments)
    tracemalloc.start()
    try:
        output = function(*arguments)
        return tracemalloc.get_traced_memory()[1] - output.nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("entries", "shape", "dtype", "dims"),
    [
        ([{"zscore": {"per": ["gene"]}}], (4000, 2000), "float32", ("cell", "gene")),
        ([{"minmax": {"per": ["gene"]}}, {"clip": {"min": 0.1}}], (4000, 2000), "float64", ("cell", "gene")),
        (["library_size", "log1p", {"zscore": {"per": ["gene"]}}], (4000, 2000), "float32", ("cell", "gene")),
        (["dtype_range", {"zscore": {"per": ["channel"]}}], (100, 160, 160, 3), "uint8", DIMS),
        (["dtype_range", {"zscore": {"per": ["channel"]}}], (100, 160, 160, 3), "uint16", DIMS),
        ([{"zscore": {"per": ["y", "x", "channel"]}}], (100, 160, 160, 3), "uint8", DIMS),
        (["unit_norm"], (100, 160, 160, 3), "uint8", DIMS),
        (QUANTILES, (4000, 2000), "float32", ("cell", "gene")),
        ([{"power": {"per": ["channel"]}}], (100, 160, 160, 3), "uint8", DIMS),
    ],
)
def test_a_block_takes_its_output_and_a_few_mib(entries, shape, dtype, dims, chain_of):
    values = np.random.default_rng(6).integers(1, 250, shape, dtype=np.uint8).astype(dtype)
    each = chain_of(entries, values[:50], dims)
    assert values.size * 4 >= 28 * MIB
    few = (12 if entries == QUANTILES else 4) * MIB  # a search in tables holds a few pieces
    assert _peak_beside_output(each, values) < few
    if dims != DIMS:
        assert _peak_beside_output(each, np.asfortranarray(values)) < few


def test_clips_of_all_values_that_16_bits_have_are_right(tables):
    """The oracle is NumPy's clip, not the chain."""
    values = np.arange(2**16, dtype=np.uint16).view(np.int16).reshape(256, 256)
    each = chain(Clip(min=-5, max=1000).fit(), input_dtype="int16", dims=("sample", "x"))
    np.testing.assert_array_equal(each(values), values.clip(-5, 1000).astype(np.float32))
    assert tables[0] is not None
