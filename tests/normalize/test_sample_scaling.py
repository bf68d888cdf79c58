"""Sample_zscore and sample_minmax: formulas, dims, constants, NaN, magnitudes, and bits that only the sample decides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.errors import ConfigError, DataError
from pipeline.normalize import parse_chain
from pipeline.normalize.sample_scaling import SampleMinMax, SampleZScore

NAN, INF = np.nan, np.inf
DIMS = ("image", "y", "x", "channel")
ROWS = ("sample", "x")
STEPS = ["sample_zscore", "sample_minmax"]


@pytest.fixture
def images():
    return np.random.default_rng(1).normal(100.0, 20.0, (6, 5, 4, 3))


@pytest.mark.parametrize(("dims", "axes"), [(None, (1, 2, 3)), (["y", "x"], (1, 2))])
@pytest.mark.parametrize("ddof", [0, 1])
def test_sample_zscore_is_the_formula(dims, axes, ddof, images, chain_of):
    """To 1e-13; without the channel each channel of each image by itself."""
    output = chain_of([{"sample_zscore": {"dims": dims, "ddof": ddof}}], images, DIMS)(images)
    expected = (images - images.mean(axis=axes, keepdims=True)) / images.std(axis=axes, ddof=ddof, keepdims=True)
    np.testing.assert_allclose(output, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("dims", "axes"), [(None, (1, 2, 3)), (["y", "x"], (1, 2))])
@pytest.mark.parametrize("ends", [(0.0, 1.0), (-0.1, 0.2)])
def test_sample_minmax_is_the_formula(dims, axes, ends, images, chain_of):
    """To 1e-14, and the extrema are exactly the ends."""
    output = chain_of([{"sample_minmax": {"dims": dims, "range": ends}}], images, DIMS)(images)
    low, high = images.min(axis=axes, keepdims=True), images.max(axis=axes, keepdims=True)
    np.testing.assert_allclose(output, (images - low) / (high - low) * (ends[1] - ends[0]) + ends[0], rtol=1e-14, atol=1e-14)
    assert (output.min(axis=axes) == ends[0]).all()
    assert (output.max(axis=axes) == ends[1]).all()


@pytest.mark.parametrize("constant", [0.0, -0.0, 0.1, 1e8 + 0.1, -1e308, 5e-324])
def test_constant_samples(constant):
    values = np.array([[constant] * 7, [constant, NAN] * 3 + [NAN]])
    expected = np.where(np.isnan(values), NAN, 0.0)
    np.testing.assert_array_equal(SampleZScore(dims=("x",)).fit()(values, ROWS), expected)
    np.testing.assert_array_equal(SampleMinMax(dims=("x",), range=(-1, 1)).fit()(values, ROWS), expected - 1)


def test_nan_is_left_out_and_samples_of_nan_stay():
    values = np.array([[NAN, 1.0, 3.0], [NAN, NAN, NAN]])
    np.testing.assert_array_equal(SampleZScore(dims=("x",)).fit()(values, ROWS), [[NAN, -1.0, 1.0], [NAN, NAN, NAN]])
    np.testing.assert_array_equal(SampleMinMax(dims=("x",)).fit()(values, ROWS), [[NAN, 0.0, 1.0], [NAN, NAN, NAN]])


@pytest.mark.parametrize("name", STEPS)
def test_infinities_are_refused(name, chain_of):
    values = np.array([[1.0, INF], [1.0, 2.0], [NAN, -INF]])
    with pytest.raises(DataError, match="infinite") as caught:
        chain_of([name], values)(values)
    assert (caught.value.where, caught.value.found) == (f"normalize.0.{name}", "2 of 3 vectors with an infinity")


@pytest.mark.parametrize("kind", [SampleZScore, SampleMinMax])
@pytest.mark.parametrize("exponent", [-1070, -1020, -600, 0, 600, 1021])
def test_a_power_of_two_changes_no_bit(kind, exponent):
    """Magnitudes whose squares, sums or differences are no float64."""
    values = np.array([[3.0, -4.0, 0.0, 1.0], [1.0, 2.0, 3.0, 4.0]])
    step = kind(dims=("x",)).fit()
    np.testing.assert_array_equal(step(np.ldexp(values, exponent), ROWS), step(values, ROWS))


def test_a_mean_far_from_zero():
    """To 1e-12 at a mean of 1e12, on data that float64 holds exactly."""
    values = np.random.default_rng(3).integers(-500, 500, (4, 999)).astype(np.float64)
    step = SampleZScore(dims=("x",)).fit()
    expected = (values - values.mean(axis=1, keepdims=True)) / values.std(axis=1, keepdims=True)
    np.testing.assert_allclose(step(values + 1e12, ROWS), expected, rtol=1e-12, atol=1e-12)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    rows=hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.floats(allow_infinity=False)),
    ends=st.sampled_from([(0.0, 1.0), (-0.1, 0.2)]),
)
def test_samples_stay_within_the_range_and_depend_on_themselves_alone(rows, ends):
    for step in (SampleMinMax(dims=("x",), range=ends).fit(), SampleZScore(dims=("x",)).fit()):
        output = step(rows, ROWS)
        np.testing.assert_array_equal(np.isnan(output), np.isnan(rows))
        for row, result in zip(rows, output, strict=True):
            assert step(row, ("x",)).tobytes() == result.tobytes()
            known = result[~np.isnan(result)]
            if isinstance(step.step, SampleMinMax):
                assert ((known >= ends[0]) & (known <= ends[1])).all()
            elif known.any():
                assert abs(known.mean()) < 1e-9
                assert abs(known.std() - 1) < 1e-9


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("size", [1, 7, 129, 8193, 20_001])
def test_bits_do_not_depend_on_layout_for_samples_of_any_size(name, size, chain_of):
    rng = np.random.default_rng(size)
    values = rng.standard_normal((5, size)) * 10.0 ** rng.integers(-3, 4, (5, size))
    chain = chain_of([name], values)
    whole = chain(values)
    for other in (np.asfortranarray(values), np.repeat(values, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(chain(other), whole)
    np.testing.assert_array_equal(chain(values.T, ("feature", "sample")).T, whole)
    np.testing.assert_array_equal(np.stack([chain(row) for row in values]), whole)


def test_options_are_validated():
    for entry, where in (
        ({"sample_zscore": {"ddof": 2}}, "sample_zscore.ddof"),
        ({"sample_minmax": {"range": [1, 0]}}, "sample_minmax.range"),
    ):
        with pytest.raises(ConfigError) as caught:
            parse_chain([entry])
        assert caught.value.where == f"normalize.0.{where}"
