"""Arrays of NumPy, xarray and Dask as sources, and what is refused because it would be misread."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest
import xarray as xr

from pipeline.block import Block
from pipeline.errors import SourceError
from pipeline.source.lazy import LazySource
from pipeline.source.memory import MemorySource
from pipeline.source.wrap import wrap_array

da = pytest.importorskip("dask.array")
VALUES = np.arange(1.0, 13.0).reshape(4, 3)


def test_dims_by_default() -> None:
    source = wrap_array(VALUES)
    assert isinstance(source, MemorySource)
    assert (source.dims, source.sample_dim, source.shape) == (("sample", "dim_1"), "sample", (4, 3))
    assert wrap_array(VALUES.tolist(), ["a", "b"], "b").sample_dim == "b"


def test_a_labelled_array_brings_dims_and_coordinates() -> None:
    array = xr.DataArray(VALUES, dims=("cell", "gene"), coords={"gene": list("abc"), "split": ("cell", list("xxyy"))})
    for given in (array, array.chunk({"cell": 2})):
        source = wrap_array(given)
        labels = source.labels("gene")
        assert labels is not None
        assert labels.tolist() == list("abc")
        assert source.coordinate("split")[0] == "cell"
        with pytest.raises(SourceError, match="contradict"):
            wrap_array(given, ["gene", "cell"])


def test_a_lazy_array_says_what_every_source_says() -> None:
    lazy = wrap_array(da.from_array(VALUES.astype(">f4"), chunks=(3, 2)), ["cell", "gene"])
    memory = wrap_array(VALUES.astype("f4"), ["cell", "gene"])
    assert isinstance(lazy, LazySource)
    assert set(lazy.provenance()) == set(memory.provenance())
    assert json.loads(json.dumps(lazy.provenance())) == memory.provenance() | {"kind": "dask", "chunks": [3, 2]}
    assert lazy.dtype == memory.dtype
    np.testing.assert_array_equal(lazy.read(Block((1, 0), (3, 2))), VALUES[1:3, :2])
    copy = pickle.loads(pickle.dumps(lazy))
    assert (copy.dims, copy.lazy) == (("cell", "gene"), None)


MASKED = np.ma.masked_greater(VALUES, 5)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (MASKED, "masked"),
        (da.from_array(MASKED, chunks=2), "masked"),
        (da.ma.masked_greater(da.from_array(VALUES, chunks=2), 5), "masked"),
        (xr.Dataset({"a": (("s", "g"), VALUES)}), "xarray Dataset is no array"),
        (VALUES.astype(np.longdouble), "real numbers of up to 64 bits"),
        (da.from_array(VALUES.astype(np.longdouble), chunks=2), "real numbers of up to 64 bits"),
        (VALUES.astype(complex), "real numbers"),
        ([["a"]], "real numbers"),
        ([[1.0], [1.0, 2.0]], "no array can be made"),
        (3.0, "dims do not fit"),
        (None, "nothing that can be fitted on"),
        ({"a": 1}, "nothing that can be fitted on"),
        (object(), "nothing that can be fitted on"),
    ],
)
def test_what_would_be_misread_is_refused(data: Any, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        wrap_array(data)
    assert caught.value.found or caught.value.expected


def test_a_masked_array_tells_how_to_fill_it() -> None:
    with pytest.raises(SourceError) as caught:
        wrap_array(MASKED)
    assert caught.value.remedy == "values.filled(numpy.nan), on floating values"
    assert wrap_array(MASKED.filled(np.nan)).shape == (4, 3)
    lazy = da.ma.masked_greater(da.from_array(VALUES, chunks=2), 5)
    with pytest.raises(SourceError) as caught:
        wrap_array(lazy)
    assert caught.value.remedy == "dask.array.ma.filled(values, numpy.nan), on floating values"
    assert wrap_array(da.ma.filled(lazy, np.nan)).shape == (4, 3)


def test_xarray_fills_what_is_masked_itself() -> None:
    source = wrap_array(xr.DataArray(da.ma.masked_greater(da.from_array(VALUES, chunks=2), 5)))
    np.testing.assert_array_equal(source.read(Block((0, 0), (4, 3))), MASKED.filled(np.nan))


def test_a_table_is_no_array() -> None:
    pandas = pytest.importorskip("pandas")
    for table in (pandas.DataFrame(VALUES), pandas.Series([1.0, 2.0])):
        with pytest.raises(SourceError, match="a table is no array") as caught:
            wrap_array(table)
        assert "to_numpy()" in str(caught.value)


def test_unknown_chunk_sizes() -> None:
    lazy = da.from_array(VALUES, chunks=2)
    with pytest.raises(SourceError, match="unknown chunk sizes"):
        wrap_array(lazy[lazy[:, 0] > 2])
