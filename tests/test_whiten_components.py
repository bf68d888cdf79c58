"""`whiten` with fewer components, from a configuration to a store: another dim in the place of the whitened ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import xarray
import zarr
from click.testing import CliRunner
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from pipeline import Manifest, ManifestCollection, fit
from pipeline.arrays_config import ArraysConfig
from pipeline.cli import main
from pipeline.config import ApplyConfig, Config, parse_config
from pipeline.errors import ConfigError, InputMismatchError
from pipeline.progress import SilentReporter
from pipeline.run import apply_manifest, plan_config, run_config
from pipeline.several import run_arrays
from tests.counting import counted_reads

CELLS, GENES = 90, 12
NAMES = [f"g{number:02}" for number in range(GENES)]
PCA_OF_5: dict[str, Any] = {"whiten": {"method": "pca", "components": 5}}


def _values(shape: tuple[int, ...] = (CELLS, GENES)) -> NDArray[np.float32]:
    generator = np.random.default_rng(3)
    flat = generator.standard_normal((shape[0], int(np.prod(shape[1:]))))
    mixed = flat @ (generator.standard_normal((flat.shape[1],) * 2) + 2 * np.eye(flat.shape[1]))
    return mixed.reshape(shape).astype(np.float32)


def _projected(values: NDArray[Any], output: NDArray[Any], components: int) -> None:
    """`output` is scikit-learn's PCA of `values`, up to signs."""
    flat = values.reshape(len(values), -1).astype(np.float64)
    expected = PCA(n_components=components, whiten=True, svd_solver="full").fit_transform(flat)
    signs = np.sign((output * expected).sum(axis=0))
    np.testing.assert_allclose(output, expected * signs, rtol=1e-5, atol=1e-5)


def _stored(path: Path, zarr_format: int, sharded: bool = False) -> NDArray[np.float32]:
    values, group = _values(), zarr.open_group(path, mode="w", zarr_format=zarr_format)  # type: ignore[arg-type]

    def add(name: str, data: NDArray[Any], dims: tuple[str, ...], chunks: tuple[int, ...], **options: Any) -> None:
        named: dict[str, Any] = (
            {"dimension_names": dims} if zarr_format == 3 else {"attributes": {"_ARRAY_DIMENSIONS": list(dims)}}
        )
        array = group.create_array(name, shape=data.shape, dtype=data.dtype, chunks=chunks, **named, **options)
        array[...] = data

    add("X", values, ("cell", "gene"), (10, 5), **({"shards": (20, 10)} if sharded else {}))
    add("gene", np.arange(GENES) * 10 + 1, ("gene",), (5,))
    add("plate", np.arange(CELLS) % 3, ("cell",), (10,))
    add("raw", values * 2, ("cell", "gene"), (7, 4))
    return values


def _config(folder: Path, normalize: list[Any], **output: Any) -> Config:
    document = {
        "source": {"store": str(folder / "in.zarr"), "array": "X"},
        "normalize": normalize,
        "output": {"store": str(folder / "out.zarr"), **output},
        "cluster": {"kind": "local", "workers": 1, "processes": False},
        "block_bytes": 1_000,
    }
    return parse_config(document, Config)


@pytest.mark.parametrize(
    ("zarr_format", "sharded", "output"),
    [(2, False, {}), (3, False, {}), (3, True, {}), (3, False, {"chunks": [9, 2]}), (3, True, {"shards": [30, 5]})],
)
def test_the_output_store(zarr_format: int, sharded: bool, output: dict[str, Any], tmp_path: Path) -> None:
    values = _stored(tmp_path / "in.zarr", zarr_format, sharded)
    config = _config(tmp_path, [PCA_OF_5], **output)
    assert plan_config(config).phases[-1].bytes_written == CELLS * 5 * 4
    with counted_reads(tmp_path / "in.zarr", "X") as counts:
        result = run_config(config, SilentReporter())
    if not output:
        assert set(counts.values()) == {2}
    written = xarray.open_zarr(tmp_path / "out.zarr", consolidated=False)
    assert written["X"].dims == ("cell", "component")
    assert written["raw"].dims == ("cell", "gene")
    np.testing.assert_array_equal(written["raw"].to_numpy(), values * 2)
    np.testing.assert_array_equal(written["gene"].to_numpy(), np.arange(GENES) * 10 + 1)
    _projected(values, written["X"].to_numpy(), 5)
    np.testing.assert_array_equal(written["X"].to_numpy(), result.manifest.transform(values))
    array: Any = zarr.open_group(tmp_path / "out.zarr", mode="r")["X"]
    assert array.chunks == tuple(output.get("chunks", (10, 5)))
    assert array.shards == (tuple(output["shards"]) if "shards" in output else (20, 5) if sharded else None)

    again = {"source": {"store": str(tmp_path / "in.zarr"), "array": "X"}, "output": {"store": str(tmp_path / "again.zarr")}}
    apply_manifest(Manifest.load(result.manifest_path), parse_config(again, ApplyConfig), SilentReporter())
    np.testing.assert_array_equal(zarr.open_group(tmp_path / "again.zarr", mode="r")["X"][...], array[...])


def test_images_become_vectors_of_components(tmp_path: Path) -> None:
    images = _values((60, 3, 4, 2))
    source = zarr.create_array(
        tmp_path / "in.zarr",
        name="X",
        shape=images.shape,
        chunks=(9, 2, 4, 1),
        dtype="f4",
        dimension_names=["n", "y", "x", "c"],
    )
    source[...] = images
    chain = [{"zscore": {"per": ["c"]}}, PCA_OF_5, {"minmax": {"per": ["component"], "range": [-1, 1]}}]
    for zeroth, output in enumerate(({}, {"chunks": [7, 2]})):
        run_config(_config(tmp_path, chain, overwrite=zeroth > 0, **output), SilentReporter())
        written: Any = zarr.open_group(tmp_path / "out.zarr", mode="r")["X"]
        assert (written.shape, written.metadata.dimension_names) == ((60, 5), ("n", "component"))
        manifest = Manifest.load(tmp_path / "out.manifest")
        np.testing.assert_array_equal(written[...], manifest.transform(images))
        np.testing.assert_allclose([written[...].min(axis=0), written[...].max(axis=0)], [[-1] * 5, [1] * 5], atol=1e-6)
        assert manifest.inverse_transform(written[...]).shape == images.shape
        assert manifest.inverse_transform(written[3]).shape == images.shape[1:]
    with pytest.raises(ConfigError, match="sizes that do not fit"):
        run_config(_config(tmp_path, chain, overwrite=True, chunks=[7, 3, 4, 2]), SilentReporter())


def test_the_manifest_and_every_kind_of_array(tmp_path: Path) -> None:
    values = _values()
    data = xarray.DataArray(values, dims=["cell", "gene"], coords={"gene": NAMES, "depth": ("gene", np.arange(GENES))})
    manifest = fit(data, normalize=["arcsinh", PCA_OF_5, {"zscore": {"per": ["component"]}}])
    manifest.save(tmp_path / "manifest")
    loaded = Manifest.load(tmp_path / "manifest")
    assert loaded.digest == manifest.digest
    assert (loaded.output_sizes, loaded.output_labels, loaded.labels["gene"].tolist()) == ({"component": 5}, {}, NAMES)
    assert loaded.to_json()["output_dims"] == ["cell", "component"]
    expected = loaded.transform(values)
    assert loaded.transform(data.isel(gene=slice(None, None, -1)).T).to_numpy().T.tobytes() == expected.tobytes()
    assert "depth" not in loaded.transform(data).coords
    for chunks in [(11, 5), (90, 12), ((20, 70), (1, 11))]:
        lazy = loaded.transform(dask.array.from_array(values, chunks=chunks))
        assert lazy.chunks[1] == (5,)
        assert lazy.compute().tobytes() == expected.tobytes()
        assert loaded.inverse_transform(lazy).compute().tobytes() == loaded.inverse_transform(expected).tobytes()
    assert loaded.transform(values[4]).tobytes() == expected[4].tobytes()
    shown = CliRunner().invoke(main, ["show", str(tmp_path / "manifest")])
    assert shown.exit_code == 0 and "cell, component (5)" in shown.output


def test_passes_before_and_after_it() -> None:
    values = np.concatenate([_values(), 100 * _values()[:10]])
    chain = [{"select": {"dim": "gene", "k": 9}}, PCA_OF_5, {"robust": {"per": ["component"]}}, {"minmax": {"per": []}}]
    manifests = [fit(values, dims=["cell", "gene"], normalize=chain, block_bytes=size) for size in (500, 10**6)]
    outputs = [manifest.transform(values) for manifest in manifests]
    assert outputs[0].shape == (100, 5)
    assert (outputs[0].min(), outputs[0].max()) == (0, 1)
    np.testing.assert_allclose(*outputs, rtol=0, atol=1e-5)
    described = fit(values, dims=["cell", "gene"], normalize=chain[:2])
    median = manifests[1].chain.steps[2].parameters["median"]
    np.testing.assert_allclose(median, np.median(described.transform(values), axis=0), rtol=0.01, atol=1e-3)


@pytest.mark.parametrize("unseen", ["error", "nan"])
def test_groups_have_components_of_their_own(unseen: Any) -> None:
    plates = np.array(["A", "B"])[np.arange(CELLS) % 2]
    data = xarray.DataArray(_values((CELLS, 2, 3)), dims=["cell", "y", "x"], coords={"plate": ("cell", plates)})
    manifest = fit(data, normalize=[PCA_OF_5, {"zscore": {"per": ["component"]}}], by="plate", unseen=unseen)
    output = manifest.transform(data)
    for plate in ("A", "B"):
        _projected(data.values[plates == plate], output.values[plates == plate] * np.sqrt(44 / 45), 5)
    np.testing.assert_array_equal(manifest.transform(data.chunk({"cell": 7, "x": 1})).compute(), output)
    assert manifest.inverse_transform(output).dims == data.dims
    np.testing.assert_array_equal(
        manifest.inverse_transform(output).values, manifest.inverse_transform(output.values, by=plates), strict=True
    )
    if unseen == "nan":
        other = manifest.transform(data.assign_coords(plate=("cell", np.where(np.arange(CELLS) < 4, "C", plates))))
        assert other.isnull().sum() == 4 * 5


def test_a_missing_value_makes_all_components_missing() -> None:
    values = _values()
    values[::7, 3] = np.nan
    manifest = fit(values, dims=["cell", "gene"], normalize=[PCA_OF_5])
    np.testing.assert_array_equal(np.isnan(manifest.transform(values)).all(axis=1), np.arange(CELLS) % 7 == 0)
    propagated = fit(values, dims=["cell", "gene"], normalize=[PCA_OF_5], nan="propagate").transform(values)
    assert propagated.shape == (CELLS, 5) and np.isnan(propagated).all()


def _arrays(folder: Path, **options: Any) -> Any:
    group = zarr.open_group(folder / "two.zarr", mode="w")
    for name, genes in (("a", 8), ("b", 6)):
        array = group.create_array(name, shape=(40, genes), dtype="f4", chunks=(9, 3), dimension_names=["cell", f"gene_{name}"])
        array[...] = _values((40, genes))
    document = {
        "source": {"store": str(folder / "two.zarr")},
        "arrays": {
            "a": {"normalize": [{"whiten": {"method": "pca", "components": 4}}]},
            "b": {"normalize": [{"whiten": {"method": "pca", "components": 3, **options}}]},
        },
        "output": {"store": str(folder / "out.zarr")},
        "cluster": {"kind": "local", "workers": 1, "processes": False},
    }
    return parse_config(document, ArraysConfig)


def test_several_arrays_name_their_dims_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another number of components"):
        run_arrays(_arrays(tmp_path), SilentReporter())
    result = run_arrays(_arrays(tmp_path, component_dim="pc"), SilentReporter())
    written = xarray.open_zarr(tmp_path / "out.zarr", consolidated=False)
    assert (written["a"].dims, written["b"].dims) == (("cell", "component"), ("cell", "pc"))
    source = xarray.open_zarr(tmp_path / "two.zarr", consolidated=False)
    xarray.testing.assert_equal(result.manifest.transform(source).compute(), written.compute())
    alike = {
        "a": result.manifest["a"],
        "b": fit(_values((40, 6)), dims=["cell", "gene_b"], normalize=[{"whiten": {"method": "pca", "components": 3}}]),
    }
    with pytest.raises(InputMismatchError, match="another number of components"):
        ManifestCollection(alike).transform(source)
