"""Whiten: against scikit-learn and the formulas, at large means, without variance, with NaN, and its bits."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from pipeline.errors import ConfigError, DataError, ManifestError
from pipeline.normalize import Input, bind_chain, parse_chain
from pipeline.normalize.whiten import Whiten

NAN = np.nan
METHODS = ["pca", "zca", "zca-cor"]


def correlated(samples=400, features=6, mean=0.0):
    """Normal data whose covariance has a condition number of 5 to 200."""
    rng = np.random.default_rng(features)
    mixing = rng.standard_normal((features, features)) / np.sqrt(features) + 2 * np.eye(features)
    return rng.standard_normal((samples, features)) @ mixing + mean


def power_of(matrix, exponent):
    """A symmetric matrix to a power."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values**exponent) @ vectors.T


@pytest.mark.parametrize("method", METHODS)
def test_output_covariance_is_the_identity(method, chain_of):
    """To 1e-8, and the means are 0 to 1e-8."""
    values = correlated()
    output = chain_of([{"whiten": {"method": method}}], values)(values)
    np.testing.assert_allclose(np.cov(output.T), np.eye(6), atol=1e-8)
    np.testing.assert_allclose(output.mean(axis=0), 0, atol=1e-8)


def test_pca_is_that_of_scikit_learn(chain_of):
    """To 1e-10 up to signs; ours make the largest element of each eigenvector positive."""
    decomposition = pytest.importorskip("sklearn.decomposition", reason="scikit-learn is the oracle")
    values = correlated()
    chain = chain_of([{"whiten": {"method": "pca"}}], values)
    oracle = decomposition.PCA(whiten=True, svd_solver="full").fit(values)
    for data in (values, values[::-3] * 1.5 - 2):
        expected = oracle.transform(data)
        output = chain(data)
        signs = np.sign((output * expected).sum(axis=0))
        np.testing.assert_allclose(output, expected * signs, rtol=1e-10, atol=1e-10)
    whitening = chain.steps[0].parameters["whitening"]
    assert (whitening[np.abs(whitening).argmax(axis=0), np.arange(6)] > 0).all()


@pytest.mark.parametrize("epsilon", [0.0, 0.3])
def test_zca_is_the_formula(epsilon, chain_of):
    """Bell and Sejnowski: (x - mean) @ (covariance + epsilon)^-1/2, to 1e-10."""
    values = correlated()
    output = chain_of([{"whiten": {"epsilon": epsilon}}], values)(values)
    whitening = power_of(np.cov(values.T) + epsilon * np.eye(6), -0.5)
    np.testing.assert_allclose(output, (values - values.mean(axis=0)) @ whitening, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("epsilon", [0.0, 0.3])
def test_zca_cor_is_the_formula(epsilon, chain_of):
    """Kessy, Lewin and Strimmer: (x - mean) / std @ (correlation + epsilon)^-1/2, to 1e-10, whatever the units."""
    values = correlated() * [1.0, 1e-6, 1e6, 10.0, 1.0, 1e3]
    output = chain_of([{"whiten": {"method": "zca-cor", "epsilon": epsilon}}], values)(values)
    scaled = (values - values.mean(axis=0)) / values.std(axis=0, ddof=1)
    expected = scaled @ power_of(np.corrcoef(values.T) + epsilon * np.eye(6), -0.5)
    np.testing.assert_allclose(output, expected, rtol=1e-10, atol=1e-10)


def test_ddof_is_that_of_the_covariance(chain_of):
    values = correlated(samples=20)
    output = chain_of([{"whiten": {"ddof": 0}}], values)(values)
    np.testing.assert_allclose(np.cov(output.T, ddof=0), np.eye(6), atol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_means_of_1e8_and_unit_variance(method, chain_of):
    """The data are known to 1.5e-8 there: the output covariance is the identity to 1e-7, the output mean 0 to 1e-7."""
    values = correlated(samples=1000, mean=1e8)
    chain = chain_of([{"whiten": {"method": method}}], values)
    output = chain(values)
    np.testing.assert_allclose(np.cov(output.T), np.eye(6), atol=1e-7)
    np.testing.assert_allclose(output.mean(axis=0), 0, atol=1e-7)
    np.testing.assert_allclose(chain.inverse(output), values, rtol=1e-15)


@pytest.mark.parametrize("method", METHODS)
def test_inverse(method, chain_of):
    """To 1e-12 of the largest value, also of new data."""
    values = correlated()
    chain = chain_of([{"whiten": {"method": method, "epsilon": 0.01}}], values)
    for data in (values, values * 7 + 3):
        np.testing.assert_allclose(chain.inverse(chain(data)), data, rtol=0, atol=1e-12 * np.abs(data).max())


@pytest.mark.parametrize("method", METHODS)
def test_directions_without_variance_become_0_and_come_back(method, chain_of):
    """A constant feature, and a feature that is the sum of two others."""
    values = correlated(features=4)
    values = np.column_stack([values, np.full(400, 1e8), values[:, 0] + values[:, 1]])
    chain = chain_of([{"whiten": {"method": method}}], values)
    output = chain(values)
    assert np.isfinite(output).all()
    assert np.linalg.matrix_rank(np.cov(output.T), tol=1e-6) == 4
    np.testing.assert_allclose(np.linalg.eigvalsh(np.cov(output.T))[-4:], 1, atol=1e-8)
    np.testing.assert_allclose(output[:, 4], 0, atol=1e-12)
    np.testing.assert_allclose(chain.inverse(output), values, rtol=1e-12, atol=1e-11)


def test_constants_only(chain_of):
    values = np.full((5, 3), 2.0)
    np.testing.assert_array_equal(chain_of(["whiten"], values)(values + np.array([0.0, 1.0, 0.0])), [[0.0, 1.0, 0.0]] * 5)


def test_patches_are_whitened_over_all_their_dims_together(chain_of):
    patches = correlated(features=12).reshape(400, 2, 3, 2)
    dims = ("patch", "y", "x", "channel")
    chain = chain_of([{"whiten": {"dims": ["channel", "y", "x"]}}], patches, dims)
    assert chain.steps[0].per == ("y", "x", "channel")
    assert chain.steps[0].parameters["whitening"].shape == (2, 3, 2, 12)
    np.testing.assert_allclose(np.cov(chain(patches).reshape(400, 12).T), np.eye(12), atol=1e-8)
    flat = chain_of(["whiten"], patches.reshape(400, 12))
    np.testing.assert_array_equal(chain(patches).reshape(400, 12), flat(patches.reshape(400, 12)))


def test_dims_that_are_not_named_hold_more_vectors(chain_of):
    values = correlated(samples=300, features=3).reshape(100, 3, 3)
    chain = chain_of([{"whiten": {"dims": ["channel"]}}], values, ("image", "pixel", "channel"))
    np.testing.assert_allclose(np.cov(chain(values).reshape(300, 3).T), np.eye(3), atol=1e-8)


def test_vectors_with_nan_are_left_out_and_become_nan(chain_of):
    values = correlated()
    holes = values.copy()
    holes[::5, 2] = NAN
    chain = chain_of(["whiten"], holes)
    np.testing.assert_array_equal(chain(values), chain_of(["whiten"], values[np.arange(400) % 5 > 0])(values))
    output = chain(holes)
    assert np.isnan(output[::5]).all()
    assert not np.isnan(np.delete(output, np.s_[::5], axis=0)).any()


def test_infinities_are_refused(chain_of):
    values = correlated()
    chain = chain_of(["whiten"], values)
    values[[3, 5], 1] = np.inf, -np.inf
    with pytest.raises(DataError, match="infinite") as caught:
        chain(values)
    assert (caught.value.where, caught.value.found) == ("normalize.0.whiten", "2 of 400 vectors with an infinity")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("features", [1, 17, 300])
def test_bits_depend_on_the_vector_alone(method, features, chain_of):
    values = correlated(samples=61, features=features)
    chain = chain_of([{"whiten": {"method": method, "epsilon": 0.1}}], values)
    whole = chain(values)
    back = chain.inverse(whole)
    for rows in (slice(0, 1), slice(3, 50), np.arange(61)[::-1], np.repeat(np.arange(61), 2)):
        np.testing.assert_array_equal(chain(values[rows]), whole[rows])
        np.testing.assert_array_equal(chain.inverse(whole[rows]), back[rows])
    np.testing.assert_array_equal(chain(np.asfortranarray(values)), whole)
    np.testing.assert_array_equal(chain(values.T, ("feature", "sample")).T, whole)
    np.testing.assert_array_equal(np.stack([chain(row) for row in values]), whole)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(chain))(values), whole)


def test_a_pickle_holds_the_parameters_alone(chain_of):
    values = correlated(features=60)
    chain = chain_of(["whiten"], values)
    before = pickle.dumps(chain.steps[0])
    chain.inverse(chain(values))
    assert pickle.dumps(chain.steps[0]) == before


@pytest.mark.parametrize("components", [1, 3, 6])
def test_components_are_those_of_scikit_learn(components, chain_of):
    """To 1e-10 up to signs, also the inverse, which is the projection."""
    decomposition = pytest.importorskip("sklearn.decomposition", reason="scikit-learn is the oracle")
    values = correlated(mean=3.0)
    chain = chain_of([{"whiten": {"method": "pca", "components": components}}], values)
    assert chain.output_dims == ("sample", "component")
    oracle = decomposition.PCA(n_components=components, whiten=True, svd_solver="full").fit(values)
    for data in (values, values[::-3] * 1.5 - 2):
        expected, output = oracle.transform(data), chain(data)
        assert output.shape == (len(data), components)
        signs = np.sign((output * expected).sum(axis=0))
        np.testing.assert_allclose(output, expected * signs, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(chain.inverse(output), oracle.inverse_transform(expected), rtol=1e-10, atol=1e-10)
        np.testing.assert_array_equal(chain(data[0]), output[0])
        np.testing.assert_array_equal(chain.inverse(output[0]), chain.inverse(output)[0])


@pytest.mark.parametrize("method", ["zca", "zca-cor"])
def test_components_of_the_other_methods_keep_the_shape(method, chain_of):
    """Of rank k, to 1e-10: what all components give, projected onto the eigenvectors of the k greatest eigenvalues."""
    values = correlated() * [1.0, 2.0, 5.0, 1.0, 0.3, 1.0]
    some = chain_of([{"whiten": {"method": method, "components": 2}}], values)
    scaled = values / (values.std(axis=0, ddof=1) if method == "zca-cor" else 1.0)
    vectors = np.linalg.eigh(np.cov(scaled.T))[1][:, -2:]
    whole = chain_of([{"whiten": {"method": method}}], values)(values)
    np.testing.assert_allclose(some(values), whole @ vectors @ vectors.T, rtol=1e-10, atol=1e-10)
    projected = (scaled - scaled.mean(axis=0)) @ vectors @ vectors.T + scaled.mean(axis=0)
    np.testing.assert_allclose(some.inverse(some(values)) / values * scaled, projected, rtol=1e-10, atol=1e-10)
    assert some.output_dims == ("sample", "feature")


def test_components_of_patches_are_one_dim_in_their_place(chain_of):
    patches = correlated(features=12).reshape(400, 2, 3, 2)
    dims = ("patch", "y", "x", "channel")
    chain = chain_of([{"whiten": {"method": "pca", "components": 5}}], patches, dims)
    flat = chain_of([{"whiten": {"method": "pca", "components": 5}}], patches.reshape(400, 12))
    assert chain.output_dims == ("patch", "component")
    np.testing.assert_array_equal(chain(patches), flat(patches.reshape(400, 12)))
    np.testing.assert_array_equal(chain.inverse(chain(patches)).reshape(400, 12), flat.inverse(flat(patches.reshape(400, 12))))


def test_dims_that_lie_apart_come_back_in_order(chain_of):
    values = correlated(samples=300, features=6).reshape(100, 2, 3, 3)
    dims = ("image", "channel", "pixel", "filter")
    entry = {"whiten": {"method": "pca", "components": 6, "dims": ["filter", "channel"], "component_dim": "pc"}}
    chain = chain_of([entry], values, dims)
    assert chain.output_dims == ("image", "pc", "pixel")
    np.testing.assert_allclose(chain.inverse(chain(values)), values, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(np.cov(np.moveaxis(chain(values), 1, 2).reshape(300, 6).T), np.eye(6), atol=1e-8)


def test_steps_after_it_name_the_components(chain_of):
    values = correlated()
    entries = [{"zscore": {"per": ["feature"]}}, {"whiten": {"method": "pca", "components": 3}}]
    entries += [{"minmax": {"per": ["component"]}}, {"unit_norm": {"dims": ["component"]}}]
    chain = chain_of(entries[:3], values)
    output = chain(values)
    np.testing.assert_allclose(output.min(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(output.max(axis=0), 1, atol=1e-12)
    projected = chain.inverse(output)
    assert projected.shape == values.shape
    np.testing.assert_allclose(chain(projected), output, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(chain_of(entries, values)(values), axis=1), 1)


def test_components_without_variance_are_0(chain_of):
    values = np.column_stack([correlated(features=2), np.full(400, 7.0)])
    output = chain_of([{"whiten": {"method": "pca", "components": 3}}], values)(values)
    np.testing.assert_allclose(output[:, 2], 0, atol=1e-12)


def test_components_that_do_not_fit_are_refused(fitted):
    values = correlated()
    with pytest.raises(ConfigError, match="more components than there are features") as caught:
        fitted({"whiten": {"components": 7}}, values)
    assert (caught.value.where, caught.value.found, caught.value.expected) == ("whiten.components", 7, "at most 6")
    given = Input(("sample", "x"), "sample", np.dtype(np.float32), {"sample": 9, "x": 4})
    with pytest.raises(ConfigError, match="more components") as caught:
        bind_chain(parse_chain([{"whiten": {"components": 5}}]), given)
    assert caught.value.where == "normalize.0.whiten.components"
    pca = {"method": "pca", "components": 2}
    for entries in ([{"whiten": {**pca, "component_dim": "x"}}], [{"whiten": pca}, {"whiten": {**pca, "component_dim": "x"}}]):
        with pytest.raises(ConfigError, match="a dim of the components' name"):
            bind_chain(parse_chain(entries), given)
    step = fitted({"whiten": pca}, values)
    with pytest.raises(ManifestError, match="wrong shape"):
        step.step.restore({name: array[..., :1] if array.ndim > 1 else array for name, array in step.parameters.items()})


def test_too_few_vectors(fitted):
    for values in (np.ones((1, 3)), np.array([[1.0, NAN], [NAN, 2.0], [1.0, 1.0]])):
        with pytest.raises(DataError, match="no covariance to whiten with") as caught:
            fitted("whiten", values)
        assert caught.value.expected == "more than 1 vectors, and products that float64 holds"
    with pytest.raises(DataError, match="no covariance to whiten with"):
        fitted("whiten", correlated() * 1e160)


@pytest.mark.parametrize("method", METHODS)
def test_deviations_whose_squares_underflow_are_refused(method, fitted, chain_of):
    values = correlated()
    with pytest.raises(DataError, match="underflows") as caught:
        fitted({"whiten": {"method": method}}, values * 1e-200)
    assert caught.value.where == "whiten" and caught.value.found.startswith("6 of 6 features")
    output = chain_of([{"affine": {"scale": 1e200}}, {"whiten": {"method": method}}], values * 1e-200)(values * 1e-200)
    np.testing.assert_allclose(output, chain_of([{"whiten": {"method": method}}], values)(values), rtol=1e-9, atol=1e-9)
    small = chain_of([{"whiten": {"method": method}}], values * 1e-139)
    np.testing.assert_allclose(np.cov(small(values * 1e-139).T), np.eye(6), atol=1e-8)


def test_one_feature_of_tiny_deviation_is_as_one_without(fitted, chain_of):
    """Unless each is divided by its own deviation first."""
    values = correlated() * [1, 1, 1, 1, 1, 1e-200]
    output = chain_of(["whiten"], values)(values)
    np.testing.assert_allclose(np.cov(output[:, :5].T), np.eye(5), atol=1e-8)
    np.testing.assert_allclose(output[:, 5], 0, atol=1e-12)
    with pytest.raises(DataError, match="underflows") as caught:
        fitted({"whiten": {"method": "zca-cor"}}, values)
    assert caught.value.found.startswith("1 of 6 features")


def test_statistics_without_a_covariance(statistics_of):
    statistics = statistics_of(correlated(), ("sample", "feature"), ("feature",))
    with pytest.raises(DataError, match="no covariance of these vectors"):
        Whiten(dims=("feature",)).fit(statistics)


def test_policies_for_nan(fitted):
    values = correlated()
    values[0, 0] = NAN
    with pytest.raises(DataError, match="none are allowed"):
        fitted("whiten", values, nan_policy="error")
    step = fitted("whiten", values, nan_policy="propagate")
    assert all(np.isnan(parameter).all() for parameter in step.parameters.values())
    assert np.isnan(step(correlated(), ("sample", "feature"))).all()


def test_overflow_is_an_error(chain_of):
    values = correlated() * 1e-9
    with pytest.raises(DataError, match="overflow float64"):
        chain_of(["whiten"], values)(np.full((1, 6), [1e308, -1e308, 1e308, 1e308, 1e308, 1e308]))


def test_options_are_validated():
    for options, where in (({"epsilon": -1}, "epsilon"), ({"method": "cholesky"}, "method"), ({"components": 0}, "components")):
        with pytest.raises(ConfigError) as caught:
            parse_chain([{"whiten": options}])
        assert caught.value.where == f"normalize.0.whiten.{where}"
    with pytest.raises(ConfigError, match="runs over the dims of one sample"):
        bind_chain(parse_chain([{"whiten": {"dims": ["sample"]}}]), Input(("sample", "x"), "sample", np.dtype(np.float32)))


def test_stored_matrices_that_do_not_fit_are_refused():
    step = Whiten(dims=("x",))
    with pytest.raises(ManifestError, match="wrong shape"):
        step.restore({"mean": np.zeros(3), "whitening": np.eye(3), "unwhitening": np.eye(2)})
