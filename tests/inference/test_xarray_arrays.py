"""Law 2 for xarray: dims by name, features by label, lazily where lazy; coordinates and attributes stay."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import Manifest
from pipeline.errors import InputMismatchError, NotInvertibleError
from tests.inference.cases import CHAINS, DIMS, GENES, Case, make_case
from tests.manifest.fitting import fit_record

xarray = pytest.importorskip("xarray")
DRAWN = {name: make_case(name) for name in ("log1p then zscore per gene", "zscore", "maxabs", "minmax")}
WHOLE = make_case("zscore per gene then unit_norm")


@pytest.fixture(params=CHAINS)
def case(request: pytest.FixtureRequest) -> Case:
    return make_case(request.param)


@pytest.fixture
def cases() -> dict[str, Case]:
    return {name: make_case(name) for name in CHAINS}


def labelled(case, **changes):
    coords = {
        "gene": GENES,
        "cell": [f"c{i}" for i in range(len(case.data))],
        "batch": ("cell", np.arange(len(case.data)) % 2),
        "depth": 3.0,
    }
    return xarray.DataArray(case.data, dims=DIMS, coords=coords, name="counts", attrs={"unit": "1"}, **changes)


def bits(array, dims=(*DIMS, "component")):
    return np.ascontiguousarray(array.transpose(*[dim for dim in dims if dim in array.dims]).to_numpy()).tobytes()


def dims_left(case, order):
    """The dims of the output for data with the dims `order`, and what of its coordinates goes."""
    left = tuple(case.manifest.chain.output_sizes(dict.fromkeys(order, 0)))
    return left, [dim for dim in order if dim not in left and dim == "gene"]


def test_dims_in_any_order_give_the_same_bits_and_keep_everything(case):
    values = labelled(case)
    for order in permutations(DIMS):
        result = case.manifest.transform(values.transpose(*order))
        left, gone = dims_left(case, order)
        assert result.dims == left and result.dtype == case.output.dtype
        assert bits(result) == case.output.tobytes()
        assert (result.name, result.attrs) == ("counts", {"unit": "1"})
        expected = values.transpose(*order).drop_vars(gone).coords.to_dataset()
        xarray.testing.assert_identical(result.coords.to_dataset(), expected)


def test_one_sample_with_dims_in_any_order(case):
    sample = labelled(case).isel(cell=4)
    for order in permutations(("y", "gene")):
        result = case.manifest.transform(sample.transpose(*order))
        assert result.dims == dims_left(case, order)[0]
        assert bits(result) == case.output[4].tobytes()
        assert result.coords["cell"] == "c4"


def test_the_input_stays_as_it_is(case):
    values = labelled(case)
    values.encoding = {"dtype": "int8", "scale_factor": 7}
    before = values.copy(deep=True)
    result = case.manifest.transform(values)
    xarray.testing.assert_identical(values, before)
    assert values.encoding == {"dtype": "int8", "scale_factor": 7} and result.encoding == {}
    result.attrs["new"] = 1
    assert "new" not in values.attrs


@pytest.mark.parametrize("order", [[4, 3, 2, 1, 0], [2, 0, 4, 1, 3]])
def test_genes_in_another_order_are_matched_by_label(case, order):
    values = labelled(case).isel(gene=order)
    result = case.manifest.transform(values)
    if not case.keeps_genes:
        assert bits(result) == case.output.tobytes() and "gene" not in result.coords
        return
    assert bits(result) == np.ascontiguousarray(case.output[:, :, order]).tobytes()
    assert result.coords["gene"].to_numpy().tolist() == [GENES[place] for place in order]


def test_the_inverse_of_components_has_the_fitted_dims_and_labels(cases):
    for name in ("pca of genes then minmax", "pca of y and genes"):
        case = cases[name]
        for values in (labelled(case), labelled(case).isel(gene=[3, 1, 0, 2, 4]).transpose("gene", "y", "cell")):
            for either in (values, values.chunk(cell=4)):
                back = case.manifest.inverse_transform(case.manifest.transform(either))
                assert set(back.dims) == set(DIMS) and back.coords["gene"].to_numpy().tolist() == GENES
                assert bits(back) == case.manifest.inverse_transform(case.output).tobytes()
                assert back.coords["batch"].to_numpy().tolist() == values.coords["batch"].to_numpy().tolist()
    with pytest.raises(InputMismatchError, match="another size"):
        case.manifest.inverse_transform(case.manifest.transform(labelled(case)).isel(component=[0, 1]))
    with pytest.raises(InputMismatchError, match="dims"):
        case.manifest.inverse_transform(labelled(case))


def test_matching_is_not_by_position(cases):
    values = labelled(cases["zscore"]).isel(gene=[4, 3, 2, 1, 0])
    by_label = cases["zscore"].manifest.transform(values)
    by_position = cases["zscore"].manifest.transform(values.to_numpy())
    assert not np.array_equal(by_label.to_numpy(), by_position)


@settings(derandomize=True, max_examples=60, database=None, deadline=None)
@given(
    st.sampled_from(sorted(DRAWN)),
    st.lists(st.integers(0, 4), unique=True),
    st.lists(st.integers(0, 22), max_size=8),
    st.permutations(DIMS),
    st.booleans(),
)
def test_any_genes_of_any_cells(name, genes, cells, dims, lazy):
    case = DRAWN[name]
    values = labelled(case).isel(gene=genes, cell=cells).transpose(*dims)
    if lazy:
        pytest.importorskip("dask.array")
        values = values.chunk(cell=3, gene=2)
    result = case.manifest.transform(values)
    assert bits(result) == np.ascontiguousarray(case.output[:, :, genes][cells]).tobytes()
    if case.manifest.chain.invertible:
        expected = case.manifest.inverse_transform(case.output)[:, :, genes][cells]
        assert bits(case.manifest.inverse_transform(result)) == np.ascontiguousarray(expected).tobytes()


@settings(derandomize=True, max_examples=20, database=None, deadline=None)
@given(st.permutations(range(5)), st.permutations(DIMS), st.booleans())
def test_a_whole_vector_in_any_order(genes, dims, lazy):
    values = labelled(WHOLE).isel(gene=genes).transpose(*dims)
    result = WHOLE.manifest.transform(values.chunk(gene=2) if lazy else values)
    assert bits(result) == np.ascontiguousarray(WHOLE.output[:, :, genes]).tobytes()


def test_a_part_of_a_whole_vector_is_refused(cases):
    for name in ("unit_norm", "zscore per gene then unit_norm"):
        with pytest.raises(InputMismatchError, match="gene"):
            cases[name].manifest.transform(labelled(cases[name]).isel(gene=[0, 1]))


def test_unknown_labels_are_counted_and_named(cases):
    values = labelled(cases["zscore"]).assign_coords(gene=["TP53", "MYC", "tp53", "", "ACTC"])
    with pytest.raises(InputMismatchError, match="2 of 5 labels") as caught:
        cases["zscore"].manifest.transform(values)
    assert "tp53" in caught.value.found and "gene" in caught.value.where


@pytest.mark.parametrize("genes", [[0, 0], [0, 1, 2, 3, 0], [4, 3, 2, 1, 0, 0]])
def test_labels_that_occur_twice(cases, genes):
    with pytest.raises(InputMismatchError, match="twice"):
        cases["zscore"].manifest.transform(labelled(cases["zscore"]).isel(gene=genes))


def test_fitted_labels_that_occur_twice_match_in_the_fitted_order_only():
    data = np.arange(12.0).reshape(4, 3)
    manifest = fit_record([{"zscore": {"per": ["gene"]}}], data, ("cell", "gene"), {"gene": ["a", "b", "a"]}, kind=Manifest)
    values = xarray.DataArray(data, dims=("cell", "gene"), coords={"gene": ["a", "b", "a"]})
    assert manifest.transform(values).to_numpy().tobytes() == manifest.transform(data).tobytes()
    with pytest.raises(InputMismatchError, match="twice"):
        manifest.transform(values.isel(gene=[1, 0, 2]))
    with pytest.raises(InputMismatchError, match="twice"):
        manifest.transform(values.isel(gene=[1, 0]))


def test_labels_of_another_kind(cases):
    for labels in ([0, 1, 2, 3, 4], np.array(range(5), "M8[D]").astype("M8[ns]"), [0.0, 1.0, 2.0, 3.0, 4.0], [True] * 5):
        with pytest.raises(InputMismatchError, match="label"):
            cases["zscore"].manifest.transform(labelled(cases["zscore"]).assign_coords(gene=("gene", labels)))


def test_numeric_labels_match_by_value_whatever_their_type():
    data = np.arange(12.0).reshape(4, 3)
    manifest = fit_record([{"zscore": {"per": ["band"]}}], data, ("cell", "band"), {"band": [10, 20, 30]}, kind=Manifest)
    for dtype in (np.int16, np.uint64, np.float32):
        values = xarray.DataArray(data[:, ::-1], dims=("cell", "band"), coords={"band": np.array([30, 20, 10], dtype)})
        assert bits(manifest.transform(values), ("cell", "band")) == manifest.transform(data)[:, ::-1].tobytes()


def test_without_labels_features_go_by_position_and_size(case):
    values = labelled(case).drop_vars("gene")
    assert bits(case.manifest.transform(values)) == case.output.tobytes()
    if case.fitted_genes:
        with pytest.raises(InputMismatchError, match="gene"):
            case.manifest.transform(values.isel(gene=[0, 1]))


def test_labels_of_dims_for_which_none_were_fitted_go_by_position(cases):
    case = cases["zscore per pixel"]
    values = labelled(case).assign_coords(y=[9, 8, 7])
    assert bits(case.manifest.transform(values)) == case.output.tobytes()


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.rename(gene="genes"),
        lambda values: values.isel(gene=0),
        lambda values: values.isel(y=0, gene=0),
        lambda values: values.expand_dims("time"),
        lambda values: values.isel(cell=0).expand_dims("time"),
        lambda values: values.isel(gene=0, y=0, cell=0),
    ],
)
def test_other_dims_are_refused(case, change):
    with pytest.raises(InputMismatchError, match="dims"):
        case.manifest.transform(change(labelled(case)))


def test_what_has_names_but_is_no_dataarray(cases):
    values = labelled(cases["zscore"])
    for other in (values.to_dataset(), values.variable):
        with pytest.raises(InputMismatchError, match="xarray"):
            cases["zscore"].manifest.transform(other)


def test_dtypes_are_checked_as_everywhere(cases):
    with pytest.raises(InputMismatchError, match="uint8"):
        cases["dtype_range"].manifest.transform(labelled(cases["dtype_range"]).astype(np.float32))
    with pytest.raises(InputMismatchError, match="real"):
        cases["zscore"].manifest.transform(labelled(cases["zscore"]).astype(complex))


def test_inverse_is_refused_before_anything_else(cases):
    with pytest.raises(NotInvertibleError):
        cases["clip"].manifest.inverse_transform(labelled(cases["clip"]))


def test_the_same_lazy_values_under_other_labels_are_other_tasks(cases):
    pytest.importorskip("dask.array")
    case = cases["zscore"]
    lazy = labelled(case).chunk(cell=5)
    other = lazy.assign_coords(gene=GENES[::-1])
    both = xarray.Dataset({"one": case.manifest.transform(lazy).drop_vars("gene")})
    both["other"] = case.manifest.transform(other).drop_vars("gene")
    both = both.compute()
    assert bits(both["one"]) == case.output.tobytes()
    reversed_data = labelled(case).assign_coords(gene=GENES[::-1])
    assert bits(both["other"]) == bits(case.manifest.transform(reversed_data)) != bits(both["one"])


def test_lazy_data_stays_lazy(case):
    pytest.importorskip("dask.array")
    result = case.manifest.transform(labelled(case).chunk(cell=5, gene=2))
    assert result.chunks is not None and result.dtype == case.output.dtype
    assert bits(result.compute()) == case.output.tobytes()
    assert result.compute().dtype == case.output.dtype
