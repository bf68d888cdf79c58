"""The laws of every step: whatever is registered enters by itself."""

from __future__ import annotations

import inspect
import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import ManifestError, NotInvertibleError
from pipeline.normalize import STEPS, Input, tiling
from pipeline.normalize.features import FeatureStep

DIMS = ("sample", "y", "x")
SHAPE = (7, 3, 5)
OPTIONS = {
    "select": [{"dim": "x", "k": 5}],
    "minmax": [{}, {"range": [-0.1, 0.2]}, {"range": [0.1, 0.9], "clip": True}],
    "zscore": [{}, {"ddof": 1, "gamma": -2.0, "beta": 0.5}],
    "dtype_range": [{"dtype": "uint8"}, {"dtype": "int16", "range": [-0.5, 0.5]}],
    "unit_norm": [{}, {"norm": "l1", "dims": ["x"]}, {"norm": "max", "dims": ["x", "y"]}],
    "affine": [{"scale": -0.3, "shift": 7}],
    "clip": [{"min": 0}, {"min": -0.25, "max": 0.5}],
    "robust": [{}, {"scale": "mad", "unit_variance": True}, {"quantile_range": [10, 80]}],
    "clip_percentiles": [{}, {"lower": 10, "upper": 100}],
    "quantile": [{}, {"output": "normal"}, {"n_quantiles": 5}],
    "power": [{}, {"standardize": False}],
    "nodata": [{"values": 7}, {"values": [8, 9]}],
    "log1p": [{}, {"base": 2}],
    "arcsinh": [{}, {"cofactor": 5}],
    "fillna": [{}, {"value": -3.5}],
    "library_size": [
        {},
        {"target": 1, "dims": ["x"]},
        {"target": "median", "dims": ["x"]},
        {"exclude_highly_expressed": True, "max_fraction": 0.5},
        {"target": "median", "exclude_highly_expressed": True, "max_fraction": 0.5},
    ],
    "pearson_residuals": [{}, {"theta": 10, "clip": 1.5, "dims": ["x"]}, {"dims": ["y"]}],
    "sample_zscore": [{}, {"ddof": 1, "dims": ["x"]}],
    "sample_minmax": [{}, {"range": [-0.1, 0.2], "dims": ["y"]}],
    "whiten": [
        {"method": "pca"},
        {"dims": ["x"]},
        {"method": "zca-cor", "epsilon": 0.1, "dims": ["y"]},
        {"method": "pca", "components": 2, "dims": ["x"]},
        {"method": "pca", "components": 4},
        {"components": 2, "dims": ["y"]},
    ],
}


def _missing_throughout(values):
    """Samples with NaN are NaN throughout; the others of like magnitudes."""
    similar = np.cbrt(np.abs(values)) * np.sign(values)
    return np.where(np.isnan(values).any(axis=(1, 2), keepdims=True), np.nan, similar)


DATA = {
    "anscombe": np.abs,
    "library_size": np.abs,
    "pearson_residuals": np.abs,
    "whiten": _missing_throughout,
}


def _cases():
    for name, kind in STEPS.items():
        for options in OPTIONS.get(name, [{}]):
            for per in ([], ["y"], ["x", "y"]) if issubclass(kind, FeatureStep) else (None,):
                yield pytest.param({name: options if per is None else {**options, "per": per}}, id=f"{name}-{options}-{per}")


every_step = pytest.mark.parametrize("entry", list(_cases()))
deterministic = settings(
    derandomize=True, max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def values(entry):
    """Above -1, of magnitudes from 1e-6 to 1e3, both signs of zero, NaN of both signs; or what the step can take of that."""
    rng = np.random.default_rng(7)
    values = rng.uniform(-0.9, 1.0, SHAPE) * 10.0 ** rng.integers(-6, 1, SHAPE)
    values[0, 0, :3] = [0.0, -0.0, 1e3]
    values[2, 1, 2], values[3, 2, 1] = np.nan, -np.nan
    (name,) = entry
    return DATA.get(name, np.array)(values)


def left_of(step):
    """The dims and sizes of what a step, or a chain, puts out."""
    return step.output_sizes(dict(zip(DIMS, SHAPE, strict=True)))


def reordered(array, dims, wanted):
    """`array`, whose axes are `dims`, with the axes `wanted`."""
    return array.transpose([tuple(dims).index(dim) for dim in wanted])


def bits(array):
    return array.shape, array.dtype, np.ascontiguousarray(array).tobytes()


@every_step
def test_input_is_never_changed(entry, values, chain_of):
    chain = chain_of([entry], values, DIMS)
    before = values.tobytes()
    values.setflags(write=False)
    output = chain(values)
    chain.steps[0](values, DIMS)
    assert values.tobytes() == before
    assert not np.shares_memory(output, values)
    if chain.invertible:
        output.setflags(write=False)
        chain.inverse(output)


@every_step
def test_result_may_go_to_memory_that_is_given(entry, values, fitted):
    step = fitted(entry, values, DIMS)
    before = values.tobytes()
    output, left = step(values, DIMS), tuple(left_of(step))
    forth, back = (step, values, DIMS, left, step.output_sizes), (step.inverse, output, left, DIMS, step.input_sizes)
    for function, given_values, dims, after, sizes in [forth] if step.why_not_invertible else [forth, back]:
        expected = bits(function(given_values, dims))
        assert bits(function(given_values, dims, np.full(given_values.shape, 99.0))) == expected
        turned = function(given_values.T, dims[::-1], np.full(given_values.shape[::-1], 99.0))
        assert bits(reordered(turned, sizes(dict.fromkeys(dims[::-1], 0)), after)) == expected
    assert values.tobytes() == before


@every_step
def test_nan_stays_nan_and_nothing_else_becomes_nan(entry, values, fitted):
    step = fitted(entry, values, DIMS)
    output, left = step(values, DIMS), left_of(step)
    missing = np.isnan(values) if "fillna" not in entry else np.zeros(SHAPE, bool)
    if tuple(left) != DIMS:  # NaN throughout a vector
        missing = missing.any(axis=tuple(axis for axis, dim in enumerate(DIMS) if dim not in left), keepdims=True)
        missing = missing.reshape([size if dim in DIMS else 1 for dim, size in left.items()])
    np.testing.assert_array_equal(np.isnan(output), np.broadcast_to(missing, tuple(left.values())))
    assert output.dtype == np.float64


@every_step
def test_inverse_returns_the_input_or_says_why_not(entry, values, fitted):
    step = fitted(entry, values, DIMS)
    output = step(values, DIMS)
    if getattr(step.step, "components", None):
        back = step.inverse(output, tuple(left_of(step)))
        assert back.shape == values.shape
        np.testing.assert_allclose(step(back, DIMS), output, rtol=1e-12, atol=1e-12)
    elif step.why_not_invertible is None:
        np.testing.assert_allclose(step.inverse(output, DIMS), values, rtol=1e-12, atol=1e-12 * np.nanmax(np.abs(values)))
    else:
        with pytest.raises(NotInvertibleError, match=step.step.name) as caught:
            step.inverse(output, DIMS)
        assert caught.value.found == step.why_not_invertible
        assert caught.value.exit_status == 2


@every_step
def test_restored_parameters_give_the_same_bits(entry, values, fitted):
    step = fitted(entry, values, DIMS)
    options = step.step.model_dump(mode="json", exclude_defaults=True)
    restored = type(step.step).model_validate(options).restore({name: array.copy() for name, array in step.parameters.items()})
    assert restored.step == step.step
    assert restored.per == step.per
    assert bits(restored(values, DIMS)) == bits(step(values, DIMS))


@every_step
def test_parameters_of_another_step_are_refused(entry, values, fitted):
    step = fitted(entry, values, DIMS)
    with pytest.raises(ManifestError, match="parameters"):
        step.step.restore({**step.parameters, "surplus": np.zeros(())})
    for name, array in step.parameters.items():
        with pytest.raises(ManifestError, match="parameters"):
            step.step.restore({**step.parameters, name: array[np.newaxis]})
        with pytest.raises(ManifestError, match="parameters"):
            step.step.restore({**step.parameters, name: array.astype(np.float32)})


@every_step
def test_parameters_are_read_only_float64_along_per(entry, values, fitted):
    step = fitted(entry, values, DIMS)
    sizes = dict(zip(DIMS, SHAPE, strict=True))
    assert list(step.per) == [dim for dim in DIMS if dim in step.per]
    for name, array in step.parameters.items():
        dims = step.parameter_dims(name)
        assert array.dtype == np.float64
        assert dims[: len(step.per)] == step.per
        assert array.shape[: len(step.per)] == tuple(sizes[dim] for dim in step.per)
        assert array.ndim == len(dims)
        assert not set(dims[len(step.per) :]) & set(DIMS)
        assert not array.flags.writeable


@every_step
def test_selection_is_a_slice_of_the_whole(entry, values, chain_of):
    chain = chain_of([entry], values, DIMS)
    whole = chain(values)
    for dim, indexer in (("y", slice(1, 3)), ("x", np.array([4, 0, 2])), ("sample", slice(2, 5))):
        if dim not in chain.whole_dims:
            at = (slice(None),) * DIMS.index(dim) + (indexer,)
            assert bits(chain.select({dim: indexer})(values[at])) == bits(whole[at])


@every_step
def test_dims_in_any_order_give_the_same_bits(entry, values, chain_of):
    chain = chain_of([entry], values, DIMS)
    whole = chain(values)
    for order in ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        dims = tuple(DIMS[axis] for axis in order)
        left = chain.output_sizes(dict.fromkeys(dims, 0))
        assert bits(chain(values.transpose(order), dims)) == bits(reordered(whole, chain.output_dims, left))


@every_step
def test_single_sample_is_a_row_of_the_whole(entry, values, chain_of):
    chain = chain_of([entry], values, DIMS)
    whole = chain(values)
    for index in range(SHAPE[0]):
        assert bits(chain(values[index])) == bits(whole[index])


@every_step
def test_pieces_of_any_size_give_the_same_bits(entry, values, chain_of, monkeypatch):
    chain = chain_of([entry], values, DIMS)
    whole = chain(values)
    flipped = chain(values.T, DIMS[::-1])
    for piece_bytes in (8, 40, 104, 360):
        monkeypatch.setattr(tiling, "PIECE_BYTES", piece_bytes)
        assert bits(chain(values)) == bits(whole)
        assert bits(chain(values.T, DIMS[::-1])) == bits(flipped)
        if chain.invertible:
            assert bits(chain.inverse(whole)) == bits(chain.inverse(whole.copy(order="F")))


@st.composite
def _layouts(draw):
    """A function that lays an array out in memory in some way, and a selection of samples."""
    order = draw(st.permutations(range(3)))
    strides = draw(st.tuples(*[st.sampled_from([1, 2, 3, -1, -2])] * 3))
    offset = draw(st.sampled_from([0, 1, 4]))
    samples = draw(st.lists(st.integers(0, SHAPE[0] - 1), min_size=1, max_size=9))
    return order, strides, offset, np.array(samples)


def _laid_out(values, order, strides, offset):
    """A copy of `values` with axes in memory in `order`, `strides` elements apart, `offset` bytes off alignment."""
    shape = [abs(strides[axis]) * values.shape[axis] for axis in order]
    memory = np.zeros(offset + 8 * int(np.prod(shape)), np.uint8)
    wide = memory[offset:].view(np.float64).reshape(shape)
    view = wide[tuple(slice(None, None, strides[axis]) for axis in order)].transpose(np.argsort(order))
    view[...] = values
    return view


@every_step
@deterministic
@given(layout=_layouts())
def test_any_layout_and_subset_give_the_same_bits(entry, values, chain_of, layout):
    order, strides, offset, samples = layout
    chain = chain_of([entry], values, DIMS)
    laid_out = _laid_out(values[samples], order, strides, offset)
    assert bits(chain(laid_out)) == bits(chain(values)[samples])
    assert bits(chain.steps[0](laid_out, DIMS)) == bits(chain(values)[samples])


@every_step
def test_pickles(entry, values, chain_of):
    chain = chain_of([entry], values, DIMS)
    before = chain(values)
    assert bits(pickle.loads(pickle.dumps(chain))(values)) == bits(before)


@every_step
def test_empty_input_gives_empty_output(entry, values, chain_of):
    chain = chain_of([entry], values, DIMS)
    assert chain(values[:0]).shape == (0, *tuple(left_of(chain).values())[1:])
    if chain.invertible:
        assert chain.inverse(chain(values[:0])).shape == (0, *SHAPE[1:])


@every_step
def test_affine_steps_are_what_they_say(entry, values, fitted):
    step = fitted(entry, values, DIMS)
    if not step.step.is_affine:
        assert step.affine is None
        return
    center, scale, offset = (np.asarray(array) for array in step.affine)
    assert {center.ndim, scale.ndim, offset.ndim} <= {0, len(step.per)}
    center, scale, offset = (step.along(array, DIMS) if array.ndim else array for array in (center, scale, offset))
    expected = (values - center) * scale + offset
    np.testing.assert_allclose(step(values, DIMS), expected, rtol=1e-13, atol=1e-13 * np.nanmax(np.abs(expected)))


@every_step
def test_elementwise_steps_do_not_look_at_other_elements(entry, values, fitted):
    step = fitted(entry, values, DIMS)
    assert step.whole_dims == step.step.whole_dims
    if step.step.elementwise:
        assert not step.whole_dims
        assert bits(step(values[:, 1:2], DIMS) if "y" not in step.per else step(values, DIMS)[:, 1:2]) == bits(
            step(values, DIMS)[:, 1:2]
        )
    else:
        assert step.whole_dims


@every_step
def test_zero_dimensional_values(entry, values, fitted):
    """Extrema of a global fit are put through a step as they are."""
    step = fitted(entry, values, DIMS)
    if not step.per and step.step.elementwise:
        result = step(np.array(0.25), ())
        assert result.shape == ()
        assert bits(np.asarray(result)) == bits(step(np.array([0.25]), ("sample",))[0])


@pytest.mark.parametrize("kind", list(STEPS.values()), ids=list(STEPS))
def test_listing_texts(kind):
    lines = inspect.getdoc(kind).splitlines()
    assert lines[0] == kind.summary
    assert kind.summary.endswith(".")
    assert STEPS[kind.name] is kind
    for text in (kind.formula, kind.reference, kind.inverse_note):
        assert text
        assert "\n" not in text
    for word in ("NaN", "nfinit", "onstant", "Inverse:"):
        assert word in kind.__doc__, f"{kind.name} does not say what happens: {word}"
    for option, field in kind.model_fields.items():
        assert field.description, f"{kind.name}.{option} has no description"
        assert option in kind.__doc__


@pytest.mark.parametrize("kind", list(STEPS.values()), ids=list(STEPS))
def test_binding_twice_changes_nothing(kind):
    given_input = Input(DIMS, "sample", np.dtype(np.uint8))
    for options in OPTIONS.get(kind.name, [{}]):
        bound = kind.model_validate(options).bind(given_input)
        assert bound.bind(given_input) == bound
