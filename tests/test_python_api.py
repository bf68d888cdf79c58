"""`pipeline.fit`: every kind of data it takes gives one manifest, and a wrong argument is told before anything is read."""

from __future__ import annotations

import datetime
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.storage import MemoryStore

from pipeline import Manifest, fit
from pipeline.errors import ConfigError, RequestError, SourceError

da = pytest.importorskip("dask.array")
VALUES = np.random.default_rng(3).normal(5, 2, size=(8, 3))
PER_GENE = [{"minmax": {"per": ["gene"]}}]
LABELS: dict[str, Any] = {
    "strings": np.array(["TP53", "MYC", "é"]),
    "objects of strings": np.array(["TP53", "MYC", "é"], dtype=object),
    "integers": np.array([30, 10, 20]),
    "small integers": np.array([30, 10, 20], dtype=np.uint8),
    "floats": np.array([0.5, 0.1, 2.5]),
    "small floats": np.array([0.5, 0.1, 2.5], dtype=np.float32),
    "floats and NaN": np.array([0.5, np.nan, 2.5]),
    "dates": np.array(["2020-01-01", "2020-02-01", "2020-03-01"], dtype="M8[ns]"),
    "durations": np.array([1, 2, 3], dtype="m8[s]").astype("m8[ns]"),
    "bool": np.array([True, False, True]),
}
NO_LABELS = {"dates", "durations", "bool"}


def _labelled(name: str) -> xr.DataArray:
    return xr.DataArray(VALUES, dims=("cell", "gene"), coords={"gene": LABELS[name]}, name="X")


def _stored(array: xr.DataArray, path: Path, zarr_format: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array.to_dataset().to_zarr(path, zarr_format=zarr_format, consolidated=False)
    return path


@pytest.mark.parametrize("name", LABELS)
def test_one_digest_whatever_holds_the_labelled_data(tmp_path: Path, name: str) -> None:
    array = _labelled(name)
    expected = fit(array, normalize=PER_GENE)
    assert set(expected.labels) == (set() if name in NO_LABELS else {"gene"})
    stores = [_stored(array, tmp_path / f"{zarr_format}.zarr", zarr_format) for zarr_format in (2, 3)]
    digests = [fit(array.chunk({"cell": 3}), normalize=PER_GENE).digest]
    digests += [fit(store, "X", normalize=PER_GENE, missing_chunks="fill").digest for store in stores]
    assert set(digests) == {expected.digest}


@pytest.mark.parametrize("name", LABELS)
def test_data_fits_the_manifest_that_was_fitted_on_it(tmp_path: Path, name: str) -> None:
    array = _labelled(name)
    manifest = fit(array, normalize=PER_GENE)
    expected = manifest.transform(VALUES)
    for order in (np.arange(3), np.array([2, 0, 1])):
        given = array.isel(gene=order) if name not in NO_LABELS else array
        picked = expected[:, order] if name not in NO_LABELS else expected
        np.testing.assert_array_equal(manifest.transform(given).values, picked)
        np.testing.assert_array_equal(manifest.transform(given.chunk({"gene": 2})).values, picked)
    manifest.save(tmp_path / "m")
    assert Manifest.load(tmp_path / "m").digest == manifest.digest
    assert manifest.to_json()["labels"] == Manifest.load(tmp_path / "m").to_json()["labels"]


def test_a_label_that_is_no_number_is_shown_as_none() -> None:
    assert fit(_labelled("floats and NaN"), normalize=PER_GENE).to_json()["labels"] == {"gene": [0.5, None, 2.5]}


def _unreadable() -> Any:
    """A Dask array that fails when it is computed."""

    def fail(_: Any) -> Any:
        raise AssertionError("read")

    return da.ones((8, 3), chunks=2).map_blocks(fail, dtype="f8", meta=np.empty((0, 0)))


@pytest.mark.parametrize("labels", [["a", 1, None], [1.5, "a", b"c"], ["a", np.nan, "b"]])
def test_labels_of_several_kinds_are_refused_before_a_read(labels: list[Any]) -> None:
    objects = np.empty(3, dtype=object)
    objects[:] = labels
    lazy = xr.DataArray(_unreadable(), dims=("cell", "gene"), coords={"gene": objects})
    for data in (lazy, xr.DataArray(VALUES, dims=("cell", "gene"), coords={"gene": objects})):
        with pytest.raises(SourceError, match="a label that is neither text nor a number: labels of gene"):
            fit(data, normalize=PER_GENE)
    assert not fit(xr.DataArray(VALUES, dims=("cell", "gene"), coords={"gene": objects}), normalize=["maxabs"]).labels


@pytest.mark.parametrize("foreign", [">f8", ">f4", ">i2", ">i4"])
def test_byte_order_is_no_part_of_the_data(foreign: str) -> None:
    values = (VALUES * 10).astype(foreign)
    native = fit(values.astype(foreign[1:]), dims=["cell", "gene"], normalize=PER_GENE)
    assert fit(values, dims=["cell", "gene"], normalize=PER_GENE).digest == native.digest
    assert fit(da.from_array(values, chunks=(3, 2)), dims=["cell", "gene"], normalize=PER_GENE).digest == native.digest


def test_a_zarr_array_is_opened_where_it_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for store in (str(tmp_path / "in.zarr"), MemoryStore()):
        group = zarr.create_group(store)
        array = group.create_array("a/X", shape=(8, 3), chunks=(2, 3), dtype="f8", dimension_names=("cell", "gene"))
        array[...] = VALUES
        with monkeypatch.context() as patch:
            patch.setattr(zarr.Array, "__array__", lambda *_: pytest.fail("loaded whole"))
            manifest = fit(array, normalize=PER_GENE)
        assert manifest.digest == fit(VALUES, dims=["cell", "gene"], normalize=PER_GENE).digest
        source = manifest.provenance["source"]
        assert (source["kind"], source["array"], source["chunks"]) == ("zarr", "a/X", [2, 3])
        with pytest.raises(ConfigError, match="no arrays in it"):
            fit(array, "b", normalize=PER_GENE)
        with pytest.raises(SourceError, match="Zarr Group is no array"):
            fit(group, "a/X", normalize=PER_GENE)


def test_labels_to_fit_on_are_kept_as_json() -> None:
    coords = {"plate": ("cell", np.array([1, 1, 2, 2, 3, 3, 4, 4])), "split": ("cell", list("aabbaabb"))}
    array = xr.DataArray(VALUES, dims=("cell", "gene"), coords=coords)
    manifest = fit(array, normalize=PER_GENE, where={"plate": np.array([1, 2]), "split": np.str_("b")})
    assert manifest.provenance["fitted_on"]["where"] == {"plate": [1, 2], "split": ["b"]}
    assert manifest.provenance["fitted_on"]["samples"] == 2
    first = fit(array, normalize=PER_GENE, where={"plate": np.int64(1)})
    assert first.digest == fit(VALUES[:2], dims=["cell", "gene"], normalize=PER_GENE).digest


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        ("float32", "float32"),
        (np.float64, "float64"),
        (float, "float64"),
        ("f2", "float16"),
        (">f4", "float32"),
        ("bool", "bool"),
    ],
)
def test_a_dtype_by_any_name(dtype: Any, name: str, tmp_path: Path) -> None:
    manifest = fit(VALUES, normalize=["minmax"], dtype=dtype)
    assert manifest.transform(VALUES).dtype == np.dtype(name)
    manifest.save(tmp_path / "m")
    assert Manifest.load(tmp_path / "m").digest == manifest.digest


def test_block_bytes_in_words() -> None:
    digests = {fit(VALUES, normalize=["minmax"], block_bytes=size).digest for size in (8, np.int64(64), "1KiB")}
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("nan", "ignore"),
        ("nan", 3),
        ("dtype", "complex64"),
        ("dtype", "longdouble"),
        ("dtype", "floaty"),
        ("dtype", "M8[ns]"),
        ("dtype", object()),
        ("dtype", [("a", "f4")]),
        ("block_bytes", 0),
        ("block_bytes", -5),
        ("block_bytes", 1.5),
        ("block_bytes", "much"),
        ("missing_chunks", "ignore"),
        ("describe", "yes"),
        ("normalize", []),
        ("normalize", None),
        ("normalize", 3),
        ("normalize", "minmax"),
        ("normalize", {"minmax": {}}),
        ("normalize.0", [3]),
        ("dims", "ab"),
        ("dims", 3),
        ("dims", ["a", "a"]),
        ("dims.1", ["a", 1]),
        ("sample_dim", 0),
        ("where", "train"),
        ("where", [("split", "a")]),
        ("where.split", {"split": {"a"}}),
        ("where.split", {"split": np.timedelta64(1, "D")}),
        ("where.split", {"split": float("nan")}),
        ("where.1", {1: "a"}),
        ("array", 3),
        ("array", "images"),
        ("client", "tcp://127.0.0.1:8786"),
        ("client", 3),
    ],
)
def test_a_wrong_argument_is_named(argument: str, value: Any) -> None:
    arguments: dict[str, Any] = {"normalize": ["minmax"], argument.partition(".")[0]: value}
    with pytest.raises(ConfigError) as caught:
        fit(_unreadable(), **arguments)
    error = caught.value
    assert error.where == argument
    assert error.expected
    assert "--set" not in str(error)


@pytest.mark.parametrize("dtype", ["longdouble", "complex64"])
def test_an_unknown_dtype_names_those_there_are(dtype: str) -> None:
    with pytest.raises(ConfigError, match="float16, float32, float64"):
        fit(VALUES, normalize=["minmax"], dtype=dtype)


def test_a_longdouble_is_refused_everywhere(tmp_path: Path) -> None:
    wide = VALUES.astype(np.longdouble)
    for data in (wide, xr.DataArray(wide), da.from_array(wide, chunks=2)):
        for chain in (["minmax"], ["log1p"]):
            with pytest.raises(SourceError, match="up to 64 bits"):
                fit(data, normalize=chain)
    manifest = fit(VALUES, normalize=["minmax"])
    for call in (lambda: manifest.transform(wide), lambda: manifest.inverse_transform(VALUES, dtype="longdouble")):
        with pytest.raises(RequestError):
            call()


@pytest.mark.parametrize("store", ["a\0b", "a" * 300, "/dev/null/in.zarr", "", Path("a\0b")])
def test_a_store_that_cannot_be_one(store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError) as caught:
        fit(store, normalize=["minmax"])
    assert "\0" not in str(caught.value)


def test_an_array_name_that_cannot_be_one(tmp_path: Path) -> None:
    store = _stored(_labelled("strings"), tmp_path / "in.zarr", 3)
    with pytest.raises(SourceError, match="name too long"):
        fit(store, "a" * 300, normalize=["minmax"])
    with pytest.raises(SourceError, match="name too long"):
        fit(store, "X", normalize=["minmax"], where={"a" * 300: 1}, missing_chunks="fill")


def test_an_inverse_out_of_range_can_be_had_in_another_dtype() -> None:
    manifest = fit(np.array([[0], [255]], dtype=np.uint8), dims=["sample", "x"], normalize=["minmax"])
    values = np.array([[1.2], [-0.2]])
    with pytest.raises(Exception, match="ask for dtype float64"):
        manifest.inverse_transform(values)
    named = xr.DataArray(values, dims=("sample", "x"))
    for given in (values, named, da.from_array(values, chunks=1), named.chunk({"sample": 1}), values.tolist()):
        back = manifest.inverse_transform(given, dtype="float64")
        assert back.dtype == np.float64
        np.testing.assert_allclose(np.asarray(back), [[306.0], [-51.0]])
    assert manifest.inverse_transform(da.from_array(values, chunks=1), dtype=np.int16).compute().dtype == np.int16


@pytest.mark.parametrize("dtype", ["complex64", "floaty", object(), "longdouble"])
def test_an_inverse_of_no_real_dtype_is_refused_at_once(dtype: Any) -> None:
    manifest = fit(VALUES, normalize=["minmax"])
    for given in (VALUES, da.from_array(VALUES, chunks=2), xr.DataArray(VALUES, dims=("sample", "dim_1"))):
        with pytest.raises(RequestError, match="not a type that values can be returned in"):
            manifest.inverse_transform(given, dtype=dtype)


@pytest.mark.parametrize("samples", [[1, 2], 5, slice(-3, None), slice("a"), slice(4, 2)])
def test_positions_to_fit_on_are_a_slice_of_positions(samples: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        fit(np.arange(8.0), normalize=["zscore"], samples=samples)
    assert "samples" in str(caught.value.where)


def test_numbers_of_numpy_are_numbers() -> None:
    options: dict[str, Any] = {"samples": slice(np.int64(0), np.int64(5)), "fraction": np.float64(0.9), "seed": np.int64(3)}
    manifest = fit(np.arange(8.0), normalize=["zscore"], **options)
    assert manifest.provenance["fitted_on"]["slice"] == {"start": 0, "stop": 5, "step": 1}


def test_labels_match_themselves() -> None:
    days = np.arange("2020-01-01", "2020-01-05", dtype="datetime64[D]").astype("datetime64[ns]")
    codes = np.array([b"a", b"b", b"a", b"b"])
    array = xr.DataArray(np.arange(4.0), dims=["cell"], coords={"day": ("cell", days), "code": ("cell", codes)})
    second = (
        *(days[1], days[1:2], [days[1]], "2020-01-02", datetime.date(2020, 1, 2), datetime.datetime(2020, 1, 2)),
        datetime.datetime(2020, 1, 2, 3, tzinfo=datetime.timezone(datetime.timedelta(hours=3))),
    )
    for wanted in second:
        manifest = fit(array, normalize=["zscore"], where={"day": wanted})
        assert float(manifest.chain.steps[0].parameters["mean"]) == 1.0
        json.dumps(manifest.provenance["fitted_on"])
    for wanted in (b"b", codes[1], codes[1:2], "b", [b"b"]):
        manifest = fit(array, normalize=["zscore"], where={"code": wanted})
        assert float(manifest.chain.steps[0].parameters["mean"]) == 2.0
        assert manifest.provenance["fitted_on"]["where"] == {"code": ["b"]}


@pytest.mark.parametrize("argument", ["seed", "nan", "unseen", "missing_chunks", "block_bytes"])
def test_none_is_not_taken_for_a_default(argument: str) -> None:
    with pytest.raises(ConfigError, match="wrong value") as caught:
        fit(np.arange(4.0), normalize=["zscore"], **{argument: None})
    assert (caught.value.where, caught.value.found) == (argument, "None")


def test_dates_do_not_group() -> None:
    days = np.arange("2020-01-01", "2020-01-05", dtype="datetime64[D]").astype("datetime64[ns]")
    array = xr.DataArray(np.arange(4.0), dims=["cell"], coords={"day": ("cell", days)})
    with pytest.raises(SourceError, match="do not group"):
        fit(array, normalize=["zscore"], by="day")
