"""What a request may leave out, and what is said where it does not fit the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from pipeline.errors import SourceError
from pipeline.source.open import open_source
from tests.source.stores import Stored, write_quietly, write_store

FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])


@pytest.fixture(params=[2, 3])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_store(tmp_path / "in.zarr", Stored(request.param, (3, 2, 4)))


def refusal(*args: Any, **options: Any) -> str:
    with pytest.raises(SourceError) as caught:
        open_source(*args, **options)
    assert caught.value.exit_status == 2
    return str(caught.value)


def test_missing_store_lists_what_is_there(path: Path) -> None:
    message = refusal(path.parent / "im.zarr")
    assert "the store does not exist" in message
    assert "in.zarr" in message
    assert "in.zarr" in refusal(path.parent / "deep" / "er.zarr")


def test_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("1,2")
    assert "not a folder" in refusal(tmp_path / "in.csv")


def test_folder_without_zarr_lists_what_is_there(path: Path) -> None:
    message = refusal(path.parent)
    assert "holds no array" in message
    assert "in.zarr" in message
    assert "in.zarr" in refusal(path.parent, "images")


def test_unknown_address_keeps_its_secrets() -> None:
    message = refusal("s3://key:secret@bucket/in.zarr?token=1")
    assert "s3://bucket/in.zarr" in message
    assert "secret" not in message
    assert "token" not in message


def test_file_url_is_a_path(path: Path) -> None:
    assert open_source(path.as_uri(), "images").store == str(path)


def test_wrong_array_lists_arrays_and_the_nearest(path: Path) -> None:
    message = refusal(path, "image")
    assert "no such array" in message
    assert "images (7, 5, 6)" in message
    assert "use 'images'" in message


def test_group_is_no_array(path: Path) -> None:
    message = refusal(path, "masks")
    assert "this is a group" in message
    assert "masks/mean" in message


def test_array_in_a_group_opens(path: Path) -> None:
    source = open_source(path, "/masks/mean/")
    assert source.array == "masks/mean"
    assert source.dims == ("y", "x")


def test_store_address_may_be_the_array_itself(path: Path) -> None:
    source = open_source(path / "images")
    assert (source.array, source.shape) == ("", (7, 5, 6))
    assert source.labels("y") is None
    with pytest.raises(SourceError, match="no such coordinate"):
        source.coordinate("y")


def test_array_is_guessed_only_where_one_can_be_meant(path: Path, tmp_path: Path) -> None:
    message = refusal(path)
    assert "several arrays" in message
    assert "images (7, 5, 6)" in message
    assert "masks/mean (5, 6)" in message
    assert "source.array: images" in message
    group = zarr.create_group(tmp_path / "one.zarr")
    group.create_array("label", shape=(7,), dtype="i4", dimension_names=["sample"])
    assert open_source(tmp_path / "one.zarr").array == "label"
    group.create_array("images", shape=(7, 2), dtype="f4", dimension_names=["sample", "x"])
    assert open_source(tmp_path / "one.zarr").array == "images"


def test_stray_files_are_passed_over(path: Path) -> None:
    (path / "README.md").write_text("hello")
    (path / "empty").mkdir()
    assert "README" not in refusal(path)


def test_broken_metadata_is_named(path: Path) -> None:
    name = "zarr.json" if (path / "zarr.json").exists() else ".zarray"
    (path / "images" / name).write_text('{"zarr_format"')
    assert f"images/{name}" in refusal(path, "images")
    (path / "images" / name).write_text("[]")
    assert "not a JSON object" in refusal(path, "images")
    (path / "images" / name).write_text('{"zarr_format": 3, "node_type": "array"}')
    assert "no shape" in refusal(path, "images")
    (path / "images" / name).write_text('{"zarr_format": 3, "node_type": "array", "shape": [1]}')
    assert "cannot be opened" in refusal(path, "images")


def test_dims_must_be_those_of_the_store(path: Path) -> None:
    assert open_source(path, "images", dims=["sample", "y", "x"]).dims == ("sample", "y", "x")
    message = refusal(path, "images", dims=["sample", "x", "y"])
    assert "contradict" in message
    assert "sample, y, x" in message
    assert "do not fit" in refusal(path, "images", dims=["sample", "y"])
    assert "do not fit" in refusal(path, "images", dims=["sample", "y", "y"])


@FORMATS
def test_unnamed_dims_must_be_given(tmp_path: Path, zarr_format: int) -> None:
    write_store(tmp_path, Stored(zarr_format, (3, 2, 4)), dims=None)
    message = refusal(tmp_path, "images")
    assert "does not name" in message
    assert "source.dims" in message
    source = open_source(tmp_path, "images", dims=["cell", "y", "x"])
    assert source.dims == ("cell", "y", "x")
    assert source.sample_dim == "cell"


def test_partly_named_dims_must_agree_where_they_are(tmp_path: Path) -> None:
    zarr.create_array(tmp_path, shape=(2, 3), dtype="f4", dimension_names=["sample", None])
    assert "(unnamed)" in refusal(tmp_path)
    assert "contradict" in refusal(tmp_path, dims=["x", "sample"])
    assert open_source(tmp_path, dims=["sample", "x"]).dims == ("sample", "x")


def test_dims_attribute_counts_in_format_3(tmp_path: Path) -> None:
    zarr.create_array(tmp_path, shape=(2, 3), dtype="f4", attributes={"_ARRAY_DIMENSIONS": ["sample", "x"]})
    assert open_source(tmp_path).dims == ("sample", "x")


def test_sample_dim_is_the_first_or_the_one_named(path: Path) -> None:
    assert open_source(path, "images").sample_dim == "sample"
    assert open_source(path, "images", sample_dim="y").sample_dim == "y"
    assert "no such dim" in refusal(path, "images", sample_dim="cell")


@FORMATS
@pytest.mark.parametrize("dtype", ["c8", "M8[s]", "m8[s]", "T"])
def test_other_than_real_numbers_is_refused(tmp_path: Path, zarr_format: int, dtype: str) -> None:
    write_quietly(zarr.create_group(tmp_path, zarr_format=zarr_format), "odd", np.zeros((2, 3), dtype=dtype))
    assert "real numbers" in refusal(tmp_path, "odd")


def test_single_value_is_refused(tmp_path: Path) -> None:
    zarr.create_array(tmp_path, shape=(), dtype="f4")
    assert "no dim" in refusal(tmp_path)


def test_unknown_policy_is_refused(path: Path) -> None:
    assert "error or fill" in refusal(path, "images", missing_chunks="zero")
