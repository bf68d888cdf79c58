"""Chains: binding, order, dims and sizes, dtypes in and out, pieces, selections, inverses."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.errors import ConfigError, DataError, InputMismatchError, ManifestError, NotInvertibleError
from pipeline.normalize import FittedChain, Input, bind_chain, default_output_dtype, parse_chain, run_steps, tiling
from pipeline.normalize import chain as chain_module
from pipeline.normalize.elementwise import Affine, Log1p
from pipeline.normalize.minmax import MinMax

DIMS = ("sample", "y", "x")
DTYPES = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"]
RECIPE = ["log1p", {"minmax": {"per": ["y"]}}, {"unit_norm": {"dims": ["x"]}}, {"zscore": {"per": ["x"]}}]
deterministic = settings(
    derandomize=True, max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def counts():
    return np.random.default_rng(4).poisson(3.0, (40, 3, 5)).astype(np.float32)


def of(*steps, input_dtype="float64", output_dtype="float64", dims=("sample", "x")):
    return FittedChain(tuple(step.fit(None) for step in steps), dims, dims[0], np.dtype(input_dtype), np.dtype(output_dtype))


def test_steps_run_in_order(counts, chain_of):
    chain = chain_of(["log1p", {"minmax": {"per": ["y"]}}], counts, DIMS, "float64")
    logs = np.log1p(counts.astype(np.float64))
    low, high = logs.min(axis=(0, 2), keepdims=True), logs.max(axis=(0, 2), keepdims=True)
    np.testing.assert_allclose(chain(counts), (logs - low) / (high - low), rtol=1e-14)


def test_errors_name_the_step_by_its_place():
    chain = of(Affine(scale=10), Log1p(), Affine(scale=1e308))
    with pytest.raises(DataError) as caught:
        chain(np.array([[-1.0]]))
    assert caught.value.where == "normalize.1.log1p"
    with pytest.raises(DataError) as caught:
        chain(np.array([[1e9]]))
    assert caught.value.where == "normalize.2.affine"


def test_bind_refers_to_the_configuration():
    given_input = Input(DIMS, "sample", np.dtype(np.uint8))
    with pytest.raises(ConfigError) as caught:
        bind_chain(parse_chain(["log1p", {"minmax": {"per": ["gne"]}}]), given_input)
    assert caught.value.where == "normalize.1.minmax.per"
    assert caught.value.expected == "sample, x, y"
    first, second = bind_chain(parse_chain(["dtype_range", {"zscore": {"per": ["x", "y"]}}]), given_input)
    assert (first.dtype, second.per) == ("uint8", ("y", "x"))


@settings(deterministic, max_examples=25)
@given(data=st.data())
def test_pieces_subsets_and_layouts_of_a_long_chain_give_the_same_bits(data, counts, chain_of):
    chain = chain_of(RECIPE, counts, DIMS)
    whole = chain(counts)
    start = data.draw(st.integers(0, 39))
    stop = data.draw(st.integers(start + 1, 40))
    order = data.draw(st.permutations(range(3)))
    pick = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=3))
    part = np.asarray(counts[start:stop][:, pick].transpose(order), order=data.draw(st.sampled_from("CF")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiling, "PIECE_BYTES", data.draw(st.integers(8, 2000)))
        output = chain.select({"y": np.array(pick)})(part, tuple(DIMS[axis] for axis in order))
    assert output.flags.c_contiguous
    assert output.tobytes() == whole[start:stop][:, pick].transpose(order).tobytes()


def test_real_pieces_give_the_same_bits(chain_of):
    values = np.random.default_rng(6).standard_normal((700, 999)).astype(np.float32)
    chain = chain_of([{"affine": {"scale": 0.1, "shift": 2}}, "log1p", "unit_norm"], np.abs(values))
    whole = chain(np.abs(values))
    assert whole.size * 8 > 4 * tiling.PIECE_BYTES
    np.testing.assert_array_equal(np.stack([chain(np.abs(row)) for row in values[:50]]), whole[:50])
    np.testing.assert_array_equal(chain(np.abs(values).T, ("feature", "sample")).T, whole)


def test_steps_see_one_memory_layout(monkeypatch):
    seen = []
    monkeypatch.setattr(chain_module, "run_steps", lambda steps, values, dims, scratch=(): (seen.append(values), values)[1])
    unaligned = np.zeros(8 * 12 + 1, np.uint8)[1:].view(np.float64).reshape(3, 4)
    for values in (np.ones((4, 3)).T, np.ones((6, 4))[::2], unaligned, np.ones((3, 4), ">f8"), np.ones((3, 4), np.int16)):
        of(Affine(scale=2))(values)
    assert len(seen) == 5
    for values in seen:
        assert values.dtype == np.float64
        assert values.dtype.isnative
        assert values.flags.c_contiguous
        assert values.flags.aligned


def test_temporaries_are_of_the_size_of_a_piece(monkeypatch):
    seen = []
    monkeypatch.setattr(chain_module, "run_steps", lambda steps, values, dims, scratch: (seen.append(values.nbytes), values)[1])
    of(Affine(scale=2), output_dtype="float32")(np.zeros((1000, 1000), np.float32))
    assert max(seen) <= tiling.PIECE_BYTES
    assert sum(seen) == 8 * 1000 * 1000


def test_dims_may_be_in_any_order_or_missing_where_nothing_depends_on_them(counts, chain_of):
    chain = chain_of([{"minmax": {"per": ["x"]}}], counts, DIMS)
    whole = chain(counts)
    np.testing.assert_array_equal(chain(counts[3]), whole[3])
    np.testing.assert_array_equal(chain(counts[3, 1], ("x",)), whole[3, 1])
    np.testing.assert_array_equal(chain(counts[:, 1].T, ("x", "sample")), whole[:, 1].T)
    assert of(Affine(scale=2))(np.array(3), ()) == 6
    assert of(Affine(scale=2))(np.array(3), ()).shape == ()


@pytest.mark.parametrize(
    ("shape", "dims"),
    [
        ((3, 5), ("sample", "y")),
        ((3, 5), ("y", "z")),
        ((40, 3), None),
        ((3, 3), ("x", "x")),
        ((40, 3, 5), ("sample", "y")),
        ((1, 40, 3, 5), None),
        ((3, 6), None),
        ((5, 3), None),
        ((), ()),
    ],
)
def test_dims_and_sizes_that_do_not_fit_are_refused(shape, dims, counts, chain_of):
    chain = chain_of([{"minmax": {"per": ["x"]}}], counts, DIMS)
    with pytest.raises(InputMismatchError):
        chain(np.zeros(shape), dims)


def test_a_parameter_is_never_broadcast_along_its_own_dim(counts, chain_of):
    chain = chain_of([{"minmax": {"per": ["x"]}}], counts, DIMS).select({"x": slice(0, 1)})
    with pytest.raises(InputMismatchError, match="another size"):
        chain(counts)


def test_steps_of_different_sizes_are_refused():
    steps = tuple(MinMax(per=("x",)).restore({"minimum": np.zeros(size), "maximum": np.ones(size)}) for size in (2, 3))
    with pytest.raises(ManifestError, match="different sizes"):
        FittedChain(steps, ("sample", "x"), "sample", np.dtype("float64"), np.dtype("float64"))(np.zeros((1, 2)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_real_dtype_in_any_byte_order_is_converted_to_float64_first(dtype, order):
    values = np.array([[0, 1], [1, 0]]).astype(np.dtype(dtype).newbyteorder(order))
    output = of(Affine(scale=0.1))(values)
    np.testing.assert_array_equal(output, values.astype(np.float64) * 0.1)
    assert output.dtype.isnative


@pytest.mark.parametrize(
    "values", [np.zeros((1, 1), complex), np.array([["a"]]), np.zeros((1, 1), "M8[s]"), np.array([[None]])]
)
def test_other_dtypes_are_refused(values):
    with pytest.raises(InputMismatchError, match="not real numbers"):
        of(Affine(scale=2))(values)


def test_default_output_dtypes():
    small = ["bool", "int8", "int16", "uint8", "uint16", "float16", "float32"]
    assert {dtype: default_output_dtype(dtype) for dtype in DTYPES} == {
        dtype: np.dtype("float32" if dtype in small else "float64") for dtype in DTYPES
    }
    assert default_output_dtype(">f4") == np.dtype("=f4")


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_integers_are_rounded_half_to_even_and_kept_to_their_range(dtype):
    chain = of(Affine(shift=0), output_dtype=dtype)
    assert chain(np.array([[0.5, 1.5, 2.5, 3.4999]])).tolist() == [[0, 2, 2, 3]]
    limits = np.iinfo(dtype)
    ends = np.array([[limits.min, limits.max]], np.float64)
    assert chain(ends).tolist() == [[limits.min, limits.max]]
    assert chain(ends).dtype == dtype
    above, below = np.nextafter(ends[0, 1] + 0.5, np.inf), np.nextafter(ends[0, 0] - 0.5, -np.inf)
    for wrong in (above, below, np.nan, np.inf, -np.inf):
        with pytest.raises(DataError, match=f"{dtype} cannot hold") as caught:
            chain(np.array([[1.0, wrong]]))
        assert "of 2 values" in caught.value.found
        assert "clip" in caught.value.remedy


def test_booleans_are_0_and_1():
    chain = of(Affine(shift=0), output_dtype="bool")
    assert chain(np.array([[0.2, 0.9]])).tolist() == [[False, True]]
    with pytest.raises(DataError, match="bool cannot hold"):
        chain(np.array([[2.0]]))


@pytest.mark.parametrize(("dtype", "largest"), [("float16", 65504.0), ("float32", float(np.finfo("float32").max))])
def test_floats_that_overflow_are_refused_and_infinities_kept(dtype, largest):
    chain = of(Affine(shift=0), output_dtype=dtype)
    values = np.array([[largest, -largest, np.inf, -np.inf, np.nan, 1e-300]])
    np.testing.assert_array_equal(chain(values), values.astype(dtype))
    with pytest.raises(DataError, match=f"overflow {dtype}") as caught:
        chain(np.array([[1.0, -largest * 1.01]]))
    assert caught.value.found.startswith("1 of 2 values")


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "bool"])
def test_integer_input_comes_back_from_its_own_output(dtype, chain_of):
    rng = np.random.default_rng(8)
    limits = (0, 2) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max + 1)
    values = rng.integers(*limits, (200, 4)).astype(dtype)
    chain = chain_of([{"zscore": {"per": ["feature"]}}, {"minmax": {"range": [-0.1, 0.2]}}], values)
    restored = chain.inverse(chain(values))
    assert restored.dtype == dtype
    np.testing.assert_array_equal(restored, values)
    assert chain.inverse(chain(values), dtype="float64").dtype == np.float64


def test_the_largest_64_bit_integers_come_back(chain_of):
    values = np.array([[np.iinfo(np.int64).max], [np.iinfo(np.int64).min], [0]])
    chain = chain_of(["minmax"], values)
    assert chain.inverse(chain(values)).tolist() == values.tolist()


@deterministic
@given(
    values=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
        elements=st.floats(-1e6, 1e6, width=32),
    )
)
def test_float32_comes_back_within_its_resolution(values, chain_of):
    chain = chain_of([{"minmax": {"per": ["feature"]}}, {"affine": {"scale": -2, "shift": 0.5}}], values)
    restored = chain.inverse(chain(values))
    assert restored.dtype == np.float32
    np.testing.assert_allclose(restored, values, rtol=0, atol=4 * np.finfo(np.float32).eps * np.abs(values).max())


def test_inverse_of_nan_as_integers_is_refused_with_its_own_remedy(chain_of):
    chain = chain_of(["minmax"], np.array([[1], [3]], np.uint8))
    with pytest.raises(DataError) as caught:
        chain.inverse(np.array([[np.nan]]))
    assert caught.value.remedy == "ask for dtype float64"


def test_a_chain_without_an_inverse_names_the_steps_that_lack_one(counts, chain_of):
    chain = chain_of(["log1p", "unit_norm", {"clip": {"min": 0}}], counts, DIMS)
    assert not chain.invertible
    with pytest.raises(NotInvertibleError) as caught:
        chain.inverse(chain(counts))
    assert caught.value.found == (
        "unit_norm: the lengths of the vectors are not kept; clip: what was beyond a bound is not kept"
    )
    assert chain_of(["log1p"], counts, DIMS).invertible


def test_a_chain_of_no_steps_converts():
    chain = of(output_dtype="float32")
    values = np.array([[1.0, 2.0]])
    assert chain(values).dtype == np.float32
    same = of()(values)
    assert same is not values
    assert not np.shares_memory(same, values)


def test_sizes_and_whole_dims(counts, chain_of):
    chain = chain_of([{"unit_norm": {"dims": ["x"]}}, {"minmax": {"per": ["y"]}}], counts, DIMS)
    assert chain.sizes == {"y": 3}
    assert chain.whole_dims == {"x"}
    assert chain.select({"y": slice(0, 2)}).sizes == {"y": 2}


def test_run_steps_refuses_overflow_where_no_warning_would():
    with pytest.raises(DataError, match="overflow float64"):
        run_steps([Affine(scale=10).fit()], np.array([1e308]), ("x",))


def test_one_small_sample_costs_few_python_calls(chain_of):
    """Time is not asserted; the number of calls made is what it depends on."""
    values = np.random.default_rng(9).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    chain = chain_of(["dtype_range", {"zscore": {"per": ["y", "x"]}}], values, DIMS)
    chain(values[0])
    calls = []
    sys.setprofile(lambda frame, event, _: calls.append(frame.f_code.co_qualname) if event == "call" else None)
    try:
        chain(values[0])
    finally:
        sys.setprofile(None)
    assert len(calls) < 60


def test_a_signaling_nan_is_a_nan():
    values = np.array([[0x7F800001, 0]], np.uint32).view(np.float32)
    assert np.isnan(of(Affine(scale=2), output_dtype="float32")(values)).tolist() == [[True, False]]
