"""Several arrays in one configuration: one plan, one store, one collection, and of each what it would have been alone."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import yaml
import zarr
from click.testing import CliRunner, Result

from pipeline import Manifest, ManifestCollection, fit
from pipeline.arrays_config import ArraysConfig, load_run_config
from pipeline.cli import main
from pipeline.config import Config, parse_config
from pipeline.errors import (
    ConfigError,
    DataError,
    InputMismatchError,
    ManifestError,
    OutputExistsError,
    SourceError,
    WriteError,
)
from pipeline.inference import load_manifest
from pipeline.manifest.schema import _seal
from pipeline.progress import SilentReporter
from pipeline.run import run_config
from pipeline.several import fit_arrays, plan_arrays, run_arrays
from pipeline.sink.zarr_sink import ZarrSink
from tests.source.stores import stored_files

IMAGES: dict[str, Any] = {"normalize": [{"zscore": {"per": ["channel"]}}], "dtype": "float32"}
EXPRESSION: dict[str, Any] = {
    "normalize": ["log1p", {"minmax": {"per": ["gene"]}}],
    "fit": {"where": {"split": "train"}},
}


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with a consolidated store of ten cells: images, expression (in a group), and what is around them."""
    zarr_format = getattr(request, "param", 3)
    generator = np.random.default_rng(11)
    group = zarr.open_group(tmp_path / "in.zarr", mode="w", zarr_format=zarr_format, attributes={"title": "cells"})

    def write(name: str, values: Any, chunks: tuple[int, ...], dims: tuple[str, ...], **options: Any) -> None:
        named = {"dimension_names": dims} if zarr_format == 3 else {"attributes": {"_ARRAY_DIMENSIONS": list(dims)}}
        array = group.create_array(name, shape=values.shape, chunks=chunks, **named, **({"dtype": values.dtype} | options))
        array[...] = values

    images = generator.integers(0, 255, size=(10, 4, 5, 3), endpoint=True).astype("uint8")
    write("images", images, (4, 4, 5, 3), ("sample", "y", "x", "channel"))
    write("layers/counts", generator.poisson(4, size=(10, 6)).astype("float32"), (3, 4), ("sample", "gene"))
    write("layers/other", generator.normal(size=(10, 2)), (10, 2), ("sample", "factor"))
    write("split", np.array(["train"] * 7 + ["test"] * 3), (10,), ("sample",), dtype=str)
    write("layers/split", np.array(["train"] * 7 + ["test"] * 3), (10,), ("sample",), dtype=str)
    write("layers/gene", np.array(["a", "b", "c", "d", "e", "f"]), (6,), ("gene",), dtype=str)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # format 3 has no word of consolidated metadata, which is written all the same
        zarr.consolidate_metadata(tmp_path / "in.zarr", zarr_format=zarr_format)
    return tmp_path


def _raw(folder: Path, **changes: Any) -> dict[str, Any]:
    raw: dict[str, Any] = {
        "source": {"store": f"{folder}/in.zarr"},
        "arrays": {"images": IMAGES, "layers/counts": EXPRESSION},
        "output": {"store": f"{folder}/out.zarr"},
    }
    return {**raw, **changes}


def _config(folder: Path, **changes: Any) -> ArraysConfig:
    return parse_config(_raw(folder, **changes), ArraysConfig)


def _alone(folder: Path, name: str, given: dict[str, Any]) -> Config:
    output = {"store": f"{folder}/alone.zarr", "dtype": given.get("dtype"), "overwrite": True}
    rest = {"fit": given.get("fit"), "normalize": given["normalize"]}
    return parse_config({"source": {"store": f"{folder}/in.zarr", "array": name}, "output": output, **rest}, Config)


both_formats = pytest.mark.parametrize("folder", [2, 3], indirect=True)


def _read(path: Path, name: str) -> Any:
    return zarr.open_group(path, mode="r")[name][...]  # type: ignore[index]


def _no_store(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        zarr.open_group(path, mode="r")


@both_formats
def test_each_array_is_what_it_would_be_alone(folder: Path) -> None:
    result = run_arrays(_config(folder), SilentReporter())

    for name, given in (("images", IMAGES), ("layers/counts", EXPRESSION)):
        alone = run_config(_alone(folder, name, given), SilentReporter())
        assert result.manifest[name].digest == alone.manifest.digest
        here, there = (stored_files(folder / store / name) for store in ("out.zarr", "alone.zarr"))
        assert here == there
        np.testing.assert_array_equal(
            result.manifest[name].transform(_read(folder / "in.zarr", name)), _read(folder / "out.zarr", name)
        )


@both_formats
def test_what_is_around_is_copied_and_consolidated_metadata_is_true(folder: Path) -> None:
    run_arrays(_config(folder), SilentReporter())

    before, after = (stored_files(folder / store) for store in ("in.zarr", "out.zarr"))
    for key, content in before.items():
        if key.startswith(("layers/other", "split", "layers/split", "layers/gene")):
            assert after[key] == content
    group = zarr.open_group(folder / "out.zarr", mode="r", use_consolidated=True)
    assert dict(group.attrs) == {"title": "cells"}
    assert (group["images"].dtype, group["layers/counts"].dtype) == (np.dtype("f4"), np.dtype("f4"))  # type: ignore[union-attr]
    assert not (folder / "out.zarr" / ".zarrnorm").exists()
    dataset = xr.open_zarr(folder / "out.zarr", consolidated=True)
    np.testing.assert_array_equal(dataset["images"].values, _read(folder / "out.zarr", "images"))


def test_layout_is_of_each_array_and_an_own_fit_replaces_the_common_one(folder: Path) -> None:
    arrays = {"images": {**IMAGES, "chunks": [2, 4, 5, 3]}, "layers/counts": EXPRESSION}
    config = _config(folder, arrays=arrays, fit={"samples": {"stop": 4}})
    result = run_arrays(config, SilentReporter())

    assert zarr.open_array(folder / "out.zarr" / "images", mode="r").chunks == (2, 4, 5, 3)
    assert result.manifest["images"].provenance["fitted_on"]["samples"] == 4
    assert result.manifest["layers/counts"].provenance["fitted_on"]["samples"] == 7


def test_a_chain_that_fits_nothing_is_described_while_it_is_written(folder: Path) -> None:
    arrays = {"images": {"normalize": ["dtype_range"]}, "layers/counts": EXPRESSION}
    result = run_arrays(_config(folder, arrays=arrays), SilentReporter())

    alone = run_config(_alone(folder, "images", {"normalize": ["dtype_range"]}), SilentReporter())
    assert result.manifest["images"].digest == alone.manifest.digest
    assert result.manifest["images"].statistics


def test_one_array_in_a_collection_is_an_ordinary_run(folder: Path) -> None:
    result = run_arrays(_config(folder, arrays={"images": IMAGES}), SilentReporter())
    alone = run_config(_alone(folder, "images", IMAGES), SilentReporter())

    assert result.manifest["images"].digest == alone.manifest.digest
    ours, theirs = stored_files(folder / "out.zarr"), stored_files(folder / "alone.zarr")
    assert ours == theirs


def test_the_plan_has_every_phase_with_its_array_and_totals(folder: Path) -> None:
    content = plan_arrays(_config(folder)).to_json()

    assert [(each["array"], each["name"]) for each in content["phases"]] == [
        ("images", "fit"),
        ("layers/counts", "fit"),
        ("images", "apply"),
        ("layers/counts", "apply"),
    ]
    assert content["arrays"] == 2
    assert content["fit_passes"] == len(content["passes"]) == 2
    assert content["reads"] == 4
    assert content["bytes_written"] == 4 * (10 * 4 * 5 * 3 + 10 * 6)
    assert content["bytes_read"] == sum(each["bytes_read"] for each in content["phases"])
    assert content["peak_bytes_per_worker"] == max(each["peak_bytes_per_worker"] for each in content["phases"])


@both_formats
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failure_in_the_second_array_leaves_nothing_that_opens(folder: Path, overwrite: bool) -> None:
    if overwrite:
        run_arrays(_config(folder), SilentReporter())
        before = stored_files(folder / "out.zarr"), stored_files(folder / "out.manifest")
    counts = zarr.open_array(folder / "in.zarr" / "layers/counts", mode="r+")
    counts[9, 5] = -3.0  # the test part, so that only writing meets it
    config = _config(folder, output={"store": f"{folder}/out.zarr", "overwrite": overwrite})

    with pytest.raises(DataError, match="log1p") as caught:
        run_arrays(config, SilentReporter())

    assert "layers/counts" in str(caught.value)
    if overwrite:
        assert before == (stored_files(folder / "out.zarr"), stored_files(folder / "out.manifest"))
    else:
        assert not (folder / "out.manifest").exists()
        _no_store(folder / "out.zarr")
        _no_store(folder / "out.zarr" / "layers")
        with pytest.raises((FileNotFoundError, KeyError)):
            zarr.open_array(folder / "out.zarr" / "images", mode="r")
    counts[9, 5] = 3.0
    run_arrays(config, SilentReporter())
    assert _read(folder / "out.zarr", "layers/counts").shape == (10, 6)


def test_a_chunk_of_the_second_array_that_was_not_written_is_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = ZarrSink.write

    def forgetful(sink: ZarrSink, block: Any, values: Any) -> None:
        if sink.array == "images":
            write(sink, block, values)

    monkeypatch.setattr(ZarrSink, "write", forgetful)
    with pytest.raises(WriteError, match="a part of the output was not written"):
        run_arrays(_config(folder), SilentReporter())
    _no_store(folder / "out.zarr")


def test_a_missing_array_is_told_before_anything_is_read_or_written(folder: Path) -> None:
    with pytest.raises(SourceError, match="no such array"):
        run_arrays(_config(folder, arrays={"images": IMAGES, "expresion": EXPRESSION}), SilentReporter())
    assert not (folder / "out.zarr").exists()


def _collection(folder: Path) -> tuple[ManifestCollection, Path]:
    return fit_arrays(_config(folder), SilentReporter()), folder / "out.manifest"


def test_a_collection_is_saved_and_loaded(folder: Path) -> None:
    collection, path = _collection(folder)
    loaded = ManifestCollection.load(path)

    assert list(loaded) == ["images", "layers/counts"]
    assert loaded.digest == collection.digest
    assert {name: each.digest for name, each in loaded.items()} == {name: each.digest for name, each in collection.items()}
    assert Manifest.load(path / "0-images").digest == collection["images"].digest
    assert sorted(each.name for each in path.iterdir()) == ["0-images", "1-layers-counts", "collection.json"]
    top = json.loads((path / "collection.json").read_text())
    assert (top["schema_version"], top["digest"]) == (1, collection.digest)
    assert [each["name"] for each in top["arrays"]] == ["images", "layers/counts"]
    assert isinstance(load_manifest(path), ManifestCollection)
    assert isinstance(load_manifest(path / "0-images"), Manifest)


def test_the_digest_is_of_names_and_digests_in_any_order(folder: Path) -> None:
    collection, _ = _collection(folder)
    images, counts = collection.values()

    assert ManifestCollection({"layers/counts": counts, "images": images}).digest == collection.digest
    assert ManifestCollection({"images": counts, "layers/counts": images}).digest != collection.digest
    assert ManifestCollection({"images": images}).digest != collection.digest


def test_either_kind_of_manifest_says_which_of_the_two_it_is(folder: Path) -> None:
    _, path = _collection(folder)
    with pytest.raises(ManifestError, match=r"no single manifest") as caught:
        Manifest.load(path)
    assert "ManifestCollection.load" in str(caught.value)
    assert str(caught.value.remedy).endswith("the folder of one array in it: 0-images, 1-layers-counts")
    with pytest.raises(ManifestError, match="no collection") as caught:
        ManifestCollection.load(path / "0-images")
    assert "Manifest.load" in str(caught.value)
    for nowhere in (folder / "nowhere", folder / "in.zarr", path / "collection.json", "a\0b"):
        with pytest.raises(ManifestError):
            ManifestCollection.load(nowhere)
        with pytest.raises(ManifestError):
            load_manifest(nowhere)


def test_overwriting_takes_collections_and_manifests_for_each_other_and_nothing_else(folder: Path) -> None:
    collection, path = _collection(folder)
    with pytest.raises(OutputExistsError):
        collection.save(path)
    collection["images"].save(path, overwrite=True)
    assert Manifest.load(path).digest == collection["images"].digest
    collection.save(path, overwrite=True)
    ManifestCollection({"other": collection["images"]}).save(path, overwrite=True)
    assert list(ManifestCollection.load(path)) == ["other"]
    (path / "0-other" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="not overwritten"):
        collection.save(path, overwrite=True)
    assert (path / "0-other" / "thesis.txt").read_text() == "mine"
    with pytest.raises(OutputExistsError, match="not overwritten"):
        run_arrays(_config(folder, output={"store": f"{folder}/out.zarr", "overwrite": True}), SilentReporter())


def _as_crafted(path: Path, change: Any) -> None:
    """Change `collection.json` and fill in its own sha256 again, as whoever crafts a file can."""
    fields = json.loads((path / "collection.json").read_text())
    change(fields)
    (path / "collection.json").write_bytes(_seal(fields))


@pytest.mark.parametrize("name", ["collection.json", "0-images/manifest.json", "1-layers-counts/arrays.safetensors"])
def test_any_altered_byte_is_refused(folder: Path, name: str) -> None:
    _, path = _collection(folder)
    content = (path / name).read_bytes()
    for place in range(0, len(content), max(1, len(content) // 40)):
        (path / name).write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ManifestError):
            ManifestCollection.load(path)
    for length in (0, 1, len(content) // 2, len(content) - 1):
        (path / name).write_bytes(content[:length])
        with pytest.raises(ManifestError):
            ManifestCollection.load(path)
    (path / name).unlink()
    with pytest.raises(ManifestError):
        ManifestCollection.load(path)
    (path / name).write_bytes(content)
    ManifestCollection.load(path)


def test_a_manifest_of_another_collection_is_refused(folder: Path) -> None:
    _, path = _collection(folder)
    other = {"images": {**IMAGES, "fit": {"samples": {"stop": 5}}}, "layers/counts": EXPRESSION}
    fit_arrays(_config(folder, arrays=other, output={"store": f"{folder}/o.zarr", "manifest": f"{folder}/o"}), SilentReporter())
    for kept in ("0-images", "1-layers-counts"):
        shutil.rmtree(path / kept)
        shutil.copytree(folder / "o" / kept, path / kept)
        with pytest.raises(ManifestError, match="not the manifest that the collection"):
            ManifestCollection.load(path)


def test_crafted_documents_are_refused(folder: Path) -> None:
    def refused(change: Any, match: str) -> None:
        shutil.copytree(path, folder / "crafted")
        _as_crafted(folder / "crafted", change)
        with pytest.raises(ManifestError, match=match):
            ManifestCollection.load(folder / "crafted")
        shutil.rmtree(folder / "crafted")

    _, path = _collection(folder)
    refused(lambda fields: fields["arrays"][0].update(folder="../out.manifest/0-images"), "does not follow its schema")
    refused(lambda fields: fields["arrays"][0].update(folder="0-other"), "another's folder")
    refused(lambda fields: fields["arrays"][0].update(name="layers/counts"), "an array twice")
    refused(lambda fields: fields.update(digest="0" * 64), "digest was taken of")
    refused(lambda fields: fields.update(arrays=[]), "does not follow its schema")
    refused(lambda fields: fields.update(surprise=1), "does not follow its schema")
    refused(lambda fields: fields.update(schema_version=2), "another schema version")
    refused(lambda fields: fields["arrays"].reverse(), "another's folder")


def _call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def _done(*arguments: object) -> Result:
    result = _call(*arguments)
    assert result.exit_code == 0, result.output
    return result


def _written(folder: Path, **changes: Any) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(_raw(folder, **changes), sort_keys=False))
    return path


@both_formats
def test_the_command_line(folder: Path) -> None:
    config = _written(folder)
    planned = json.loads(_done("plan", config, "--json").stdout)
    assert planned["reads"] == 4
    assert "layers/counts" in _done("plan", config).stdout

    result = _done("run", config)
    assert result.stdout.splitlines()[:2] == [f"store:    {folder}/out.zarr", f"manifest: {folder}/out.manifest"]
    assert "fit images: done" in result.stderr
    assert "apply layers/counts: done" in result.stderr
    collection = ManifestCollection.load(folder / "out.manifest")
    assert result.stdout.splitlines()[2] == f"digest:   {collection.digest}"

    shown = _done("show", folder / "out.manifest").stdout
    assert "layers/counts: chain" in shown
    assert collection["images"].digest in shown
    content = json.loads(_done("show", folder / "out.manifest", "--json").stdout)
    assert content["digest"] == collection.digest
    assert content["arrays"]["images"]["digest"] == collection["images"].digest

    other = f"output.manifest={folder}/other.manifest"
    assert f"digest:   {collection.digest}" in _done("fit", config, "--set", other).stdout
    applied = ("apply", folder / "other.manifest", "--source", f"{folder}/in.zarr", "--output", f"{folder}/applied.zarr")
    assert _done(*applied).stdout == f"store:    {folder}/applied.zarr\n"
    assert stored_files(folder / "applied.zarr") == stored_files(folder / "out.zarr")
    assert "exists" in _call(*applied).stderr
    _done(*applied, "--overwrite")


def test_apply_refuses_what_is_of_one_array(folder: Path) -> None:
    _collection(folder)
    applied = ("apply", folder / "out.manifest", "--output", f"{folder}/applied.zarr", "--source")
    for arguments, where in (
        ((f"{folder}/in.zarr:images",), "source.array"),
        ((f"{folder}/in.zarr", "--set", "output.chunks=[1, 1]"), "output.chunks"),
        ((f"{folder}/in.zarr", "--set", "source.dims=[a, b]"), "source.dims"),
    ):
        result = _call(*applied, *arguments)
        assert (result.exit_code, where in result.stderr) == (2, True), result.output
        assert "in that of the collection: 0-images, 1-layers-counts" in result.stderr
    shutil.rmtree(folder / "in.zarr" / "images")
    if (folder / "in.zarr" / ".zmetadata").exists():
        (folder / "in.zarr" / ".zmetadata").unlink()
    result = _call(*applied, f"{folder}/in.zarr")
    assert result.exit_code == 2, result.output
    assert not (folder / "applied.zarr").exists()


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"normalize": ["log1p"]}, "normalize"),
        ({"source": {"store": "in.zarr", "array": "images"}}, "source.array"),
        ({"source": {"store": "in.zarr", "dims": ["a"]}}, "source.dims"),
        ({"output": {"store": "out.zarr", "dtype": "float32"}}, "output.dtype"),
        ({"output": {"store": "out.zarr", "chunks": [1]}}, "output.chunks"),
        ({"arrays": {"images": {}}}, "arrays.images.normalize"),
        ({"arrays": {"images": {"normalize": ["log1p"], "dtyp": "float32"}}}, "arrays.images.dtyp"),
        ({"arrays": {"images": {"normalize": ["log1p"], "dtype": "float12"}}}, "arrays.images.dtype"),
        ({"arrays": {"images": {"normalize": [{"a": {}, "b": {}}]}}}, "arrays.images.normalize.0"),
        ({"arrays": {"images": {"normalize": ["log1p"], "fit": {"nam": 1}}}}, "arrays.images.fit.nam"),
        ({"arrays": {"images": {"normalize": ["log1p"], "dims": ["a", "a"]}}}, "arrays.images.dims"),
        ({"arrays": {"images": {"normalize": ["log1p"], "dims": ["a"], "sample_dim": "b"}}}, "arrays.images.sample_dim"),
        ({"arrays": {}}, "arrays"),
        ({"arrays": ["images"]}, "arrays"),
        ({"arrays": {"images": ["log1p"]}}, "arrays.images"),
        ({"arrays": {"/images": {"normalize": ["log1p"]}}}, "arrays./images"),
        ({"arrays": {"images": {"normalize": ["log1p"]}}, "clutser": {}}, "clutser"),
        ({"output": {"store": "in.zarr/out"}, "source": {"store": "in.zarr"}}, "output.store"),
    ],
)
def test_a_wrong_configuration_is_told_with_its_path(tmp_path: Path, changes: dict[str, Any], where: str) -> None:
    raw = {"source": {"store": "in.zarr"}, "arrays": {"images": IMAGES}, "output": {"store": "out.zarr"}, **changes}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(raw))

    with pytest.raises(ConfigError) as caught:
        load_run_config(str(tmp_path / "config.yaml"), [])
    assert caught.value.where == where, caught.value
    assert caught.value.expected is not None


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"images": {"normalize": [{"zscore": {"per": ["chanel"]}}]}}, "arrays.images.normalize.0.zscore.per"),
        ({"images": {**IMAGES, "chunks": [1, 2]}}, "arrays.images.chunks"),
    ],
)
def test_what_does_not_fit_the_store_is_told_with_its_path(folder: Path, changes: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run_arrays(_config(folder, arrays=changes), SilentReporter())
    assert caught.value.where == where


def test_a_configuration_without_arrays_is_read_as_ever(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("source: {store: in.zarr}\nnormalize: [log1p]\noutput: {store: out.zarr}\n")
    assert isinstance(load_run_config(str(tmp_path / "config.yaml"), []), Config)
    with_arrays = ["arrays.images.normalize=[log1p]", "normalize="]
    assert isinstance(load_run_config(str(tmp_path / "config.yaml"), with_arrays), ArraysConfig)


@pytest.fixture
def dataset() -> xr.Dataset:
    generator = np.random.default_rng(3)
    return xr.Dataset(
        {
            "images": (("cell", "y", "x"), generator.normal(5, 2, size=(8, 3, 2))),
            "counts": (("cell", "gene"), generator.poisson(9, size=(8, 4)).astype("float32"), {"source": "a machine"}),
            "area": (("cell",), generator.normal(size=8)),
        },
        coords={"gene": list("abcd"), "plate": ("cell", list("PPPPQQQQ"))},
        attrs={"title": "cells"},
    )


CHAINS: dict[str, Any] = {"counts": ["log1p", {"minmax": {"per": ["gene"]}}], "images": [{"zscore": {"per": []}}]}


def test_a_dataset_is_fitted_and_transformed(dataset: xr.Dataset) -> None:
    collection = fit(dataset, normalize=CHAINS, dtype={"images": "float32"})

    assert isinstance(collection, ManifestCollection)
    alone = fit(dataset["images"], normalize=CHAINS["images"], dtype="float32")
    assert collection["images"].digest == alone.digest
    before = dataset.copy(deep=True)
    found = collection.transform(dataset)
    xr.testing.assert_identical(dataset, before)
    assert list(found.data_vars) == ["images", "counts", "area"]
    xr.testing.assert_identical(found["area"], dataset["area"])
    assert (found.attrs, found["counts"].attrs) == (dataset.attrs, dataset["counts"].attrs)
    for name in CHAINS:
        xr.testing.assert_identical(found[name], collection[name].transform(dataset[name]))
    back = collection.inverse_transform(found)
    for name in dataset.data_vars:
        assert back[name].dtype == dataset[name].dtype
        np.testing.assert_allclose(back[name].values, dataset[name].values, rtol=1e-5, atol=1e-5)


def test_lazy_datasets_stay_lazy_and_features_are_matched_by_name(dataset: xr.Dataset) -> None:
    collection = fit(dataset, normalize=CHAINS)
    found = collection.transform(dataset.chunk({"cell": 3}))
    assert found["counts"].chunks is not None
    xr.testing.assert_identical(found.compute(), collection.transform(dataset))
    reordered = collection.transform(dataset.isel(gene=[2, 0]))
    np.testing.assert_array_equal(reordered["counts"].values, collection.transform(dataset)["counts"].values[:, [2, 0]])


def test_a_mapping_of_arrays_and_a_store_give_the_same_digests(dataset: xr.Dataset, tmp_path: Path) -> None:
    collection = fit(dataset, normalize=CHAINS)
    assert fit(dict(dataset.data_vars), normalize=CHAINS).digest == collection.digest
    dataset.to_zarr(tmp_path / "in.zarr", consolidated=False, zarr_format=2)
    assert fit(tmp_path / "in.zarr", normalize=CHAINS).digest == collection.digest
    plain = {name: values.values for name, values in dataset.data_vars.items()}
    found = collection.transform(plain)
    assert list(found) == list(plain)
    assert found["area"] is plain["area"]
    np.testing.assert_array_equal(found["counts"], collection.transform(dataset)["counts"].values)


def test_groups_of_a_dataset_come_from_its_coordinate(dataset: xr.Dataset) -> None:
    collection = fit(dataset, normalize={"counts": [{"zscore": {"per": ["gene"]}}]}, by="plate")
    found = collection.transform(dataset)
    first = found["counts"].isel(cell=slice(4))
    np.testing.assert_allclose(first.mean("cell"), np.zeros(4), atol=1e-6)
    plain = collection.transform({"counts": dataset["counts"].values}, by=dataset["plate"].values)
    np.testing.assert_array_equal(plain["counts"], found["counts"].values)


def test_what_cannot_be_transformed_is_refused(dataset: xr.Dataset) -> None:
    collection = fit(dataset, normalize=CHAINS)
    with pytest.raises(InputMismatchError, match="missing: images") as caught:
        collection.transform(dataset.drop_vars("images"))
    assert "collection['counts']" in str(caught.value)
    with pytest.raises(InputMismatchError, match="not several arrays"):
        collection.transform(dataset["images"])
    with pytest.raises(InputMismatchError, match="array counts"):
        collection.transform(dataset.rename(gene="probe"))


def test_a_wrong_fit_is_told_with_the_array(dataset: xr.Dataset) -> None:
    with pytest.raises(ConfigError, match=r"array counts, normalize\.0"):
        fit(dataset, normalize={"counts": ["log2p"]})
    with pytest.raises(SourceError, match="no such array"):
        fit(dataset, normalize={"gene": ["log1p"]})
    with pytest.raises(ConfigError, match="name them"):
        fit(dataset, normalize={})
    with pytest.raises(ConfigError, match="array"):
        fit(dataset, "counts", normalize=CHAINS)  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match="normalize"):
        fit(dataset["counts"], normalize={"zscore": {}})  # type: ignore[dict-item]


SELECTED: dict[str, Any] = {"normalize": [{"select": {"dim": "gene", "k": 2}}, "log1p"]}


@both_formats
def test_features_are_selected_in_one_of_the_arrays(folder: Path) -> None:
    result = run_arrays(_config(folder, arrays={"images": IMAGES, "layers/counts": SELECTED}), SilentReporter())
    alone = run_config(_alone(folder, "layers/counts", SELECTED), SilentReporter())

    assert result.manifest["layers/counts"].digest == alone.manifest.digest
    for name in ("layers/counts", "layers/gene", "layers/other"):
        assert stored_files(folder / "out.zarr" / name) == stored_files(folder / "alone.zarr" / name)
    assert _read(folder / "out.zarr", "layers/gene").shape == (2,)
    assert _read(folder / "out.zarr", "images").shape == (10, 4, 5, 3)
    applied = ("apply", folder / "out.manifest", "--source", f"{folder}/in.zarr", "--output", f"{folder}/applied.zarr")
    _done(*applied)
    assert stored_files(folder / "applied.zarr") == stored_files(folder / "out.zarr")


def test_arrays_that_share_a_dim_must_keep_the_same_of_it(folder: Path) -> None:
    group = zarr.open_group(folder / "in.zarr", mode="r+", use_consolidated=False)
    named = {"dimension_names": ("sample", "gene")} if group.metadata.zarr_format == 3 else {}
    attributes = {} if named else {"_ARRAY_DIMENSIONS": ["sample", "gene"]}
    group.create_array("layers/raw", shape=(10, 6), chunks=(10, 6), dtype="f4", attributes=attributes, **named)[...] = 1

    def select(*names: str) -> dict[str, Any]:
        return {"normalize": [{"select": {"dim": "gene", "names": list(names)}}]}

    for other in ({"normalize": ["log1p"]}, select("a", "b", "c"), select("a", "c")):
        with pytest.raises(ConfigError, match="keep different parts"):
            run_arrays(_config(folder, arrays={"layers/counts": select("a", "b"), "layers/raw": other}), SilentReporter())
        _no_store(folder / "out.zarr")
    run_arrays(_config(folder, arrays={"layers/counts": select("a", "b"), "layers/raw": select("a", "b")}), SilentReporter())
    assert _read(folder / "out.zarr", "layers/gene").tolist() == ["a", "b"]
    assert zarr.open_array(folder / "out.zarr" / "layers/raw", mode="r").shape == (10, 2)


def test_a_dataset_is_cut_to_what_one_array_keeps(dataset: xr.Dataset) -> None:
    dataset["length"] = ("gene", [1.0, 2.0, 3.0, 4.0])
    select = [{"select": {"dim": "gene", "names": ["d", "b"]}}]
    found = fit(dataset, normalize={"counts": select}).transform(dataset)
    assert found["gene"].values.tolist() == ["b", "d"]
    assert found["length"].values.tolist() == [2, 4]
    np.testing.assert_array_equal(found["counts"].values, dataset["counts"].values[:, [1, 3]])
    reordered = fit(dataset, normalize={"counts": select}).transform(dataset.isel(gene=[3, 2, 1, 0]))
    assert dict(zip(reordered["gene"].values.tolist(), reordered["length"].values.tolist(), strict=True)) == {"d": 4, "b": 2}
    dataset["raw"] = dataset["counts"] + 1
    with pytest.raises(InputMismatchError, match="a part of gene is kept"):
        fit(dataset, normalize={"counts": select, "raw": ["log1p"]}).transform(dataset)


@pytest.mark.parametrize("name", ["/X", "X/", "sub//X", "sub/./X", "../X", ""])
def test_an_array_has_one_spelling(name: str) -> None:
    document = {"source": {"store": "a.zarr"}, "arrays": {name: {"normalize": ["log1p"]}}, "output": {"store": "b.zarr"}}
    with pytest.raises(ConfigError):
        parse_config(document, ArraysConfig)
