"""Labels and coordinates beside an array, of every type in which they are stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from pipeline.errors import ChunkError, SourceError
from pipeline.source.open import open_source
from tests.source.stores import Stored, write_array, write_quietly, write_store

FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])


@pytest.fixture(params=[2, 3])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_store(tmp_path / "in.zarr", Stored(request.param, (3, 2, 4)))


def test_coordinates_of_every_kind(path: Path) -> None:
    source = open_source(path, "images")
    dim, split = source.coordinate("split")
    assert dim == "sample"
    assert split.dtype.kind == "U"
    assert split.tolist() == ["train", "test", "train", "val", "train", "test", "é"]
    assert source.coordinate("label")[1].tolist() == list(range(7))
    dim, good = source.coordinate("good")
    assert (dim, good.dtype) == ("sample", np.dtype(bool))
    assert source.coordinate("y")[0] == "y"


def test_labels_are_named_like_their_dim(path: Path) -> None:
    source = open_source(path, "images")
    labels = source.labels("y")
    assert labels is not None
    assert labels.tolist() == [10, 20, 30, 40, 50]
    assert source.labels("x") is None
    assert source.labels("sample") is None


@FORMATS
@pytest.mark.parametrize(
    "values", [np.array(["a", "bé", ""]), np.array([b"a", b"b", b"c"]), np.array(["x", "yy", "é"], dtype="T")]
)
def test_strings_of_every_kind_become_text(tmp_path: Path, zarr_format: int, values: Any) -> None:
    group = zarr.create_group(tmp_path, zarr_format=zarr_format)
    write_array(group, "matrix", np.ones((4, 3)), Stored(zarr_format, (4, 3)), ("cell", "gene"))
    write_quietly(group, "gene", values)
    labels = open_source(tmp_path, "matrix").labels("gene")
    assert labels is not None
    assert labels.dtype.kind == "U"
    assert labels.tolist() == [each.decode() if isinstance(each, bytes) else each for each in values.tolist()]


@FORMATS
def test_labels_that_xarray_wrote(tmp_path: Path, zarr_format: int) -> None:
    dataset = xr.Dataset(
        {"matrix": (("cell", "gene"), np.ones((4, 3)))},
        coords={
            "gene": np.array(["a", "b", "c"], dtype=object),
            "plate": ("cell", np.array(["p1", "p2", "p1", "p2"], dtype=object)),
            "depth": ("cell", np.array([0.5, 1.5, 2.5, 3.5])),
        },
    )
    dataset.to_zarr(tmp_path / "in.zarr", zarr_format=zarr_format, consolidated=False)
    source = open_source(tmp_path / "in.zarr", "matrix")
    labels = source.labels("gene")
    assert labels is not None
    assert labels.tolist() == ["a", "b", "c"]
    assert source.coordinate("plate")[1].tolist() == ["p1", "p2", "p1", "p2"]
    assert source.coordinate("depth")[1].tolist() == [0.5, 1.5, 2.5, 3.5]


@FORMATS
def test_unnamed_coordinate_goes_to_the_sample_dim_first(tmp_path: Path, zarr_format: int) -> None:
    group = zarr.create_group(tmp_path, zarr_format=zarr_format)
    write_array(group, "square", np.ones((4, 4)), Stored(zarr_format, (4, 4)), None)
    write_array(group, "free", np.arange(4), Stored(zarr_format, (4,)), None)
    write_array(group, "named", np.arange(4), Stored(zarr_format, (4,)), ("b",))
    source = open_source(tmp_path, "square", dims=["a", "b"])
    assert source.coordinate("free")[0] == "a"
    assert source.coordinate("named")[0] == "b"
    assert open_source(tmp_path, "square", dims=["a", "b"], sample_dim="b").coordinate("free")[0] == "b"


def test_coordinate_of_another_dim_does_not_fit(path: Path) -> None:
    group = zarr.open_group(path, mode="r+")
    zarr_format: Any = group.metadata.zarr_format
    write_array(group, "class", np.arange(7), Stored(zarr_format, (7,)), ("class",))
    write_array(group, "short", np.arange(4), Stored(zarr_format, (4,)), None)
    source = open_source(path, "images")
    for name in ("class", "short"):
        with pytest.raises(SourceError, match="fits no dim") as caught:
            source.coordinate(name)
        assert "sample 7, y 5, x 6" in str(caught.value)


def test_missing_coordinate_lists_what_is_there(path: Path) -> None:
    source = open_source(path, "images")
    with pytest.raises(SourceError, match="no such coordinate") as caught:
        source.coordinate("splits")
    assert "good, label, split, y" in str(caught.value)
    assert "use 'split'" in str(caught.value)
    for name in ("images", "masks"):
        with pytest.raises(SourceError, match="no such coordinate"):
            source.coordinate(name)
    with pytest.raises(SourceError, match="one-dimensional"):
        source.coordinate("masks/mean")


def test_lost_chunk_of_a_coordinate_is_an_error(path: Path) -> None:
    chunk = next(file for file in (path / "label").rglob("*") if file.is_file() and file.name in ("0", "1"))
    chunk.unlink()
    with pytest.raises(ChunkError, match="a stored chunk is missing"):
        open_source(path, "images").coordinate("label")
    assert open_source(path, "images", missing_chunks="fill").coordinate("label")[0] == "sample"


@pytest.mark.parametrize("values", [["2020-01-01", "2020-01-02"], [True, False]])
def test_dates_and_bool_are_no_labels_but_a_coordinate(tmp_path: Path, values: list[Any]) -> None:
    group = zarr.create_group(tmp_path)
    write_array(group, "matrix", np.ones((2, 3)), Stored(3, (2, 3)), ("time", "x"))
    array = np.array(values, dtype="M8[s]" if isinstance(values[0], str) else bool)
    write_quietly(group, "time", array)
    source = open_source(tmp_path, "matrix")
    assert source.labels("time") is None
    assert source.coordinate("time")[1].dtype.kind == array.dtype.kind


@pytest.mark.parametrize(
    ("attributes", "usable"),
    [({}, True), ({"units": "nm"}, True), ({"units": "days since 2020-01-01"}, False), ({"scale_factor": 0.5}, False)],
)
def test_numbers_that_encode_something_else_are_no_labels(tmp_path: Path, attributes: dict[str, Any], usable: bool) -> None:
    group = zarr.create_group(tmp_path)
    write_array(group, "matrix", np.ones((2, 3)), Stored(3, (2, 3)), ("x", "gene"))
    write_array(group, "gene", np.arange(3), Stored(3, (3,)), ("gene",), attributes=attributes)
    assert (open_source(tmp_path, "matrix").labels("gene") is not None) == usable
