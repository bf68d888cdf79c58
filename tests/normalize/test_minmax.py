"""Minmax and maxabs at the edges: constants, nothing finite, infinities, ranges, overflow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigError, DataError, ManifestError
from pipeline.normalize import Input, parse_chain
from pipeline.normalize.linear import interpolate
from pipeline.normalize.minmax import MaxAbs, MinMax

NAN, INF = np.nan, np.inf
finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)
deterministic = settings(derandomize=True, max_examples=200, deadline=None)


def column(*values):
    return np.array(values, dtype=np.float64)[:, np.newaxis]


def minmax(low, high, **options):
    return MinMax(**options).restore({"minimum": np.array(low), "maximum": np.array(high)})


@pytest.mark.parametrize("ends", [[0, 1], [-1, 1], [-0.5, 0.5], [0.1, 0.9], [-0.1, 0.2], [-1e-300, 1e300], [-0.3, 0.1]])
@pytest.mark.parametrize("clip", [False, True])
def test_fitted_extrema_become_the_ends_exactly(ends, clip, fitted):
    values = column(0.1, 0.7, 0.3, 1 / 3, -0.9)
    step = fitted({"minmax": {"range": ends, "clip": clip}}, values)
    output = step(values, ("sample", "feature"))
    assert output.min() == ends[0]
    assert output.max() == ends[1]
    inverse = step.inverse(np.array(ends, np.float64)[:, np.newaxis], ("sample", "feature"))
    assert inverse.ravel().tolist() == [-0.9, 0.7]


@deterministic
@given(
    values=st.lists(finite, min_size=2, max_size=20, unique=True),
    ends=st.tuples(finite, finite).filter(lambda ends: ends[0] < ends[1]),
)
def test_nothing_fitted_leaves_the_range_and_order_is_kept(values, ends):
    values = np.sort(np.array(values))
    output = minmax(values[0], values[-1], range=ends)(values, ("sample",))
    assert output[0] == ends[0]
    assert output[-1] == ends[1]
    assert (np.diff(output) >= 0).all()


@deterministic
@given(
    fractions=st.lists(st.floats(-3, 3), min_size=2, max_size=20),
    ends=st.tuples(finite, finite).filter(lambda ends: ends[0] < ends[1]),
)
def test_interpolation_never_decreases_beyond_the_ends_either(fractions, ends):
    fractions = np.sort(np.array([*fractions, 0.0, 1.0, np.nextafter(1, 0), np.nextafter(1, 2)]))
    output = interpolate(fractions.copy(), ends[0], ends[1] - ends[0], ends[1])
    assert (np.diff(output) >= 0).all()
    assert (output[fractions == 1] == ends[1]).all()
    assert (output[fractions == 0] == ends[0]).all()


def test_constant_feature_is_shifted_to_the_lower_end(fitted):
    step = fitted({"minmax": {"per": ["feature"], "range": [0.25, 0.75]}}, np.array([[5.0, 0.0], [5.0, 2.0]]))
    assert step(np.array([[5.0, 1.0]]), ("sample", "feature")).tolist() == [[0.25, 0.5]]
    assert step(np.array([[7.0, 1.0]]), ("sample", "feature")).tolist() == [[1.25, 0.5]]
    assert step.inverse(np.array([[0.5, 0.5]]), ("sample", "feature")).tolist() == [[5.5, 1.0]]


@pytest.mark.parametrize("options", [{}, {"clip": True}])
def test_feature_without_a_finite_value_is_the_constant_0(options, fitted):
    values = np.array([[NAN, 1.0], [INF, 3.0], [-INF, NAN]])
    step = fitted({"minmax": {"per": ["feature"], **options}}, values)
    assert step.parameters["minimum"].tolist() == [0.0, 1.0]
    assert step.parameters["maximum"].tolist() == [0.0, 3.0]
    assert step(np.array([[0.0, 2.0]]), ("sample", "feature")).tolist() == [[0.0, 0.5]]


def test_infinities_stay_or_are_clipped():
    values = np.array([-INF, 0.0, INF, NAN, 9.0])
    np.testing.assert_array_equal(minmax(0.0, 4.0)(values, ("sample",)), [-INF, 0.0, INF, NAN, 2.25])
    np.testing.assert_array_equal(minmax(0.0, 4.0, clip=True, range=(0.1, 0.9))(values, ("sample",)), [0.1, 0.1, 0.9, NAN, 0.9])


def test_clipping_far_values_does_not_overflow(chain_of):
    values = np.array([[0.0], [5e-324]])
    chain = chain_of([{"minmax": {"clip": True}}], values)
    assert chain(np.array([[1e308], [-1e308]])).tolist() == [[1.0], [0.0]]
    with pytest.raises(DataError, match="overflow float64"):
        chain_of(["minmax"], values)(np.array([[1e308]]))


def test_inverse_of_a_clipped_step_returns_the_bound():
    step = minmax(2.0, 4.0, clip=True)
    output = step(np.array([3.0, 9.0]), ("sample",))
    assert step.inverse(output, ("sample",)).tolist() == [3.0, 4.0]


def test_width_beyond_float64_is_refused(fitted):
    with pytest.raises(DataError, match="max - min overflows") as caught:
        fitted("minmax", column(-1e308, 1e308))
    assert caught.value.found == "1 of 1 features"


def test_nothing_finite_at_all_is_refused(fitted):
    for name in ("minmax", "maxabs"):
        with pytest.raises(DataError, match="no finite value"):
            fitted(name, column(NAN, INF))
        with pytest.raises(DataError, match="no finite value"):
            fitted(name, np.empty((0, 3)))


def test_propagated_features_become_nan_because_asked(fitted):
    values = np.array([[NAN, 1.0, INF], [1.0, 3.0, NAN]])
    for options in ({"minmax": {"per": ["feature"]}}, {"maxabs": {"per": ["feature"]}}):
        output = fitted(options, values, nan_policy="propagate")(np.ones((1, 3)), ("sample", "feature"))
        assert np.isnan(output).tolist() == [[True, False, True]]


def test_extrema_of_64_bit_integers_are_those_of_the_converted_values(chain_of):
    values = np.array([[-(2**63)], [0], [2**63 - 1]])
    output = chain_of(["minmax"], values)(values)
    assert output.ravel().tolist() == [0.0, 0.5, 1.0]


def test_range_and_clip_are_validated():
    for wrong in ([1, 1], [1, 0], [0], [0, 1, 2], [-1.7e308, 1.7e308], [0, INF], ["a", 1], [False, True]):
        with pytest.raises(ConfigError) as caught:
            parse_chain([{"minmax": {"range": wrong}}])
        assert caught.value.where.startswith("normalize.0.minmax.range")
    assert MinMax(range=np.array([0, 2], np.float32)).range == (0.0, 2.0)
    assert not np.signbit(MinMax(range=(-0.0, 1)).range[0])


def test_per_is_checked_and_put_in_the_order_of_the_array():
    given_input = Input(("sample", "y", "x"), "sample", np.dtype(np.float32))
    assert MinMax(per=("x", "y")).bind(given_input).per == ("y", "x")
    for per, found in ((("x", "z"), "z"), (("sample",), "sample"), (("x", "x"), "x, x")):
        with pytest.raises(ConfigError) as caught:
            MinMax(per=per).bind(given_input)
        assert caught.value.where == "minmax.per"
        assert caught.value.found == found


def test_stored_extrema_in_the_wrong_order_are_refused():
    with pytest.raises(ManifestError, match="minimum above"):
        minmax(1.0, 0.0)


def test_derivation_from_almost_no_spread_is_refused():
    with pytest.raises(DataError, match="scale overflows"):
        assert minmax(0.0, 5e-324).affine
    with pytest.raises(DataError, match="scale overflows"):
        assert MaxAbs().restore({"magnitude": np.array(5e-324)}).affine


def test_maxabs_takes_the_larger_side_and_leaves_zeros(fitted):
    values = np.array([[-4.0, 0.0, NAN, 7.0], [2.0, -0.0, NAN, 7.0]])
    step = fitted({"maxabs": {"per": ["feature"]}}, values)
    assert step.parameters["magnitude"].tolist() == [4.0, 1.0, 1.0, 7.0]
    np.testing.assert_array_equal(step(values, ("sample", "feature")), [[-1.0, 0.0, NAN, 1.0], [0.5, 0.0, NAN, 1.0]])
    np.testing.assert_array_equal(step(np.array([[-INF, INF, 1, -14]]), ("sample", "feature")), [[-INF, INF, 1, -2]])


def test_maxabs_parameter_must_be_positive():
    with pytest.raises(ManifestError, match="divide by zero"):
        MaxAbs().restore({"magnitude": np.array(0.0)})
