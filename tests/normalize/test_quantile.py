"""Quantile: scikit-learn's QuantileTransformer, and what makes it safe for new data."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigError, DataError, ManifestError
from pipeline.manifest import ManifestRecord
from pipeline.normalize import parse_chain
from pipeline.normalize.quantile import Quantile

preprocessing = pytest.importorskip("sklearn.preprocessing", reason="scikit-learn is the oracle")

NAN, INF = np.nan, np.inf
DIMS = ("sample", "feature")
PER = {"per": ["feature"]}
END = 5.199337582605575
DRAWS = 1200


def data():
    rng = np.random.default_rng(9)
    columns = [
        rng.normal(3, 2, DRAWS),
        rng.standard_cauchy(DRAWS),
        rng.negative_binomial(2, 0.1, DRAWS),
        np.where(rng.random(DRAWS) < 0.7, 0.0, rng.lognormal(2, 1, DRAWS)),
        np.where(rng.random(DRAWS) < 0.5, 4.0, rng.normal(4, 1, DRAWS)),
        np.concatenate([rng.normal(-1e3, 1, DRAWS // 2), rng.normal(1e3, 1, DRAWS // 2)]),
        rng.normal(1e8, 1.0, DRAWS),
        rng.integers(0, 256, DRAWS),
        np.append(np.full(DRAWS - 1, 2.0), 9.0),
        np.full(DRAWS, 4.0),
    ]
    return np.column_stack(columns)


def away_from_the_ends(values, fitted_values):
    """Without what scikit-learn gives to values within 1e-7 of the extrema, which depends on their unit."""
    low, high = fitted_values.min(axis=0), fitted_values.max(axis=0)
    return (np.abs(values - low) > 1e-6) & (np.abs(values - high) > 1e-6) | (values == low) | (values == high)


@pytest.mark.parametrize("output", ["uniform", "normal"])
@pytest.mark.parametrize("n_quantiles", [2, 10, 100, 1000, 5000])
def test_quantile_transformer(chain_of, output, n_quantiles):
    """To 1e-12 in probability; for normal 1e-9, since near its ends a probability counts a million times."""
    values = data()
    chain = chain_of([{"quantile": {**PER, "output": output, "n_quantiles": n_quantiles}}], values)
    scaler = preprocessing.QuantileTransformer(n_quantiles=n_quantiles, output_distribution=output, subsample=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        scaler.fit(values)
    np.testing.assert_allclose(chain.steps[0].parameters["quantiles"], scaler.quantiles_.T, rtol=1e-13, atol=1e-12)
    for new in (values, values * 1.1 - 0.3, values[::-1] + 1e-3):
        compared = away_from_the_ends(new, values)
        assert compared.mean() > 0.95
        tolerance = 1e-12 if output == "uniform" else 1e-9
        np.testing.assert_allclose(chain(new)[compared], scaler.transform(new)[compared], rtol=0, atol=tolerance)
    fractions = np.random.default_rng(1).uniform(-0.1, 1.1, values.shape) if output == "uniform" else values - 3
    expected = scaler.inverse_transform(fractions)
    np.testing.assert_allclose(chain.inverse(fractions), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("output", ["uniform", "normal"])
@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(-1e300, 1e300) | st.integers(-3, 3).map(float), min_size=1, max_size=40),
    new=st.lists(st.floats(allow_nan=False) | st.integers(-3, 3).map(float), min_size=2, max_size=30),
    n_quantiles=st.integers(2, 60),
)
def test_monotone_and_defined_everywhere(output, values, new, n_quantiles, exact_statistics):
    fitted = Quantile(output=output, n_quantiles=n_quantiles).fit(exact_statistics(np.array(values)))
    given_values = np.sort(np.concatenate([new, values, fitted.parameters["quantiles"]]))
    result = fitted(given_values, ("sample",))
    assert (np.diff(result) >= 0).all()
    low, high = (0.0, 1.0) if output == "uniform" else (-END, END)
    assert (result >= low - 1e-9).all() and (result <= high + 1e-9).all()
    back = fitted.inverse(np.sort(result), ("sample",))
    assert (np.diff(back) >= 0).all()
    assert back.min() >= min(values) and back.max() <= max(values)


def test_the_output_is_distributed_as_asked(chain_of):
    values = data()[:, [0, 1, 5, 6]]
    uniform = np.sort(chain_of([{"quantile": PER}], values)(values), axis=0)
    np.testing.assert_allclose(uniform, np.linspace(0, 1, DRAWS)[:, np.newaxis].repeat(4, axis=1), atol=2e-3)
    normal = chain_of([{"quantile": {**PER, "output": "normal"}}], values)(values)
    np.testing.assert_allclose(normal.mean(axis=0), 0.0, atol=1e-2)
    np.testing.assert_allclose(normal.std(axis=0), 1.0, atol=2e-2)


@pytest.mark.parametrize("output", ["uniform", "normal"])
def test_round_trip(chain_of, output):
    """Within 1e-12 of the range; for normal, where p is near 1 and lost digits, 1e-9 of it."""
    values = data()
    chain = chain_of([{"quantile": {**PER, "output": output}}], values)
    width = values.max(axis=0) - values.min(axis=0)
    error = np.abs(chain.inverse(chain(values)) - values)
    assert (error <= (1e-12 if output == "uniform" else 1e-9) * width + 1e-15 * np.abs(values)).all()


def test_integers_come_back_as_they_were(chain_of):
    values = np.random.default_rng(3).poisson(40, (3000, 2)).astype(np.uint8)
    chain = chain_of([{"quantile": {**PER, "output": "normal"}}], values)
    assert chain.inverse(chain(values)).tobytes() == values.tobytes()


def test_mean_1e8_loses_nothing(fitted):
    values = data()[:, 6:7]
    for output in ("uniform", "normal"):
        far = fitted({"quantile": {"output": output}}, values)(values, DIMS)
        near = fitted({"quantile": {"output": output}}, values - 1e8)(values - 1e8, DIMS)
        np.testing.assert_allclose(far, near, atol=1e-5 if output == "normal" else 2e-7)
        assert len(np.unique(far)) == len(np.unique(values))


def test_a_spike_becomes_the_middle_of_its_fractions(fitted):
    values = np.array([[0.0], [1.0], [1.0], [1.0], [9.0]])
    step = fitted({"quantile": {}}, values)
    assert step.parameters["quantiles"].tolist() == [0.0, 1.0, 1.0, 1.0, 9.0]
    assert step(np.array([-1.0, 0.0, 0.5, 1.0, 5.0, 9.0, 10.0]), ("sample",)).tolist() == [0, 0, 0.125, 0.5, 0.875, 1, 1]


def test_constants_nan_and_infinities(fitted):
    values = np.column_stack([np.full(6, 4.0), np.full(6, NAN), [1.0, NAN, INF, 2.0, -INF, 3.0]])
    step = fitted({"quantile": PER}, values)
    output = step(np.array([[4.0, 0.0, INF], [3.0, -INF, -INF], [5.0, 1.0, NAN], [NAN, NAN, 2.0]]), DIMS)
    np.testing.assert_allclose(output, [[0, 0, 1], [0, 0, 0], [1, 1, NAN], [NAN, NAN, 0.5]], rtol=1e-15)
    normal = fitted({"quantile": {**PER, "output": "normal"}}, values)
    np.testing.assert_allclose(normal(np.array([[4.0, 1.0, INF]]), DIMS), [[-END, END, END]])
    asked = fitted({"quantile": PER}, values, DIMS, "propagate")
    assert np.isnan(asked(np.zeros((1, 3)), DIMS)).tolist() == [[False, True, True]]
    assert np.isnan(asked.inverse(np.zeros((1, 3)), DIMS)).tolist() == [[False, True, True]]


def test_parameters_are_as_many_as_asked_or_as_the_data_allow(fitted):
    values = np.arange(30.0).reshape(10, 3)
    assert fitted({"quantile": PER}, values).parameters["quantiles"].shape == (3, 10)
    assert fitted({"quantile": {}}, values).parameters["quantiles"].shape == (30,)
    assert fitted({"quantile": {**PER, "n_quantiles": 4}}, values).parameters["quantiles"].shape == (3, 4)
    assert fitted({"quantile": {}}, values[:1, :1]).parameters["quantiles"].tolist() == [0.0, 0.0]


def test_extrema_are_exact_where_the_distribution_is_rounded(rounded_statistics):
    values = data()[:, [0, 1, 3]]
    statistics = rounded_statistics(values)
    error = statistics.distribution.relative_error
    step = Quantile(per=("feature",), n_quantiles=101).fit(statistics)
    exact = np.percentile(values, np.arange(101), axis=0).T
    bound = error * np.abs(values).max(axis=0)[:, np.newaxis]
    assert (np.abs(step.parameters["quantiles"] - exact) <= bound).all()
    np.testing.assert_array_equal(step.parameters["quantiles"][:, [0, -1]], exact[:, [0, -1]])
    assert (step.parameters["quantiles"] != exact).any()


def test_a_range_that_overflows_is_refused(fitted):
    with pytest.raises(DataError, match="overflows") as caught:
        fitted({"quantile": {}}, np.array([[-1.7e308], [1.7e308]]))
    assert "affine" in caught.value.remedy


@pytest.mark.parametrize("options", [{"output": "gaussian"}, {"n_quantiles": 1}, {"n_quantiles": 2.5}])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ConfigError, match="quantile"):
        parse_chain([{"quantile": options}])


def test_stored_quantiles_must_ascend():
    for stored in ([2.0, 1.0], [1.0], [1.0, NAN, 2.0]):
        with pytest.raises(ManifestError, match="ascend"):
            Quantile().restore({"quantiles": np.array(stored)})


def test_stored_quantiles_may_be_padded_with_nan():
    step = Quantile(per=("feature",))
    plain = np.array([[1.0, 2.0, 3.0], [NAN, NAN, NAN]])
    padded = np.pad(plain, [(0, 0), (0, 2)], constant_values=NAN)
    np.testing.assert_array_equal(step.restore({"quantiles": padded}).parameters["quantiles"], plain)


def test_a_manifest_holds_the_quantiles(chain_of, tmp_path):
    """Small, and the same function after it is loaded, also of a part of the features."""
    values = data()
    chain = chain_of([{"quantile": {**PER, "output": "normal", "n_quantiles": 200}}], values)
    record = ManifestRecord.build(chain, {"sample": DRAWS, "feature": 10}, {})
    record.save(tmp_path / "manifest")
    assert sum(path.stat().st_size for path in (tmp_path / "manifest").iterdir()) < 10 * 200 * 8 + 4000
    with pytest.raises(ManifestError, match="shape of its dims"):
        ManifestRecord.build(chain, {"sample": DRAWS, "feature": 9}, {})
    loaded = ManifestRecord.load(tmp_path / "manifest")
    assert loaded.digest == record.digest
    assert loaded.sizes == {"feature": 10}
    assert loaded.chain(values).tobytes() == chain(values).tobytes()
    some = np.array([7, 0, 3])
    assert loaded.chain.select({"feature": some})(values[:, some]).tobytes() == chain(values)[:, some].tobytes()
