"""Library_size fitted to the median of the totals and without highly expressed genes, against scanpy's formulas, and its reads.

The formulas are those of scanpy 1.11 and 1.12, `pp.normalize_total`; `test_scanpy.py` asks scanpy itself.
"""

from __future__ import annotations

import numpy as np
import pytest
import xarray

from pipeline import Manifest, fit
from pipeline.errors import DataError, ManifestError
from pipeline.normalize.cell_totals import CellTotals, Dominance
from pipeline.normalize.library_size import LibrarySize

NAN = np.nan
DIMS = ("cell", "gene")
MEDIAN = {"target": "median"}
EXCLUDING = {"exclude_highly_expressed": True, "max_fraction": 0.08}
OPTIONS = [MEDIAN, EXCLUDING, {**MEDIAN, **EXCLUDING}]


@pytest.fixture
def counts():
    """200 cells of 60 genes of very different abundance; one cell has no counts, another none but of one gene."""
    rng = np.random.default_rng(6)
    counts = rng.negative_binomial(2, 1 / (1 + 10.0 ** rng.uniform(-2, 2, 60)), (200, 60)).astype(np.float64)
    counts[7] = 0
    counts[11] = np.where(np.arange(60) == counts.sum(axis=0).argmax(), 900, 0)
    return counts


def normalize_total(counts, target=1e4, exclude_highly_expressed=False, max_fraction=0.05):
    totals = counts.sum(axis=1)
    if exclude_highly_expressed:
        excluded = (counts > totals[:, np.newaxis] * max_fraction).any(axis=0)
        totals = counts[:, ~excluded].sum(axis=1)
    after = np.median(totals[totals > 0]) if target == "median" else target
    return counts / np.where(totals == 0, 1.0, totals / after)[:, np.newaxis]


@pytest.mark.parametrize("options", OPTIONS, ids=["median", "excluding", "both"])
@pytest.mark.parametrize("dtype", ["float32", "uint16", "int64"])
def test_it_is_normalize_total(options, dtype, counts):
    """Bit for bit on whole counts, for the fitted cells, over any chunks, and from a manifest that was stored."""
    expected = normalize_total(counts, **options)
    manifest = fit(counts.astype(dtype), dims=DIMS, normalize=[{"library_size": options}], dtype="float64")
    np.testing.assert_array_equal(manifest.transform(counts.astype(dtype)), expected)
    assert (expected != normalize_total(counts)).any()


def test_the_bits_do_not_depend_on_blocks_and_a_stored_manifest_is_the_same(counts, tmp_path):
    chain = [{"library_size": OPTIONS[2]}, "log1p", {"zscore": {"per": ["gene"]}}]
    whole = fit(counts, dims=DIMS, normalize=chain)
    assert fit(counts, dims=DIMS, normalize=chain, block_bytes=5000).digest == whole.digest
    whole.save(tmp_path / "m")
    loaded = Manifest.load(tmp_path / "m")
    assert loaded.digest == whole.digest
    np.testing.assert_array_equal(loaded.transform(counts[3:5]), whole.transform(counts)[3:5])


def test_only_fitted_cells_count(counts):
    part = xarray.DataArray(counts, dims=DIMS, coords={"batch": ("cell", np.arange(200) % 2)})
    manifest = fit(part, normalize=[{"library_size": OPTIONS[2]}], where={"batch": 1})
    alone = fit(counts[1::2], dims=DIMS, normalize=[{"library_size": OPTIONS[2]}])
    for name, values in alone.chain.steps[0].parameters.items():
        np.testing.assert_array_equal(manifest.chain.steps[0].parameters[name], values)


def test_groups_have_medians_of_their_own(counts):
    batch = np.array(["a", "b"])[np.arange(200) % 2]
    cells = xarray.DataArray(counts, dims=DIMS, coords={"batch": ("cell", batch)})
    manifest = fit(cells, normalize=[{"library_size": OPTIONS[2]}, "log1p"], by="batch")
    for name in "ab":
        expected = np.log1p(normalize_total(counts[batch == name], **OPTIONS[2]))
        np.testing.assert_allclose(manifest.transform(cells)[batch == name], expected, rtol=1e-15)


def test_totals_that_differ_too_much_to_be_kept_are_within_the_stated_error():
    """100,000 different totals over four decades; the median moves by less than 0.4 %."""
    counts = 10 ** np.random.default_rng(0).uniform(0, 4, (100_000, 1))
    manifest = fit(counts, dims=DIMS, normalize=[{"library_size": MEDIAN}])
    target = manifest.chain.steps[0].parameters["target"]
    np.testing.assert_allclose(target, np.median(counts), rtol=0.004)


def test_nan_policies(counts):
    counts[0, :3], counts[1] = NAN, NAN
    skipping = fit(counts, dims=DIMS, normalize=[{"library_size": OPTIONS[2]}]).transform(counts)
    expected = np.where(np.isnan(counts), NAN, normalize_total(np.nan_to_num(counts), **OPTIONS[2]))
    np.testing.assert_allclose(skipping, expected, rtol=1e-15)
    for options in OPTIONS:
        with pytest.raises(DataError, match="non-finite") as caught:
            fit(counts, dims=DIMS, normalize=[{"library_size": options}], nan="error")
        assert caught.value.found == "63 NaN"
    for options in OPTIONS:
        manifest = fit(counts, dims=DIMS, normalize=[{"library_size": options}], nan="propagate")
        assert np.isnan(manifest.transform(counts)).all()


@pytest.mark.parametrize(("counts", "what"), [([[0.0, 0.0]], "no counts"), ([[NAN, NAN]], "no finite"), ([[-1.0]], "negative")])
def test_what_has_no_median_is_refused(counts, what):
    with pytest.raises(DataError, match=what) as caught:
        fit(np.array(counts), dims=DIMS, normalize=[{"library_size": MEDIAN}])
    assert caught.value.where.startswith("normalize.0")


def test_observers_show_totals_and_who_dominates():
    rows = np.array([[NAN, 6.0, 2.0, 4.0], [0.0, 0.0, 0.0, 0.0]])
    totals = CellTotals(dims=("gene",)).fit()(rows, DIMS)
    np.testing.assert_array_equal(totals, [[NAN, 12.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    dominance = Dominance(dims=("gene",), max_fraction=0.5).fit()(rows, DIMS)
    np.testing.assert_array_equal(dominance, [[NAN, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])  # 6 is not more than half of 12


def test_a_stored_target_that_divides_by_zero_is_refused():
    with pytest.raises(ManifestError, match="divide by zero"):
        LibrarySize(target="median", dims=("gene",)).restore({"target": np.zeros(())})


@pytest.mark.parametrize("options", OPTIONS, ids=["median", "excluding", "both"])
def test_a_weight_of_two_counts_a_cell_twice(options, counts):
    weights = np.arange(200) % 3
    cells = xarray.DataArray(counts, dims=DIMS, coords={"weight": ("cell", weights)})
    weighted = fit(cells, normalize=[{"library_size": options}], weights="weight")
    repeated = fit(np.repeat(counts, weights, axis=0), dims=DIMS, normalize=[{"library_size": options}])
    for name, values in repeated.chain.steps[0].parameters.items():
        np.testing.assert_array_equal(weighted.chain.steps[0].parameters[name], values)


@pytest.mark.parametrize("target", [1e4, "median"])
def test_no_gene_left_to_take_totals_of_is_refused(target: float | str) -> None:
    counts = np.array([[9.0, 1.0], [1.0, 9.0]])
    step = {"library_size": {"target": target, "exclude_highly_expressed": True}}
    with pytest.raises(DataError, match="every gene dominates"):
        fit(counts, dims=["cell", "gene"], normalize=[step])
