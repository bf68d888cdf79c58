"""Library_size and pearson_residuals at the edges and against scanpy's formulas; `test_scanpy.py` asks scanpy itself."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import ConfigError, DataError, ManifestError
from pipeline.normalize import parse_chain
from pipeline.normalize.pearson_residuals import PearsonResiduals

NAN, INF = np.nan, np.inf
STEPS = ["library_size", "pearson_residuals"]


@pytest.fixture
def counts():
    """300 cells of 40 genes of very different abundance, as in single-cell data mostly zeros."""
    rng = np.random.default_rng(4)
    return rng.negative_binomial(2, 1 / (1 + 10.0 ** rng.uniform(-2, 2, 40)), (300, 40)).astype(np.float64)


def normalize_total(counts, target_sum):
    """As scanpy 1.12 has it in `pp.normalize_total`."""
    totals = counts.sum(axis=1) / target_sum
    return counts / np.where(totals == 0, 1.0, totals)[:, np.newaxis]


def normalize_pearson_residuals(counts, theta=100.0, clip=None):
    """As scanpy 1.12 has it in `experimental.pp.normalize_pearson_residuals`."""
    clip = np.sqrt(len(counts)) if clip is None else clip
    mu = counts.sum(axis=1, keepdims=True) @ counts.sum(axis=0, keepdims=True) / counts.sum()
    return np.clip((counts - mu) / np.sqrt(mu + mu**2 / theta), -clip, clip)


@pytest.mark.parametrize("target", [1, 1e4, 1e6])
def test_library_size_is_normalize_total(target, counts, chain_of):
    """To 1e-15, and a cell without counts stays one."""
    counts[7] = 0
    output = chain_of([{"library_size": {"target": target}}], counts)(counts)
    np.testing.assert_allclose(output, normalize_total(counts, target), rtol=1e-15)
    np.testing.assert_allclose(np.delete(output, 7, axis=0).sum(axis=1), target, rtol=1e-14)


@pytest.mark.parametrize("options", [{}, {"theta": 10}, {"theta": 1e300}, {"clip": 2.5}, {"clip": 1e300}])
def test_pearson_residuals_are_those_of_scanpy(options, counts, chain_of):
    """To 1e-12, on the fitted cells."""
    output = chain_of([{"pearson_residuals": options}], counts)(counts)
    np.testing.assert_allclose(output, normalize_pearson_residuals(counts, **options), rtol=1e-12, atol=1e-12)


def test_new_cells_are_compared_with_the_fitted_shares(counts, chain_of):
    """To 1e-12: with the genes' sums of the fit and totals of their own."""
    new = counts[:5] * 3 + 1
    mu = new.sum(axis=1, keepdims=True) * (counts.sum(axis=0) / counts.sum())
    expected = np.clip((new - mu) / np.sqrt(mu + mu**2 / 100), -np.sqrt(300), np.sqrt(300))
    np.testing.assert_allclose(chain_of(["pearson_residuals"], counts)(new), expected, rtol=1e-12, atol=1e-12)


def test_cells_and_genes_without_counts_have_residuals(chain_of):
    counts = np.array([[2.0, 3.0, 0.0], [0.0, 0.0, 0.0], [4.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    chain = chain_of(["pearson_residuals"], counts)
    assert (chain(counts)[1] == 0).all()
    assert (chain(counts)[:, 2] == 0).all()
    np.testing.assert_array_equal(chain(np.array([[0.0, 0.0, 5.0]]))[0, 2], 2.0)


def test_nan_is_left_out_of_totals(chain_of):
    counts = np.array([[1.0, NAN, 3.0], [NAN, NAN, NAN], [2.0, 2.0, 4.0]])
    output = chain_of([{"library_size": {"target": 8}}], counts)(counts)
    np.testing.assert_array_equal(output, [[2.0, NAN, 6.0], [NAN, NAN, NAN], [2.0, 2.0, 4.0]])
    filled = np.nan_to_num(counts)
    expected = np.where(np.isnan(counts), NAN, chain_of(["pearson_residuals"], filled)(filled))
    np.testing.assert_array_equal(chain_of(["pearson_residuals"], counts)(counts), expected)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize(("wrong", "what"), [(-1.0, "negative"), (INF, "infinite")])
def test_what_is_no_count_is_refused(name, wrong, what, counts, chain_of):
    chain = chain_of([name], counts)
    counts[2, 3] = wrong
    with pytest.raises(DataError, match=what) as caught:
        chain(counts)
    assert caught.value.where == f"normalize.0.{name}"


@pytest.mark.parametrize(
    ("values", "found"), [([[1.0, -2.0]], "1 features with negative values"), ([[0.0, 0.0]], "nothing but 0")]
)
def test_pearson_residuals_need_counts_to_fit_on(values, found, fitted):
    with pytest.raises(DataError, match="no counts to fit") as caught:
        fitted("pearson_residuals", np.array(values))
    assert caught.value.found == found


def test_shares_are_exact_where_float64_sums_are_not(fitted):
    """Sums of 1e16 + 1 + 1 and of 1: float64 would lose the ones."""
    counts = np.array([[1e16, 0.0], [1.0, 1.0], [1.0, 0.0]])
    share = fitted("pearson_residuals", counts).parameters["share"]
    assert share.tolist() == [(10**16 + 2) / (10**16 + 3), 1 / (10**16 + 3)]


def test_nan_of_the_fit_may_propagate(counts, fitted):
    counts[0, 0] = NAN
    step = fitted("pearson_residuals", counts, nan_policy="propagate")
    assert np.isnan(step(counts, ("sample", "feature"))).all()


def test_totals_too_small_to_divide_by(chain_of):
    values = np.array([[5e-324, 0.0]])
    with pytest.raises(DataError, match="too small"):
        chain_of(["library_size"], values)(values)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("genes", [1, 9, 127, 1023, 20_001])
def test_bits_depend_on_the_cell_alone(name, genes, chain_of):
    rng = np.random.default_rng(genes)
    counts = rng.gamma(0.3, 100.0, (5, genes))
    chain = chain_of([name], counts)
    whole = chain(counts)
    np.testing.assert_array_equal(chain(np.asfortranarray(counts)), whole)
    np.testing.assert_array_equal(chain(np.repeat(counts, 2, axis=1)[:, ::2]), whole)
    np.testing.assert_array_equal(np.stack([chain(row) for row in counts]), whole)
    np.testing.assert_array_equal(chain(counts[[4, 1]]), whole[[4, 1]])


def test_nonsense_is_refused():
    for entry, where in (
        ({"library_size": {"target": 0}}, "library_size.target"),
        ({"library_size": {"target": "mean"}}, "library_size.target"),
        ({"library_size": {"exclude_highly_expressed": True, "max_fraction": 1}}, "library_size.max_fraction"),
        ({"pearson_residuals": {"theta": 0}}, "pearson_residuals.theta"),
        ({"pearson_residuals": {"clip": -1}}, "pearson_residuals.clip"),
    ):
        with pytest.raises(ConfigError) as caught:
            parse_chain([entry])
        assert caught.value.where == f"normalize.0.{where}"


def test_stored_limits_that_clip_everything_are_refused():
    with pytest.raises(ManifestError, match="divide by zero"):
        PearsonResiduals(dims=("gene",)).restore({"share": np.ones(1), "limit": np.zeros(1)})
