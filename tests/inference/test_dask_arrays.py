"""Law 2 for Dask: lazily, in any chunks, with dtype and meta known, and nothing of the manifest repeated in the graph."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import Manifest
from pipeline.errors import DataError, InputMismatchError, NotInvertibleError
from tests.inference.cases import CHAINS, Case, make_case
from tests.manifest.fitting import fit_record

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
DRAWN = {name: make_case(name) for name in CHAINS}


@pytest.fixture(params=CHAINS)
def case(request: pytest.FixtureRequest) -> Case:
    return make_case(request.param)


@pytest.fixture
def cases() -> dict[str, Case]:
    return {name: make_case(name) for name in CHAINS}


@pytest.fixture(autouse=True)
def in_this_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def test_any_chunks_give_the_bytes_of_the_output(case):
    for chunks in [(23, 3, 5), (1, 3, 5), (5, 2, 2), ((20, 3), (3,), (4, 1)), (7, 1, 1)]:
        result = case.manifest.transform(da.from_array(case.data, chunks=chunks))
        assert (result.dtype, result.shape) == (case.output.dtype, case.output.shape)
        assert type(result._meta) is np.ndarray and result._meta.dtype == case.output.dtype
        computed = result.compute()
        assert computed.dtype == case.output.dtype and computed.tobytes() == case.output.tobytes()


def splits(size):
    """Chunk sizes that tile `size`."""
    return (
        st.lists(st.integers(1, size), min_size=1)
        .map(lambda cuts: np.diff(sorted({0, size, *[c for c in cuts if c < size]})))
        .map(lambda widths: tuple(int(width) for width in widths))
    )


@settings(derandomize=True, max_examples=50, database=None, deadline=None)
@given(st.sampled_from(sorted(DRAWN)), splits(23), splits(3), splits(5), st.lists(st.integers(0, 22), min_size=1, max_size=9))
def test_any_part_in_any_chunks(name, cells, ys, genes, picked):
    case = DRAWN[name]
    with dask.config.set(scheduler="synchronous"):
        result = case.manifest.transform(da.from_array(case.data, chunks=(cells, ys, genes)))
        assert result[picked].compute().tobytes() == case.output[picked].tobytes()
        if case.manifest.chain.invertible:
            back = case.manifest.inverse_transform(result)
            assert back.dtype == case.data.dtype
            assert back.compute().tobytes() == case.manifest.inverse_transform(case.output).tobytes()


def test_one_sample(case):
    lazy = da.from_array(case.data, chunks=(5, 2, 2))
    result = case.manifest.transform(lazy[4])
    assert result.shape == case.output.shape[1:] and result.compute().tobytes() == case.output[4].tobytes()


def test_unknown_chunk_sizes_along_the_sample_dim(case):
    chosen = np.arange(23) % 3 == 1
    lazy = da.from_array(case.data, chunks=(5, 3, 2))[da.from_array(chosen, chunks=5)]
    assert np.isnan(lazy.shape[0])
    assert case.manifest.transform(lazy).compute().tobytes() == case.output[chosen].tobytes()


def test_unknown_chunk_sizes_along_a_fitted_dim_are_refused(cases):
    case = cases["zscore"]
    lazy = da.from_array(case.data, chunks=(5, 3, 2))
    unknown = lazy[:, :, da.from_array(np.ones(5, bool), chunks=2)]
    with pytest.raises(InputMismatchError, match="gene"):
        case.manifest.transform(unknown)


def test_nothing_is_computed_before_it_is_asked_for(case):
    def fail(block):
        if block.size:
            pytest.fail("computed")
        return block

    lazy = da.from_array(case.data, chunks=(5, 3, 2)).map_blocks(fail, meta=np.empty((0, 0, 0), case.data.dtype))
    result = case.manifest.transform(lazy)
    if case.manifest.chain.invertible:
        case.manifest.inverse_transform(result.astype(np.float64))


def test_whole_vectors_are_brought_together_and_nothing_else(cases):
    lazy = da.from_array(cases["unit_norm"].data, chunks=(5, 2, 2))
    assert cases["unit_norm"].manifest.transform(lazy).chunks == ((5, 5, 5, 5, 3), (2, 1), (5,))
    assert cases["zscore"].manifest.transform(lazy).chunks == lazy.chunks


def test_names_are_a_function_of_input_and_manifest(cases):
    lazy = da.from_array(cases["zscore"].data, chunks=(5, 3, 2))
    manifest = cases["zscore"].manifest
    assert manifest.transform(lazy).name == manifest.transform(lazy).name
    others = [manifest.transform(lazy + 1), manifest.inverse_transform(lazy), cases["minmax"].manifest.transform(lazy)]
    assert len({array.name for array in [manifest.transform(lazy), *others]}) == 4


def test_the_parameters_are_in_the_graph_once():
    """However many blocks there are: a task refers to them."""
    genes = 10_000
    data = np.random.default_rng(3).normal(size=(4, genes))
    manifest = fit_record([{"zscore": {"per": ["gene"]}}], data, ("cell", "gene"), kind=Manifest)
    graph_bytes = []
    for rows in (16, 1):
        lazy = manifest.transform(da.zeros((16, genes), chunks=(rows, genes)))
        graph_bytes.append(sum(len(pickle.dumps(task)) for task in dict(lazy.__dask_graph__()).values()))
    parameter_bytes = 2 * 8 * genes
    assert graph_bytes[0] > parameter_bytes
    assert graph_bytes[1] < 2 * parameter_bytes


def test_a_real_scheduler_gets_tasks_it_can_pickle(cases):
    for name in ("zscore", "unit_norm"):
        case = cases[name]
        with dask.config.set(scheduler="threads", num_workers=2):
            result = case.manifest.transform(da.from_array(case.data, chunks=(5, 3, 2)))
            again = pickle.loads(pickle.dumps(result))
            assert again.compute().tobytes() == case.output.tobytes()


def test_checks_come_before_the_graph(cases):
    lazy = da.from_array(cases["dtype_range"].data, chunks=5)
    with pytest.raises(InputMismatchError, match="uint8"):
        cases["dtype_range"].manifest.transform(lazy.astype(np.float32))
    with pytest.raises(InputMismatchError, match="gene"):
        cases["zscore"].manifest.transform(lazy[:, :, :4])
    with pytest.raises(InputMismatchError, match="real"):
        cases["zscore"].manifest.transform(lazy.astype(complex))
    with pytest.raises(InputMismatchError, match="number of dims"):
        cases["zscore"].manifest.transform(lazy[0, 0])
    with pytest.raises(NotInvertibleError):
        cases["clip"].manifest.inverse_transform(lazy)
    with pytest.raises(InputMismatchError, match="masked arrays are not taken"):
        cases["zscore"].manifest.transform(da.ma.masked_equal(lazy, 1))


def test_values_without_an_image_are_a_data_error_when_computed(cases):
    result = cases["log1p"].manifest.transform(da.full((2, 3, 5), -2.0))
    with pytest.raises(DataError, match="log1p"):
        result.compute()
