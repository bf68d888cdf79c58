"""`select` from a configuration to a store: which features, how many reads, what becomes of everything along the dim."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pandas
import pytest
import xarray
import zarr
from numpy.typing import NDArray

from pipeline import Manifest, fit
from pipeline.config import ApplyConfig, Config, parse_config
from pipeline.errors import ConfigError, DataError, InputMismatchError, NotInvertibleError
from pipeline.normalize.chain import bind_chain, parse_chain
from pipeline.normalize.step import Input
from pipeline.plan import plan_passes
from pipeline.progress import SilentReporter
from pipeline.run import apply_manifest, plan_config, run_config
from pipeline.source.memory import MemorySource
from tests.counting import counted_reads

CELLS, GENES = 60, 24
NAMES = [f"g{number:02}" for number in range(GENES)]
VARIANCE = {"select": {"dim": "gene", "k": 7}}
DEVIATION = {"select": {"dim": "gene", "k": 7, "by": "mean_absolute_deviation"}}
ZSCORE: dict[str, Any] = {"zscore": {"per": ["gene"]}}


def _values(dtype: str = "float64") -> NDArray[Any]:
    generator = np.random.default_rng(3)
    values = generator.gamma(2.0, generator.uniform(0.5, 9.0, GENES), (CELLS, GENES))
    if dtype.startswith("float"):
        values[generator.random(values.shape) < 0.1] = np.nan
    return values.astype(dtype)


def _labelled(values: NDArray[Any]) -> xarray.DataArray:
    plates = np.array(["P1", "P2", "P3"])[np.arange(len(values)) % 3]
    return xarray.DataArray(values, dims=["cell", "gene"], coords={"gene": NAMES, "plate": ("cell", plates)})


def _best(values: NDArray[Any], by: str, k: int = 7) -> NDArray[np.intp]:
    table = pandas.DataFrame(values.astype("float64"))
    scores = table.var() if by == "variance" else (table - table.mean()).abs().mean()
    return np.sort(scores.nlargest(k).index.to_numpy()).astype(np.intp)


def _passes(*entries: Any, dtype: str = "float64") -> list[tuple[int, tuple[str, ...]]]:
    source = MemorySource(np.zeros((CELLS, GENES), dtype), ("cell", "gene"), "cell", {})
    given = Input(source.dims, "cell", source.dtype, {"cell": CELLS, "gene": GENES}, lambda dim: np.array(NAMES))
    return [(each.at, each.summaries) for each in plan_passes(bind_chain(parse_chain(entries), given), source)]


@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8", "int32"])
@pytest.mark.parametrize("by", ["variance", "mean_absolute_deviation"])
def test_the_features_are_those_of_pandas_in_their_order(by: str, dtype: str) -> None:
    values = _values(dtype)
    manifest = fit(values, dims=["cell", "gene"], normalize=[{"select": {"dim": "gene", "k": 7, "by": by}}], dtype="float64")
    np.testing.assert_array_equal(manifest.transform(values), values[:, _best(values, by)].astype("float64"))
    np.testing.assert_array_equal(manifest.transform(values[0]), values[0, _best(values, by)].astype("float64"))


def test_of_equal_scores_the_first_are_kept() -> None:
    values = np.tile([[0.0], [1.0], [3.0]], (1, 6)) * [1, 2, 1, 2, 1, 1]
    for by in ("variance", "mean_absolute_deviation"):
        manifest = fit(values, dims=["cell", "gene"], normalize=[{"select": {"dim": "gene", "k": 4, "by": by}}])
        assert manifest.chain.kept["gene"].tolist() == [0, 1, 2, 3]


def test_a_large_mean_takes_nothing_from_the_ranking() -> None:
    deviations = np.random.default_rng(0).normal(size=(200, 30)) * np.linspace(1, 1.2, 30)
    values = deviations + 1e8
    for by in ("variance", "mean_absolute_deviation"):
        manifest = fit(values, dims=["cell", "gene"], normalize=[{"select": {"dim": "gene", "k": 9, "by": by}}])
        np.testing.assert_array_equal(manifest.chain.kept["gene"], _best(values - 1e8, by, 9))


def test_reads_are_no_more_than_needed() -> None:
    moments, deviations = ("moments",), ("deviations",)
    assert _passes(VARIANCE, ZSCORE) == [(0, moments)]
    assert _passes({"fillna": {}}, VARIANCE, ZSCORE, {"minmax": {"per": []}}) == [(1, moments)]
    assert _passes(DEVIATION, ZSCORE) == [(0, moments), (0, deviations)]
    assert _passes(ZSCORE, DEVIATION, {"minmax": {"per": ["gene"]}}) == [(0, moments), (1, deviations)]
    assert _passes(DEVIATION, ZSCORE, dtype="uint8") == [(0, ("histogram",))]
    assert _passes({"select": {"dim": "gene", "names": NAMES[:3]}}, ZSCORE) == [(1, moments)]
    assert _passes(VARIANCE, {"whiten": {}}) == [(0, moments), (1, ("moments", "covariance"))]


@pytest.mark.parametrize("dtype", ["float64", "uint8"])
@pytest.mark.parametrize("entry", [VARIANCE, DEVIATION])
def test_later_steps_are_fitted_to_the_selected_features(entry: Any, dtype: str) -> None:
    values = _values(dtype)
    kept = _best(values, entry["select"].get("by", "variance"))
    scaled = {"affine": {"scale": 0.5, "shift": 1.0}}
    for rest in ([ZSCORE], [scaled, {"minmax": {"per": []}}], [{"robust": {"per": ["gene"]}}], [{"sample_zscore": {}}]):
        manifest = fit(values, dims=["cell", "gene"], normalize=[{"minmax": {"per": []}}, entry, *rest], dtype="float64")
        # minmax over everything and scaling do not change which features vary most
        alone = fit(values, dims=["cell", "gene"], normalize=[{"minmax": {"per": []}}], dtype="float64").transform(values)
        expected = fit(alone[:, kept], dims=["cell", "gene"], normalize=rest).transform(alone[:, kept])
        np.testing.assert_allclose(manifest.transform(values), expected, rtol=1e-9, atol=1e-12)


def test_chunks_and_blocks_leave_no_trace(tmp_path: Path) -> None:
    values, digests = _values("float32"), set()
    for number, chunks in enumerate([(60, 24), (7, 5), (1, 24), (13, 1)]):
        array = zarr.create_array(
            tmp_path / f"{number}.zarr",
            name="X",
            shape=values.shape,
            dtype="float32",
            chunks=chunks,
            dimension_names=("cell", "gene"),
        )
        array[...] = values
        for block_bytes in (300, 10**6):
            digests.add(fit(tmp_path / f"{number}.zarr", "X", normalize=[DEVIATION, ZSCORE], block_bytes=block_bytes).digest)
    assert len(digests) == 1


def test_a_manifest_keeps_the_names(tmp_path: Path) -> None:
    data = _labelled(_values())
    manifest = fit(data, normalize=[DEVIATION, ZSCORE])
    manifest.save(tmp_path / "manifest")
    loaded = Manifest.load(tmp_path / "manifest")
    expected = [NAMES[at] for at in _best(_values(), "mean_absolute_deviation")]
    assert loaded.digest == manifest.digest
    assert loaded.labels["gene"].tolist() == NAMES
    assert loaded.output_labels["gene"].tolist() == expected == loaded.to_json()["output_labels"]["gene"]
    assert loaded.output_sizes == {"gene": 7} == loaded.to_json()["output_sizes"]
    np.testing.assert_array_equal(loaded.transform(data).to_numpy(), manifest.transform(data).to_numpy())


def test_every_kind_of_array_gives_the_same_bits() -> None:
    data = _labelled(_values())
    manifest = fit(data, normalize=[VARIANCE, ZSCORE])
    expected = manifest.transform(data.to_numpy())
    names = manifest.output_labels["gene"].tolist()

    shuffled = data.isel(gene=np.random.default_rng(2).permutation(GENES)).T
    labelled = manifest.transform(shuffled)
    assert labelled.dims == ("gene", "cell")
    assert labelled["gene"].to_numpy().tolist() == [gene for gene in shuffled["gene"].to_numpy().tolist() if gene in names]
    assert labelled["plate"].to_numpy().tolist() == data["plate"].to_numpy().tolist()
    np.testing.assert_array_equal(labelled.sel(gene=names).to_numpy().T, expected)

    for chunks in [(11, 5), (60, 24), ((20, 40), (1, 23))]:
        lazy = manifest.transform(dask.array.from_array(data.to_numpy(), chunks=chunks))
        assert lazy.shape == (CELLS, 7)
        assert lazy.chunks[1] == (7,)
        np.testing.assert_array_equal(lazy.compute(), expected)
    chunked = manifest.transform(data.chunk({"cell": 9, "gene": 4}))
    assert chunked["gene"].to_numpy().tolist() == names
    np.testing.assert_array_equal(chunked.compute().to_numpy(), expected)
    one = manifest.transform(data.isel(cell=3))
    np.testing.assert_array_equal(one.to_numpy(), expected[3])


def test_there_is_no_inverse_and_other_features_are_refused() -> None:
    data = _labelled(_values())
    manifest = fit(data, normalize=[VARIANCE, ZSCORE])
    with pytest.raises(NotInvertibleError, match="the other features are not kept"):
        manifest.inverse_transform(manifest.transform(data))
    with pytest.raises(InputMismatchError, match="whole of this dim"):
        manifest.transform(data.isel(gene=slice(5)))
    with pytest.raises(InputMismatchError, match="another size"):
        manifest.transform(data.to_numpy()[:, :7])
    with pytest.raises(InputMismatchError, match="select"):
        manifest.scale_and_shift()


@pytest.mark.parametrize("entry", [VARIANCE, DEVIATION])
def test_every_group_keeps_the_features_of_all_samples(entry: Any, tmp_path: Path) -> None:
    data = _labelled(_values())
    manifest = fit(data, normalize=[entry, ZSCORE], by="plate")
    kept = _best(_values(), entry["select"].get("by", "variance"))
    result = manifest.transform(data)
    assert result["gene"].to_numpy().tolist() == [NAMES[at] for at in kept]
    for plate in ("P1", "P2", "P3"):
        own = data.to_numpy()[data["plate"].to_numpy() == plate][:, kept]
        expected = (own - np.nanmean(own, axis=0)) / np.nanstd(own, axis=0)
        np.testing.assert_allclose(result.to_numpy()[data["plate"].to_numpy() == plate], expected, rtol=1e-10, atol=1e-12)
    manifest.save(tmp_path / "manifest")
    np.testing.assert_array_equal(Manifest.load(tmp_path / "manifest").transform(data).to_numpy(), result.to_numpy())
    lazy = manifest.transform(data.chunk({"cell": 7}))
    np.testing.assert_array_equal(lazy.compute().to_numpy(), result.to_numpy())


def test_named_features(tmp_path: Path) -> None:
    data, wanted = _labelled(_values()), ["g11", "g02", "g05"]
    path = tmp_path / "genes.txt"
    path.write_text("g11\n\n g02 \r\ng05\n", encoding="utf-8")
    by_list = fit(data, normalize=[{"select": {"dim": "gene", "names": wanted}}, ZSCORE])
    by_file = fit(data, normalize=[{"select": {"dim": "gene", "file": str(path)}}, ZSCORE])
    path.unlink()
    assert by_list.digest == by_file.digest
    assert by_file.output_labels["gene"].tolist() == ["g02", "g05", "g11"]
    by_file.save(tmp_path / "manifest")
    loaded = Manifest.load(tmp_path / "manifest")
    own = data.to_numpy()[:, [2, 5, 11]]
    np.testing.assert_allclose(loaded.transform(data).to_numpy(), (own - np.nanmean(own, 0)) / np.nanstd(own, 0), rtol=1e-10)
    numbered = data.assign_coords(gene=np.arange(GENES) * 10)
    for names in ([110, 20], ["110", "20"]):
        manifest = fit(numbered, normalize=[{"select": {"dim": "gene", "names": names}}])
        assert manifest.output_labels["gene"].tolist() == [20, 110]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"dim": "genes", "k": 2}, "gene"),
        ({"dim": "cell", "k": 2}, "fit.where"),
        ({"dim": "gene", "k": 25}, "at most 24"),
        ({"dim": "gene", "k": 0}, "from 1 on"),
        ({"dim": "gene"}, "exactly one of"),
        ({"dim": "gene", "k": 2, "names": ["g01"]}, "exactly one of"),
        ({"dim": "gene", "names": ["g01"], "by": "variance"}, "only with k"),
        ({"dim": "gene", "names": ["g01", "g1"]}, "no feature of this name"),
        ({"dim": "gene", "names": ["x", "y", "g01"]}, "2 of 3 names"),
        ({"dim": "gene", "names": []}, "at least one name"),
        ({"dim": "gene", "file": "no/such/file.txt"}, "cannot be read"),
        ({"dim": "gene", "k": 2, "by": "range"}, "variance or mean_absolute_deviation"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fit(_labelled(_values()), normalize=[{"select": options}])
    assert told in str(caught.value)
    assert "normalize.0.select" in str(caught.value)


def test_more_refusals(tmp_path: Path) -> None:
    values = _values()
    with pytest.raises(ConfigError, match="without labels"):
        fit(values, dims=["cell", "gene"], normalize=[{"select": {"dim": "gene", "names": ["g01"]}}])
    with pytest.raises(ConfigError, match="second selection"):
        fit(_labelled(values), normalize=[VARIANCE, VARIANCE])
    values[:, 5:] = np.nan
    with pytest.raises(DataError, match="fewer features with a score"):
        fit(_labelled(values), normalize=[VARIANCE])
    weighted = _labelled(_values()).assign_coords(weight=("cell", np.ones(CELLS)))
    with pytest.raises(ConfigError, match="not weighted"):
        fit(weighted, normalize=[DEVIATION], weights="weight")
    file = tmp_path / "twice.txt"
    file.write_text("g01\ng01\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="not a list of names"):
        fit(_labelled(values), normalize=[{"select": {"dim": "gene", "file": str(file)}}])


def test_weights_count_in_variances() -> None:
    values = np.abs(_values("float32")).astype("float64")
    weights = np.random.default_rng(1).integers(0, 4, CELLS).astype("float64")
    data = _labelled(values).assign_coords(weight=("cell", weights))
    repeated = np.repeat(values, weights.astype(int), axis=0)
    manifest = fit(data, normalize=[VARIANCE, ZSCORE], weights="weight")
    np.testing.assert_array_equal(manifest.chain.kept["gene"], _best(repeated, "variance"))
    own = repeated[:, _best(repeated, "variance")]
    np.testing.assert_allclose(manifest.chain.steps[1].parameters["mean"], np.nanmean(own, 0), rtol=1e-12)


def _stored(folder: Path, zarr_format: int, named: bool = True) -> None:
    values = _values("float32")
    group = zarr.open_group(folder / "in.zarr", mode="w", zarr_format=zarr_format)  # type: ignore[arg-type]

    def add(name: str, data: NDArray[Any], dims: tuple[str, ...], chunks: tuple[int, ...]) -> None:
        names: dict[str, Any] = (
            {"dimension_names": dims} if zarr_format == 3 else {"attributes": {"_ARRAY_DIMENSIONS": list(dims)}}
        )
        array = group.create_array(
            name, shape=data.shape, dtype=data.dtype, chunks=chunks, **(names if named or name == "X" else {})
        )
        array[...] = data

    add("X", values, ("cell", "gene"), (10, 5))
    add(
        "gene",
        np.array([name.encode() for name in NAMES], "S3").astype("S3") if zarr_format == 2 else np.arange(GENES),
        ("gene",),
        (5,),
    )
    add("length", np.arange(GENES) * 100, ("gene",), (9,))
    add("batch", np.arange(CELLS), ("cell",), (10,))
    add("layers/raw", values * 2, ("cell", "gene"), (7, 4))
    add("similarity", np.add.outer(np.arange(GENES), np.arange(GENES)), ("gene", "gene"), (6, 6))
    add("embedding", values[:, :3], ("cell", "axis"), (10, 3))


def _configured(folder: Path, **output: Any) -> Config:
    return parse_config(
        {
            "source": {"store": str(folder / "in.zarr"), "array": "X"},
            "normalize": [VARIANCE, ZSCORE],
            "output": {"store": str(folder / "out.zarr"), **output},
            "cluster": {"kind": "local", "workers": 1, "processes": False},
            "block_bytes": 2_000,
        },
        Config,
    )


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("output", [{}, {"chunks": [9, 3]}, {"chunks": [60, 7]}])
def test_the_output_has_the_selected_features_in_everything(zarr_format: int, output: dict[str, Any], tmp_path: Path) -> None:
    _stored(tmp_path, zarr_format)
    config = _configured(tmp_path, **output)
    planned = plan_config(config)
    assert planned.phases[-1].bytes_written == CELLS * 7 * 4
    with counted_reads(tmp_path / "in.zarr", "X") as counts:
        result = run_config(config, SilentReporter())
    if not output:
        assert set(counts.values()) == {2}
    source, written = (zarr.open_group(tmp_path / name, mode="r") for name in ("in.zarr", "out.zarr"))
    kept = _best(_values("float32"), "variance")

    def array(group: zarr.Group, name: str) -> Any:
        return group[name][...]  # type: ignore[index]

    assert written["X"].chunks == tuple(output.get("chunks", (10, 5)))  # type: ignore[union-attr]
    np.testing.assert_array_equal(array(written, "X"), result.manifest.transform(array(source, "X")))
    for name in ("gene", "length"):
        np.testing.assert_array_equal(array(written, name), array(source, name)[kept])
    np.testing.assert_array_equal(array(written, "layers/raw"), array(source, "layers/raw")[:, kept])
    np.testing.assert_array_equal(array(written, "similarity"), array(source, "similarity")[np.ix_(kept, kept)])
    for name in ("batch", "embedding"):
        np.testing.assert_array_equal(array(written, name), array(source, name))

    again = parse_config(
        {"source": {"store": str(tmp_path / "in.zarr"), "array": "X"}, "output": {"store": str(tmp_path / "again.zarr")}},
        ApplyConfig,
    )
    apply_manifest(Manifest.load(result.manifest_path), again, SilentReporter())
    applied = zarr.open_group(tmp_path / "again.zarr", mode="r")
    np.testing.assert_array_equal(array(applied, "X"), array(written, "X"))
    np.testing.assert_array_equal(array(applied, "length"), array(source, "length")[kept])


def test_an_array_that_may_lie_along_the_dim_is_refused_before_any_read(tmp_path: Path) -> None:
    _stored(tmp_path, 3, named=False)
    with (
        counted_reads(tmp_path / "in.zarr", "X") as counts,
        pytest.raises(ConfigError, match="do not name their dims") as caught,
    ):
        run_config(_configured(tmp_path), SilentReporter())
    assert not counts
    assert "layers/raw, similarity" in str(caught.value)
    assert not (tmp_path / "out.zarr").exists()


def test_other_dims_stay_and_a_pass_after_it_sees_what_is_left() -> None:
    values = np.random.default_rng(1).integers(0, 50, (60, 3, 8)) * np.arange(1.0, 9.0)
    chain = [{"select": {"dim": "gene", "k": 3}}, "log1p", {"zscore": {"per": ["y", "gene"]}}]
    manifests = [fit(values, dims=["cell", "y", "gene"], normalize=chain, block_bytes=size) for size in (400, 10**6)]
    assert manifests[0].digest == manifests[1].digest
    logs = np.log1p(values[:, :, 5:])
    expected = (logs - logs.mean(axis=0)) / logs.std(axis=0)
    np.testing.assert_allclose(manifests[0].transform(values), expected, rtol=1e-12, atol=1e-12)
    whitened = fit(values[:, 0], dims=["cell", "gene"], normalize=[{"select": {"dim": "gene", "k": 4}}, {"whiten": {}}])
    np.testing.assert_allclose(np.cov(whitened.transform(values[:, 0]).T), np.eye(4), atol=1e-9)


def test_a_described_selection_of_named_features_has_their_statistics() -> None:
    described = fit(
        _labelled(_values("uint8")), normalize=[{"select": {"dim": "gene", "names": ["g03", "g20"]}}], describe=True
    )
    assert described.to_json()["statistics"]["nobs"] == CELLS * 2


def test_selection_follows_what_is_picked_of_the_features() -> None:
    """A part of the features gives the selected ones in it, in any order."""
    values = _values()
    chain = fit(values, dims=["cell", "gene"], normalize=[ZSCORE, VARIANCE, {"minmax": {"per": ["gene"]}}]).chain
    whole = chain(values)
    kept = chain.kept["gene"].tolist()
    for picked in (np.array([20, 3, 9, 4, 11]), np.array(kept[::-1])):
        at = [kept.index(gene) for gene in picked.tolist() if gene in kept]
        np.testing.assert_array_equal(chain.select({"gene": picked})(values[:, picked]), whole[:, at])


def test_a_feature_named_twice_in_two_spellings_is_refused() -> None:
    array = xarray.DataArray(np.ones((2, 3)), dims=["cell", "gene"], coords={"gene": [0, 1, 2]})
    with pytest.raises(ConfigError, match="named twice"):
        fit(array, normalize=[{"select": {"dim": "gene", "names": ["1", 1]}}])
