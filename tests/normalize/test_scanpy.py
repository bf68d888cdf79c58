"""The steps for counts of genes against scanpy itself, where it is installed; `test_gene_expression.py` has its formulas."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline import fit

sc = pytest.importorskip("scanpy", reason="scanpy is the oracle")
DIMS = ("cell", "gene")
pytestmark = pytest.mark.filterwarnings("ignore:Some cells have zero counts:UserWarning")


@pytest.fixture
def counts():
    """300 cells of 50 genes of very different abundance; a cell and a gene without counts, a gene that dominates cells."""
    rng = np.random.default_rng(8)
    counts = rng.negative_binomial(2, 1 / (1 + 10.0 ** rng.uniform(-2, 2, 50)), (300, 50)).astype(np.float64)
    counts[7], counts[:, 3] = 0, 0
    counts[::9, 5] += 4000
    return counts


def ours(normalize, counts, **options):
    return fit(counts, dims=DIMS, normalize=normalize, dtype="float64", **options).transform(counts)


def theirs(function, counts, **options):
    """What a function of scanpy makes of `counts`, in place."""
    data = sc.AnnData(counts.copy())
    function(data, **options)
    return np.asarray(data.X)


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ({"target": 1e4}, {"target_sum": 1e4}),
        ({"target": "median"}, {}),
        (
            {"target": 1e6, "exclude_highly_expressed": True, "max_fraction": 0.2},
            {"target_sum": 1e6, "exclude_highly_expressed": True, "max_fraction": 0.2},
        ),
        (
            {"target": "median", "exclude_highly_expressed": True, "max_fraction": 0.1},
            {"exclude_highly_expressed": True, "max_fraction": 0.1},
        ),
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "uint16"])
def test_library_size_is_normalize_total(options, given, dtype, counts):
    """To 1e-14, from few large blocks and from many small ones."""
    expected = theirs(sc.pp.normalize_total, counts, **given)
    for block_bytes in (2000, 10**7):
        output = ours([{"library_size": options}], counts.astype(dtype), block_bytes=block_bytes)
        np.testing.assert_allclose(output, expected, rtol=1e-14)


@pytest.mark.parametrize("base", [None, 2, 10])
def test_log1p(base, counts):
    """To 1e-14."""
    output = ours([{"log1p": {} if base is None else {"base": base}}], counts)
    np.testing.assert_allclose(output, theirs(sc.pp.log1p, counts, base=base), rtol=1e-14)


@pytest.mark.parametrize("limit", [None, 3.0])
def test_zscore_is_scale(limit, counts):
    """To 1e-12; a gene without counts stays 0."""
    chain = [{"zscore": {"per": ["gene"], "ddof": 1}}, *([] if limit is None else [{"clip": {"min": -limit, "max": limit}}])]
    expected = theirs(sc.pp.scale, counts, max_value=limit)
    np.testing.assert_allclose(ours(chain, counts), expected, rtol=1e-12, atol=1e-12)


def test_the_usual_recipe(counts):
    """Totals of 1e4, logarithms, z-scores up to 10, to 1e-11."""

    def recipe(data):
        sc.pp.normalize_total(data, target_sum=1e4)
        sc.pp.log1p(data)
        sc.pp.scale(data, max_value=10)

    chain = [
        {"library_size": {"target": 1e4}},
        "log1p",
        {"zscore": {"per": ["gene"], "ddof": 1}},
        {"clip": {"min": -10, "max": 10}},
    ]
    np.testing.assert_allclose(ours(chain, counts), theirs(recipe, counts), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("options", [{}, {"theta": 10}, {"clip": 2.5}, {"theta": np.inf}])
def test_pearson_residuals(options, counts):
    """To 1e-12, of cells and genes that have counts: scanpy makes NaN of the others. Our largest theta stands for infinity."""
    counted = np.delete(np.delete(counts, 7, axis=0), 3, axis=1)
    expected = theirs(sc.experimental.pp.normalize_pearson_residuals, counted, **options)
    own = {name: 1e300 if value == np.inf else value for name, value in options.items()}
    np.testing.assert_allclose(ours([{"pearson_residuals": own}], counted), expected, rtol=1e-12, atol=1e-12)
