"""Power: scikit-learn's PowerTransformer, the likelihood itself, and data where the usual formulas lose everything."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest

from pipeline.errors import ConfigError, DataError, ManifestError
from pipeline.manifest import ManifestRecord
from pipeline.normalize import parse_chain, tiling
from pipeline.normalize.power import Power
from pipeline.normalize.power_fit import fit_power

preprocessing = pytest.importorskip("sklearn.preprocessing", reason="scikit-learn is the oracle")
stats = pytest.importorskip("scipy.stats", reason="SciPy is an oracle")

NAN, INF = np.nan, np.inf
DIMS = ("sample", "feature")
PER = {"per": ["feature"]}
METHODS = ["yeo-johnson", "box-cox"]
DRAWS = 700


def positive():
    rng = np.random.default_rng(4)
    columns = [
        rng.lognormal(0, 1, DRAWS),
        rng.gamma(3, 2, DRAWS),
        rng.uniform(0.1, 1, DRAWS),
        rng.negative_binomial(2, 0.1, DRAWS) + 1.0,
        10 - rng.exponential(1, DRAWS).clip(0, 9),
        rng.normal(30, 2, DRAWS),
        1 / rng.gamma(3, 2, DRAWS),
    ]
    return np.column_stack(columns)


def of_any_sign():
    rng = np.random.default_rng(4)
    columns = [
        rng.normal(3, 2, DRAWS),
        -rng.lognormal(1, 0.7, DRAWS),
        np.where(rng.random(DRAWS) < 0.8, 0.0, rng.lognormal(1, 1, DRAWS)),
        np.concatenate([rng.normal(-50, 1, DRAWS // 2), rng.normal(70, 3, DRAWS // 2)]),
        rng.standard_t(3, DRAWS),
        np.full(DRAWS, 4.0),
    ]
    return np.column_stack([positive(), *columns])


def data(method):
    return positive() if method == "box-cox" else of_any_sign()


def plain(values, method, exponent):
    return (stats.boxcox if method == "box-cox" else stats.yeojohnson)(values, exponent)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("standardize", [True, False])
def test_power_transformer(chain_of, method, standardize):
    """lambda to 1e-6, outputs to 1e-5: scikit-learn's search stops at about the square root of float64's precision."""
    values = data(method)
    chain = chain_of([{"power": {**PER, "method": method, "standardize": standardize}}], values)
    scaler = preprocessing.PowerTransformer(method=method, standardize=standardize).fit(values)
    np.testing.assert_allclose(chain.steps[0].parameters["lambda"], scaler.lambdas_, rtol=1e-6, atol=1e-6)
    for given in (values, values[::-3] * 1.5):
        expected = scaler.transform(given)
        np.testing.assert_allclose(chain(given), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("standardize", [True, False])
def test_the_formula_for_the_same_lambda_to_1e_10(chain_of, method, standardize):
    values = data(method)
    chain = chain_of([{"power": {**PER, "method": method, "standardize": standardize}}], values)
    exponents = chain.steps[0].parameters["lambda"]
    assert (exponents < 0).any() and (exponents > 1).any()
    for column, exponent in enumerate(exponents):
        fitted = plain(values[:, column], method, exponent)
        scale = fitted.std() if fitted.std() > 1e-12 else 1.0
        for given in (values, values[::-3] * 1.5, values**2):
            expected = plain(given[:, column], method, exponent)
            expected = (expected - fitted.mean()) / scale if standardize else expected
            tolerance = 1e-10 * max(1.0, np.abs(expected).max())
            np.testing.assert_allclose(chain(given)[:, column], expected, rtol=1e-10, atol=tolerance)


@pytest.mark.parametrize("method", METHODS)
def test_lambda_is_where_the_likelihood_of_scipy_is_greatest(fitted, method):
    values = data(method)
    exponents = fitted({"power": {**PER, "method": method}}, values).parameters["lambda"]
    likelihood = stats.boxcox_llf if method == "box-cox" else stats.yeojohnson_llf
    for column, exponent in enumerate(exponents[: -1 if method == "yeo-johnson" else None]):
        below, here, above = (likelihood(exponent + step, values[:, column]) for step in (-1e-3, 0.0, 1e-3))
        assert here > below and here > above
        vertex = 1e-3 * (below - above) / (2 * (below - 2 * here + above))
        assert abs(vertex) < 1e-5


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("standardize", [True, False])
def test_round_trip(chain_of, method, standardize):
    """To 1e-12 of the largest, but where lambda bends so far that outputs near the limit say little: 1e-6 here."""
    values = data(method)
    chain = chain_of([{"power": {**PER, "method": method, "standardize": standardize}}], values)
    given = np.vstack([values, values * 3])
    bent = chain.steps[0].parameters["lambda"] < -1.5
    error = np.abs(chain.inverse(chain(given)) - given)
    assert (error <= np.where(bent, 1e-6, 1e-12) * np.abs(given).max(axis=0)).all()


def _likelihood(values, power, offset):
    """That of Box-Cox of `values + offset` by its definition, in 60 digits."""
    with localcontext() as context:
        context.prec = 60
        logarithms = [(Decimal(value) + offset).ln() for value in values.tolist()]
        middle = sum(logarithms) / len(logarithms)
        transformed = [(power * (each - middle)).exp() / power for each in logarithms]
        mean = sum(transformed) / len(transformed)
        variance = sum((each - mean) ** 2 for each in transformed) / len(transformed)
        scores = [(each - mean) / variance.sqrt() for each in transformed]
        return -len(values) * variance.ln() / 2, np.array([float(score) for score in scores])


@pytest.mark.parametrize(("method", "sign"), [("yeo-johnson", 1.0), ("yeo-johnson", -1.0), ("box-cox", 1.0)])
def test_mean_1e8_and_unit_variance(fitted, method, sign):
    """Against 60 digits: lambda is the maximum to 1e-12 of itself, and outputs have 12 digits. The skewness is removed."""
    values = 1e8 + np.random.default_rng(2).gamma(3, 0.5, (150, 1))
    step = fitted({"power": {"method": method}}, sign * values)
    exponent = float(step.parameters["lambda"]) if sign > 0 else 2 - float(step.parameters["lambda"])
    assert abs(exponent) > 1e6
    offset, small = 1 if method == "yeo-johnson" else 0, Decimal("1e-9")
    (below, _), (here, scores), (above, _) = (
        _likelihood(values.ravel(), Decimal(exponent) * (1 + factor), offset) for factor in (-small, Decimal(0), small)
    )
    assert here > below and here > above
    assert abs(small * (below - above) / (2 * (below - 2 * here + above))) < 1e-12
    output = step(sign * values, DIMS).ravel()
    np.testing.assert_allclose(output, sign * scores, rtol=1e-11, atol=1e-12)
    assert abs(stats.skew(values.ravel())) > 0.8
    assert abs(stats.skew(output)) < 0.15
    np.testing.assert_allclose(step.inverse(step(sign * values, DIMS), DIMS), sign * values, rtol=3e-16)


def test_values_on_the_other_side_of_zero(fitted):
    """Features of one sign are taken relative to their median; new values of the other sign follow the plain formula."""
    values = np.column_stack([positive()[:, 1], -positive()[:, 1]])
    step = fitted({"power": {**PER, "standardize": False}}, values)
    new = np.column_stack([np.linspace(-30, 30, 61)] * 2)
    expected = [stats.yeojohnson(new[:, column], step.parameters["lambda"][column]) for column in range(2)]
    np.testing.assert_allclose(step(new, DIMS), np.transpose(expected), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(step.inverse(step(new, DIMS), DIMS), new, rtol=1e-11, atol=1e-11)
    assert (np.diff(step(new, DIMS), axis=0) > 0).all()


def test_counts_weigh_as_often_as_values_occur(fitted, chain_of):
    values = np.random.default_rng(6).poisson(4, (5000, 2)).astype(np.uint8)
    chain = chain_of([{"power": PER}], values, output_dtype="float64")
    scaler = preprocessing.PowerTransformer().fit(values.astype(np.float64))
    np.testing.assert_allclose(chain.steps[0].parameters["lambda"], scaler.lambdas_, rtol=1e-6)
    np.testing.assert_allclose(chain(values).mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(chain(values).std(axis=0), 1.0, rtol=1e-12)
    assert chain.inverse(chain(values)).tobytes() == values.tobytes()


def test_features_are_fitted_alone(monkeypatch, statistics_of):
    """Whatever else is fitted with them, in batches of any size."""
    values = of_any_sign()[:, :-1]
    distribution = statistics_of(values, DIMS, ("feature",)).distribution
    center = np.where(values.min(axis=0) > 0, np.median(values, axis=0), 0.0)
    together = fit_power(distribution, np.arange(12), center, 1.0)
    for most in (1, 1000, 3000):
        monkeypatch.setattr("pipeline.normalize.power_fit.BATCH_ENTRIES", most)
        apart = fit_power(distribution, np.array([3, 7, 10]), center[[3, 7, 10]], 1.0)
        for name in ("exponent", "mean", "std"):
            np.testing.assert_array_equal(getattr(apart, name), getattr(together, name)[[3, 7, 10]])


def test_constants_and_features_without_values(fitted):
    values = np.column_stack([np.full(6, -7.5), np.full(6, NAN), np.zeros(6), np.full(6, 1e8 + 0.1), np.arange(6.0)])
    step = fitted({"power": PER}, values)
    assert step.parameters["lambda"][:4].tolist() == [1.0] * 4
    assert step(values, DIMS)[0, [0, 2, 3]].tolist() == [0.0, 0.0, 0.0]
    np.testing.assert_allclose(step(values + 2, DIMS)[0, [0, 2, 3]], 2.0)
    np.testing.assert_allclose(step(np.full((1, 5), 3.0), DIMS)[0, 1], 3.0)
    box_cox = fitted({"power": {**PER, "method": "box-cox"}}, np.column_stack([np.full(6, 7.5), np.full(6, NAN)]))
    np.testing.assert_allclose(box_cox(np.array([[7.5, 1.0], [9.5, 3.0]]), DIMS), [[0.0, 0.0], [2.0, 2.0]], atol=1e-15)


def test_a_feature_of_two_values_stays_told_apart(chain_of):
    values = np.column_stack(
        [np.append(np.full(5000, 2.0), 9.0), np.append(np.zeros(5000), 9.0), np.append(np.full(5000, 2.0), -9)]
    )
    chain = chain_of([{"power": PER}], values)
    assert np.isfinite(chain.steps[0].parameters["lambda"]).all()
    np.testing.assert_allclose(chain(values).std(axis=0), 1.0)
    np.testing.assert_allclose(chain.inverse(chain(values)), values, atol=1e-2)


@pytest.mark.parametrize("method", METHODS)
def test_nan_and_infinities(chain_of, method):
    values = data(method)[:, :7].copy()
    values[5] = NAN
    plainly = chain_of([{"power": {**PER, "method": method}}], np.delete(values, 5, axis=0))
    values[6] = INF
    values[7] = INF if method == "box-cox" else -INF
    chain = chain_of([{"power": {**PER, "method": method}}], values)
    without = chain_of([{"power": {**PER, "method": method}}], np.delete(values, [5, 6, 7], axis=0))
    for name, array in without.steps[0].parameters.items():
        np.testing.assert_array_equal(chain.steps[0].parameters[name], array)
        assert (plainly.steps[0].parameters[name] != array).any()
    output = chain(values)
    assert np.isnan(output[5]).all()
    exponents = chain.steps[0].parameters["lambda"]
    np.testing.assert_array_equal(np.isinf(output[6]), exponents >= 0)
    assert (output[6] > np.nanmax(output[8:], axis=0)).all()
    asked = chain_of([{"power": {**PER, "method": method}}], values, nan_policy="propagate")
    assert np.isnan(asked(values)).all()


@pytest.mark.parametrize("value", [0.0, -2.0])
def test_box_cox_refuses_what_has_no_logarithm(fitted, chain_of, value):
    values = positive()
    chain = chain_of([{"power": {**PER, "method": "box-cox"}}], values)
    values[3, 1] = value
    with pytest.raises(DataError, match="Box-Cox") as caught:
        fitted({"power": {**PER, "method": "box-cox"}}, values)
    assert "1 of 7 features" in caught.value.found and "yeo-johnson" in caught.value.remedy
    with pytest.raises(DataError, match="Box-Cox") as caught:
        chain(values)
    assert "1 of 4900 values" in caught.value.found and caught.value.where == "normalize.0.power"


def test_results_that_overflow_are_refused(chain_of):
    chain = chain_of([{"power": {}}], -positive()[:, :1])
    assert chain.steps[0].parameters["lambda"] > 2
    with pytest.raises(DataError, match="overflow"):
        chain(np.array([[-1e300]]) if chain.steps[0].parameters["lambda"] < 1 else np.array([[1e300]]))
    with pytest.raises(DataError, match="leave float64") as caught:
        chain_of([{"power": {"standardize": False}}], 1e8 + np.random.default_rng(2).gamma(3, 0.5, (150, 1)))
    assert "standardize" in caught.value.remedy


def test_magnitudes_at_the_ends_of_float64(chain_of):
    rng = np.random.default_rng(1)
    for values in (10.0 ** rng.uniform(-300, 300, (60, 1)), rng.normal(0, 1e-300, (60, 1)), rng.normal(0, 1e100, (60, 1))):
        chain = chain_of([{"power": {}}], values)
        output = chain(values)
        assert abs(output.std() - 1) < 1e-9 and abs(output.mean()) < 1e-9
        np.testing.assert_allclose(chain.inverse(output), values, rtol=1e-9, atol=1e-12 * np.abs(values).max())
    for values in (np.array([[5e-324], [1e-323], [2e-323]]), np.append(rng.normal(size=50), [1e200, -1e150])[:, np.newaxis]):
        with pytest.raises(DataError, match="leave float64"):
            chain_of([{"power": {}}], values)


def test_beyond_the_limit_the_inverse_gives_the_last_value_before_it(chain_of):
    chain = chain_of([{"power": {"method": "box-cox"}}], positive()[:, :1] ** -1.0 + 0.5)
    step = chain.steps[0]
    assert step.parameters["lambda"] < 0
    limit = float(chain(np.array([[INF]])).item())
    back = chain.inverse(np.array([[limit], [limit + 1], [1e300], [INF]])).ravel()
    assert (back == back[1])[1:].all() and np.isfinite(back).all()
    assert back[1] > 1e6
    assert abs(chain(back[1:2, np.newaxis]).item() - limit) < 1e-14


@pytest.mark.parametrize("method", METHODS)
def test_the_same_bits_whatever_the_pieces_and_the_layout(chain_of, monkeypatch, method):
    """As the laws of every step, for Box-Cox and for features on either side of 0."""
    values = np.column_stack([data(method)[:60, :7], 1e8 + positive()[:60, 0]])
    values[3, 2] = NAN
    chain = chain_of([{"power": {**PER, "method": method}}], values)
    whole = chain(values)
    back = chain.inverse(whole)
    for piece_bytes in (8, 72, 400):
        monkeypatch.setattr(tiling, "PIECE_BYTES", piece_bytes)
        for given in (values, np.asfortranarray(values), np.repeat(values, 2, axis=1)[:, ::2]):
            assert chain(given).tobytes() == whole.tobytes()
        assert chain.inverse(np.asfortranarray(whole)).tobytes() == back.tobytes()
        assert chain(values[[7, 3]]).tobytes() == whole[[7, 3]].tobytes()


def test_a_manifest_holds_the_function(chain_of, tmp_path):
    values = of_any_sign()
    chain = chain_of([{"power": PER}], values)
    record = ManifestRecord.build(chain, {"sample": DRAWS, "feature": values.shape[1]}, {})
    record.save(tmp_path / "manifest")
    loaded = ManifestRecord.load(tmp_path / "manifest")
    assert loaded.digest == record.digest
    assert loaded.chain(values).tobytes() == chain(values).tobytes()


def test_within_what_a_rounded_distribution_allows(rounded_statistics):
    """Values off by 0.4 % move outputs by about as much of a standard deviation, where the mean is within some of them."""
    values = positive()[:, :4]
    rounded = Power(per=("feature",)).fit(rounded_statistics(values))
    exact = preprocessing.PowerTransformer().fit_transform(values)
    assert np.abs(rounded(values, DIMS) - exact).max() < 0.01
    assert np.abs(rounded(values, DIMS) - exact).max() > 1e-6


@pytest.mark.parametrize("options", [{"method": "box cox"}, {"standardize": 2}, {"lambda": 1}])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ConfigError, match="power"):
        parse_chain([{"power": options}])


@pytest.mark.parametrize(("name", "value"), [("scale", 0.0), ("center", -1.0)])
def test_stored_parameters_that_give_no_function_are_refused(name, value):
    parameters = {"lambda": 1.0, "center": 1.0, "mean": 0.0, "scale": 1.0, name: value}
    with pytest.raises(ManifestError, match="positive"):
        Power(method="box-cox").restore({key: np.array(each) for key, each in parameters.items()})
