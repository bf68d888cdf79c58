"""Law 2 by group: whatever kind of array, in whatever company and order, a sample goes through the chain of its label."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import Manifest
from pipeline.errors import DataError, InputMismatchError, NotInvertibleError
from pipeline.manifest import Groups
from tests.manifest.fitting import fit_record

xarray = pytest.importorskip("xarray")
dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

DIMS = ("cell", "y", "gene")
GENES = ["TP53", "MYC", "Größe", "", "ACTB"]
CELLS = 23
DATA = np.random.default_rng(6).gamma(2.0, 9.0, (CELLS, 3, 5))
BATCHES = np.array(["b2", "b1", "b3"])[np.random.default_rng(7).integers(0, 3, CELLS)]
CHAINS = {
    "inverted": ["log1p", {"zscore": {"per": ["gene"]}}, {"minmax": {"per": ["y"]}}],
    "whole": [{"zscore": {"per": ["gene"]}}, {"unit_norm": {"dims": ["gene"]}}],
}


@cache
def make(name: str, unseen: str = "error", dtype: str = "float32") -> Manifest:
    def fitted(values):
        return fit_record(CHAINS[name], values, DIMS, {"gene": GENES}, output_dtype=dtype, kind=Manifest)

    whole = fitted(DATA)
    chains = tuple(fitted(DATA[label == BATCHES]).chain for label in ("b1", "b2", "b3"))
    return replace(whole, groups=Groups("batch", ["b1", "b2", "b3"], unseen, chains))


@cache
def output(name: str) -> np.ndarray:
    """Each sample by itself, through the chain of its group."""
    chains = dict(zip(("b1", "b2", "b3"), make(name).groups.chains, strict=True))
    return np.stack([chains[label](sample) for label, sample in zip(BATCHES, DATA, strict=True)])


def labelled(cells=slice(None), **changes):
    coords = {"gene": GENES, "batch": ("cell", BATCHES)}
    return xarray.DataArray(DATA, dims=DIMS, coords=coords, name="counts", **changes).isel(cell=cells)


def bits(array):
    if hasattr(array, "dims"):
        array = array.transpose(*[dim for dim in DIMS if dim in array.dims]).to_numpy()
    return array.dtype.name, np.ascontiguousarray(array).tobytes()


@pytest.fixture(params=CHAINS)
def name(request):
    return request.param


@pytest.fixture(autouse=True)
def in_this_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


@settings(derandomize=True, max_examples=60, database=None, deadline=None)
@given(st.sampled_from(sorted(CHAINS)), st.lists(st.integers(0, CELLS - 1), max_size=30), st.permutations(DIMS), st.booleans())
def test_any_samples_in_any_order_as_any_array(name, cells, dims, lazy):
    manifest, expected = make(name), bits(output(name)[cells])
    assert bits(manifest.transform(DATA[cells], by=BATCHES[cells])) == expected
    assert bits(manifest.transform(DATA[cells], by=BATCHES[cells].tolist())) == expected
    values = labelled(cells).transpose(*dims)
    assert bits(manifest.transform(values.chunk(cell=3, gene=2) if lazy and cells else values)) == expected


@settings(derandomize=True, max_examples=30, database=None, deadline=None)
@given(st.sampled_from(sorted(CHAINS)), st.integers(1, CELLS), st.integers(1, 3), st.integers(1, 5))
def test_dask_arrays_in_any_chunks(name, cells, ys, genes):
    with dask.config.set(scheduler="synchronous"):
        lazy = make(name).transform(da.from_array(DATA, chunks=(cells, ys, genes)), by=BATCHES)
        assert type(lazy) is da.Array and bits(lazy.compute()) == bits(output(name))
        assert bits(lazy[4:9].compute()) == bits(output(name)[4:9])


def test_genes_by_label_of_cells_by_batch():
    genes = [3, 0, 4]
    values = labelled().isel(gene=genes)
    for each in (values, values.chunk(cell=4, gene=2)):
        assert bits(make("inverted").transform(each)) == bits(output("inverted")[:, :, genes])


def test_lazy_results_of_other_labels_or_other_genes_are_not_mixed_up():
    lazy = da.from_array(DATA, chunks=(7, 3, 2))
    manifest = make("inverted")
    same, other = manifest.transform(lazy, by=BATCHES), manifest.transform(lazy, by=BATCHES[::-1])
    assert same.name != other.name == manifest.transform(lazy, by=BATCHES[::-1].copy()).name
    assert same.name != manifest.transform(lazy, by="b1").name
    assert same.name == manifest.transform(lazy, by=BATCHES.tolist()).name


def test_lazy_results_of_genes_that_only_groups_tell_apart_are_not_mixed_up():
    """The genes have the same parameters in the chain of all samples, and others in those of the groups."""
    manifest = make("whole", dtype="float64")
    overall, *chains = (replace(chain, steps=chain.steps[:1]) for chain in (manifest.chain, *manifest.groups.chains))
    alike = {"mean": np.zeros(5), "std": np.ones(5)}
    overall = replace(overall, steps=(replace(overall.steps[0], parameters=alike),))
    manifest = replace(manifest, chain=overall, groups=replace(manifest.groups, chains=tuple(chains)))
    lazy = labelled().chunk(cell=7)
    one, two = (manifest.transform(lazy.assign_coords(gene=genes)) for genes in (GENES, GENES[::-1]))
    assert one.data.name != two.data.name
    assert bits(two) == bits(manifest.transform(labelled().assign_coords(gene=GENES[::-1]))) != bits(one)


def test_one_label_for_all_or_for_one_sample(name):
    manifest, chosen = make(name), BATCHES == "b2"
    assert bits(manifest.transform(DATA[chosen], by="b2")) == bits(output(name)[chosen])
    assert bits(manifest.transform(DATA[chosen], by=np.str_("b2"))) == bits(output(name)[chosen])
    assert bits(manifest.transform(DATA[3], by=BATCHES[3])) == bits(output(name)[3])
    assert bits(manifest.transform(DATA[3], by=BATCHES[3:4])) == bits(output(name)[3])
    assert bits(manifest.transform(labelled().isel(cell=3))) == bits(output(name)[3])
    scalar = labelled(np.flatnonzero(chosen)).drop_vars("batch").assign_coords(batch="b2")
    assert bits(manifest.transform(scalar)) == bits(output(name)[chosen])


def test_by_goes_before_the_coordinate_and_stands_in_for_it(name):
    manifest = make(name)
    assert bits(manifest.transform(labelled(), by=BATCHES[::-1])) == bits(manifest.transform(DATA, by=BATCHES[::-1]))
    bare = labelled().drop_vars("batch")
    assert bits(manifest.transform(bare, by=xarray.DataArray(BATCHES, dims="cell"))) == bits(output(name))
    result = manifest.transform(labelled())
    assert result.coords["batch"].to_numpy().tolist() == BATCHES.tolist() and result.name == "counts"


def test_unknown_chunk_sizes_take_one_label(name):
    chosen = BATCHES == "b3"
    lazy = da.from_array(DATA, chunks=(5, 3, 5))[da.from_array(chosen, chunks=5)]
    assert bits(make(name).transform(lazy, by="b3").compute()) == bits(output(name)[chosen])
    with pytest.raises(InputMismatchError, match="compute_chunk_sizes"):
        make(name).transform(lazy, by=BATCHES[chosen])


def test_the_inverse_needs_the_labels_as_well():
    manifest = make("inverted", dtype="float64")
    there = manifest.transform(DATA, by=BATCHES)
    np.testing.assert_allclose(manifest.inverse_transform(there, by=BATCHES), DATA, rtol=1e-12)
    back = manifest.inverse_transform(manifest.transform(labelled()).chunk(cell=4))
    np.testing.assert_allclose(back.to_numpy(), DATA, rtol=1e-12)
    assert not np.allclose(manifest.inverse_transform(there, by="b1"), DATA)
    with pytest.raises(InputMismatchError, match="no labels"):
        manifest.inverse_transform(there)
    with pytest.raises(NotInvertibleError):
        make("whole").inverse_transform(there, by=BATCHES)


@pytest.mark.parametrize("values", [DATA, DATA[0], da.from_array(DATA), labelled().drop_vars("batch")], ids=type)
def test_missing_labels_are_asked_for(values, name):
    with pytest.raises(InputMismatchError, match="each batch is normalized by itself") as caught:
        make(name).transform(values)
    assert "by=labels" in caught.value.remedy and "'batch'" in caught.value.remedy


@pytest.mark.parametrize("by", [BATCHES[:5], BATCHES[:1], np.stack([BATCHES, BATCHES])])
def test_labels_that_do_not_fit_are_refused(by):
    with pytest.raises(InputMismatchError, match=r"number of labels|one-dimensional"):
        make("inverted").transform(DATA, by=by)


def test_a_coordinate_along_another_dim_is_refused():
    values = labelled().drop_vars("batch").assign_coords(batch=("gene", ["b1"] * 5))
    with pytest.raises(InputMismatchError, match="does not label samples"):
        make("inverted").transform(values)


def test_labels_for_a_manifest_without_groups_are_refused():
    with pytest.raises(InputMismatchError, match="not fitted by group"):
        replace(make("inverted"), groups=None).transform(DATA, by=BATCHES)


OTHERS = np.where(np.arange(CELLS) % 4 == 1, "b9", BATCHES)


@pytest.mark.parametrize("kind", ["numpy", "dask", "xarray"])
@pytest.mark.parametrize("unseen", ["error", "global", "nan"])
def test_unseen_labels_follow_the_policy(unseen, kind):
    manifest = make("inverted", unseen)
    values = {
        "numpy": DATA,
        "dask": da.from_array(DATA, chunks=(4, 2, 5)),
        "xarray": labelled().assign_coords(batch=("cell", OTHERS)),
    }
    by = None if kind == "xarray" else OTHERS
    if unseen == "error":
        with pytest.raises(InputMismatchError, match="6 of 23 samples have a label that was not fitted") as caught:
            manifest.transform(values[kind], by=by)
        assert caught.value.found == "'b9'"
        return
    expected = output("inverted").copy()
    expected[OTHERS == "b9"] = manifest.chain(DATA)[OTHERS == "b9"] if unseen == "global" else np.nan
    assert bits(np.asarray(manifest.transform(values[kind], by=by))) == bits(expected)
    back = manifest.inverse_transform(manifest.transform(values[kind], by=by), by=by)
    np.testing.assert_allclose(np.asarray(back), np.where(np.isnan(expected), np.nan, DATA), rtol=1e-4)


def test_an_unseen_label_has_no_integer():
    manifest = make("inverted", "nan", "int16")
    manifest.transform(DATA, by=BATCHES)
    with pytest.raises(DataError, match="int16 cannot hold"):
        manifest.transform(DATA, by=OTHERS)


def test_the_values_are_never_changed(name):
    before = DATA.copy()
    result = make(name).transform(DATA, by=BATCHES)
    assert not np.may_share_memory(result, DATA) and before.tobytes() == DATA.tobytes()


def test_a_loaded_manifest_does_the_same(name, tmp_path):
    make(name, "global").save(tmp_path / "m")
    assert bits(Manifest.load(tmp_path / "m").transform(labelled())) == bits(output(name))
