"""A fit of weighted samples: whole weights are repetition bit for bit, others have their oracle, and chunks leave no trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
import yaml
import zarr
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from zarr.storage import MemoryStore

from pipeline import Manifest, fit
from pipeline.cli import main
from pipeline.config import Config, parse_config
from pipeline.errors import ConfigError, DataError, PipelineError, SourceError
from pipeline.job import as_source, make_job
from pipeline.plan import plan_passes
from pipeline.progress import SilentReporter
from pipeline.run import fit_job, plan_config
from tests.counting import counted_reads, stored_chunks
from tests.laws.executors import ShuffledExecutor

DIMS = ("cell", "y", "gene")
SHAPE = (80, 2, 5)
COUNTS = {"nobs", "nan", "posinf", "neginf", "zeros"}

CHAINS: dict[str, list[Any]] = {
    "moments": [{"zscore": {"per": ["gene"], "ddof": 1}}],
    "everything": [{"maxabs": {"per": []}}],
    "derived": [{"zscore": {"per": ["gene"]}}, {"affine": {"scale": 2}}, {"minmax": {"per": ["y"]}}, "log1p"],
    "two passes": [{"minmax": {"per": ["gene"]}}, "log1p", {"zscore": {"per": ["y"], "ddof": 1}}],
    "quantiles": [{"robust": {"per": ["gene"]}}, {"quantile": {"per": ["gene"], "n_quantiles": 2000}}],
    "deviation": [{"robust": {"per": ["gene"], "scale": "mad"}}],
    "clipped": [{"clip_percentiles": {"per": ["gene"], "lower": 5, "upper": 95}}, {"zscore": {"per": ["gene"]}}],
    "power": [{"power": {"per": ["gene"]}}],
    "cells": [{"library_size": {"dims": ["gene"], "target": "median"}}, "log1p", {"zscore": {"per": ["gene"]}}],
    "selected": [{"select": {"dim": "gene", "k": 3, "by": "variance"}}, {"zscore": {"per": ["gene"]}}],
    "counts": [{"pearson_residuals": {"dims": ["gene"]}}],
}
READS = {"two passes": 2, "clipped": 2, "cells": 2}


def _values(dtype: str) -> NDArray[Any]:
    values = np.random.default_rng(21).gamma(2.0, 20.0, SHAPE)
    if dtype == "float64":
        values[5:20, :, 2] = np.nan
        values[50, 1, 0] = np.nan
    return np.minimum(values, 255).astype(dtype)


def _columns() -> dict[str, NDArray[Any]]:
    generator = np.random.default_rng(22)
    return {
        "times": generator.integers(0, 5, SHAPE[0]),
        "share": generator.choice([0.25, 0.7, 1.0, 3.3], SHAPE[0]),
        "ones": np.ones(SHAPE[0]),
        "kept": generator.random(SHAPE[0]) < 0.6,
        "plate": np.where(generator.random(SHAPE[0]) < 0.4, "P1", "P2"),
        "own": generator.random(SHAPE[0]),
    }


def _array(dtype: str = "float32") -> xarray.DataArray:
    coords: dict[str, Any] = {name: ("cell", values) for name, values in _columns().items()}
    return xarray.DataArray(_values(dtype), dims=DIMS, coords={**coords, "gene": list("abcde")})


def _repeated(array: xarray.DataArray) -> xarray.DataArray:
    return array.isel(cell=np.repeat(np.arange(array.sizes["cell"]), array["times"].to_numpy()))


def _store(store: Any, dtype: str = "float32", chunks: tuple[int, ...] = (9, 2, 3), order: Any = slice(None)) -> Any:
    group = zarr.open_group(store, mode="w")
    array = group.create_array("X", shape=SHAPE, dtype=dtype, chunks=chunks, dimension_names=DIMS)
    array[...] = _values(dtype)[order]
    for name, values in _columns().items():
        kind: Any = str if values.dtype.kind == "U" else values.dtype
        group.create_array(name, shape=SHAPE[:1], dtype=kind, dimension_names=("cell",))[...] = values[order]
    group.create_array("gene", shape=(5,), dtype=str, dimension_names=("gene",))[...] = np.array(list("abcde"))
    return store


def _parameters(chain: Any) -> list[dict[str, bytes]]:
    return [{name: values.tobytes() for name, values in step.parameters.items()} for step in chain.steps]


def _exact_statistics(manifest: Manifest) -> list[dict[str, Any]]:
    """What is gathered, by its bits, but for the counts, which are those of values."""
    arrays = [each.statistics.arrays() for each in manifest.statistics]
    return [
        {name: (array.shape, array.tobytes()) for name, array in each.items() if name not in COUNTS and "weights" not in name}
        for each in arrays
    ]


@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8", "int64"])
@pytest.mark.parametrize("name", CHAINS)
def test_whole_weights_are_repeated_samples(name: str, dtype: str) -> None:
    array = _array(dtype)
    ours, theirs = fit(array, normalize=CHAINS[name], weights="times"), fit(_repeated(array), normalize=CHAINS[name])
    assert _parameters(ours.chain) == _parameters(theirs.chain)
    assert _exact_statistics(ours) == _exact_statistics(theirs)
    assert ours.to_json()["statistics"]["weight"] == theirs.to_json()["statistics"]["nobs"]
    assert ours.provenance["fitted_on"]["weights"] == "times"
    assert ours.provenance["fitted_on"]["samples"] == np.count_nonzero(_columns()["times"])


@pytest.mark.parametrize("name", CHAINS)
def test_weights_of_1_change_no_parameter(name: str) -> None:
    array = _array()
    ours, plain = fit(array, normalize=CHAINS[name], weights="ones"), fit(array, normalize=CHAINS[name])
    assert _parameters(ours.chain) == _parameters(plain.chain)
    shown = ours.to_json()["statistics"]
    assert shown.pop("weight") == shown["nobs"]
    assert shown == plain.to_json()["statistics"]


def test_moments_are_numpys() -> None:
    values, weights = _values("float32").astype(np.float64), _columns()["share"]
    rows, repeated = values.reshape(-1, 5), np.repeat(weights, 2)
    step = fit(_array(), normalize=[{"zscore": {"per": ["gene"]}}], weights="share").chain.steps[0]
    mean = np.average(rows, axis=0, weights=repeated)
    np.testing.assert_allclose(step.parameters["mean"], mean, rtol=1e-13)
    np.testing.assert_allclose(
        step.parameters["std"], np.sqrt(np.cov(rows.T, aweights=repeated, ddof=0).diagonal()), rtol=1e-12
    )
    times = np.repeat(_columns()["times"], 2)
    step = fit(_array(), normalize=[{"zscore": {"per": ["gene"], "ddof": 1}}], weights="times").chain.steps[0]
    np.testing.assert_allclose(step.parameters["std"], np.sqrt(np.cov(rows.T, fweights=times).diagonal()), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_quantiles_are_numpys(dtype: str) -> None:
    rows, weights = _values(dtype).astype(np.float64).reshape(-1, 5), np.repeat(_columns()["share"], 2)
    step = fit(_array(dtype), normalize=[{"robust": {"per": ["gene"]}}], weights="share").chain.steps[0]
    low, median, high = np.quantile(rows, [0.25, 0.5, 0.75], axis=0, weights=weights, method="inverted_cdf")
    np.testing.assert_array_equal(step.parameters["median"], median)
    np.testing.assert_array_equal(step.parameters["spread"], high - low)


@pytest.mark.parametrize("name", CHAINS)
def test_a_sample_of_weight_0_is_left_out(name: str) -> None:
    array = _array("float64")
    ours = fit(array, normalize=CHAINS[name], weights="kept")
    theirs = fit(array, normalize=CHAINS[name], where={"kept": True}, weights="ones")
    assert ours.digest == theirs.digest


def test_chunks_whose_samples_weigh_nothing_are_not_read(tmp_path: Path) -> None:
    store = _store(tmp_path / "in.zarr")
    weights = np.zeros(SHAPE[0])
    weights[20:30] = 0.5
    zarr.open_group(store)["own"][...] = weights  # type: ignore[index]
    with counted_reads(store, "X") as counts:
        fit(store, "X", normalize=CHAINS["moments"], weights="own", block_bytes=9 * 2 * 3 * 4)
    assert dict(counts) == {f"X/c/{row}/0/{column}": 1 for row in (2, 3) for column in (0, 1)}


@pytest.mark.parametrize("name", CHAINS)
def test_weights_take_no_more_reads(name: str, tmp_path: Path) -> None:
    store = _store(tmp_path / "in.zarr")
    with counted_reads(store, "X") as counts:
        fit(store, "X", normalize=CHAINS[name], weights="share", block_bytes=400)
    assert set(counts) == stored_chunks(store, "X")
    assert set(counts.values()) == {READS.get(name, 1)}


@pytest.mark.parametrize("weights", ["times", "share"])
@pytest.mark.parametrize("dtype", ["float64", "uint8"])
@pytest.mark.parametrize("name", CHAINS)
def test_digest_is_equal_over_orders_chunkings_and_merge_orders(name: str, dtype: str, weights: str) -> None:
    generator = np.random.default_rng(5)
    digests = set()
    for _ in range(3):
        chunks = tuple(int(generator.integers(2, size + 1)) for size in SHAPE)
        store = _store(MemoryStore(), dtype, chunks, generator.permutation(SHAPE[0]))
        block_bytes = int(2 ** generator.uniform(8, 12))
        job = make_job(as_source(store, "X"), CHAINS[name], block_bytes=block_bytes, weights=weights)
        passes = plan_passes(job.steps, job.source)
        digests.add(fit_job(job, passes, ShuffledExecutor(generator), SilentReporter()).digest)
    assert digests == {fit(_array(dtype), normalize=CHAINS[name], weights=weights).digest}


def test_digest_moves_with_one_weight() -> None:
    array = _array()
    other = array.assign_coords(share=("cell", np.where(np.arange(SHAPE[0]) == 7, 2.0, _columns()["share"])))
    assert len({fit(each, normalize=CHAINS["moments"], weights="share").digest for each in (array, other)}) == 2


@pytest.mark.parametrize("weights", ["times", "share"])
@pytest.mark.parametrize("name", [name for name in CHAINS if name != "selected"])  # a selection is that of all groups
def test_every_group_is_fitted_as_if_alone(name: str, weights: str) -> None:
    array = _array("float64")
    manifest = fit(array, normalize=CHAINS[name], by="plate", weights=weights)
    assert manifest.groups is not None
    for label, chain in zip(("P1", "P2"), manifest.groups.chains, strict=True):
        alone = fit(array, normalize=CHAINS[name], where={"plate": label}, weights=weights)
        assert _parameters(chain) == _parameters(alone.chain)
    assert _parameters(manifest.chain) == _parameters(fit(array, normalize=CHAINS[name], weights=weights).chain)


def test_part_of_the_samples_is_weighted() -> None:
    array = _array()
    spoilt = np.where(_columns()["kept"], _columns()["share"], -1.0)
    manifest = fit(
        array.assign_coords(own=("cell", spoilt)), normalize=CHAINS["two passes"], weights="own", where={"kept": True}
    )
    part = array.isel(cell=np.flatnonzero(_columns()["kept"]))
    assert manifest.digest == fit(part, normalize=CHAINS["two passes"], weights="share").digest


def test_the_nan_policy_holds() -> None:
    array = _array("float64")
    with pytest.raises(DataError, match="non-finite"):
        fit(array, normalize=CHAINS["moments"], weights="share", nan="error")
    propagated = fit(array, normalize=CHAINS["moments"], weights="share", nan="propagate").chain.steps[0].parameters["mean"]
    assert np.isnan(propagated).tolist() == [True, False, True, False, False]


def test_dask_arrays_are_weighted() -> None:
    lazy = _array().chunk(cell=11, gene=2)
    digests = {fit(each, normalize=CHAINS["quantiles"], weights="share").digest for each in (lazy, _array())}
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (np.where(np.arange(80) < 3, -1.0, 1.0), DataError, "3 negative, of 80 samples"),
        (np.where(np.arange(80) < 2, np.nan, np.where(np.arange(80) < 3, np.inf, 1.0)), DataError, "2 NaN, 1 infinite"),
        (np.zeros(80), DataError, "no sample has a weight above 0"),
        (np.array(["heavy"] * 80), SourceError, "no numbers"),
    ],
)
def test_unusable_weights_are_refused(values: NDArray[Any], kind: type[PipelineError], message: str) -> None:
    with pytest.raises(kind, match=message):
        fit(_array().assign_coords(own=("cell", values)), normalize=CHAINS["moments"], weights="own")


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"weights": "share", "normalize": [{"whiten": {"dims": ["gene"]}}]}, ConfigError, "covariances .*are not weighted"),
        ({"weights": "shaer"}, SourceError, "no such coordinate"),
        ({"weights": "gene"}, SourceError, "does not label samples"),
        ({"weights": 3}, ConfigError, "wrong value"),
    ],
)
def test_a_wrong_request_is_refused(options: dict[str, Any], kind: type[PipelineError], message: str) -> None:
    with pytest.raises(kind, match=message):
        fit(_array(), **{"normalize": CHAINS["moments"], **options})


def test_too_many_different_weights_are_refused_with_a_remedy() -> None:
    array = xarray.DataArray(np.ones((1026, 2)), dims=("cell", "gene"), coords={"w": ("cell", np.arange(1026.0))})
    with pytest.raises(ConfigError, match="too many different weights") as caught:
        fit(array, normalize=[{"zscore": {"per": ["gene"]}}], weights="w")
    assert "1025" in str(caught.value) and "round the weights" in str(caught.value)
    fit(array[:1025], normalize=[{"zscore": {"per": ["gene"]}}], weights="w")


def _document(folder: Path, **options: Any) -> dict[str, Any]:
    _store(folder / "in.zarr")
    return {
        "source": {"store": str(folder / "in.zarr"), "array": "X"},
        "fit": {"weights": "share", **options},
        "normalize": CHAINS["two passes"],
        "output": {"store": str(folder / "out.zarr"), "dtype": "float32"},
        "block_bytes": 400,
    }


def test_memory_is_planned_for_every_weight(tmp_path: Path) -> None:
    document = _document(tmp_path)
    weighed = plan_config(parse_config(document, Config)).phases[0]
    alone = plan_config(parse_config({**document, "fit": {}}, Config)).phases[0]
    assert weighed.peak_bytes_per_worker > alone.peak_bytes_per_worker
    assert (weighed.blocks, weighed.bytes_read) == (alone.blocks, alone.bytes_read)


def _called(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result


def test_the_command_line_from_end_to_end(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(_document(tmp_path)))
    _called("plan", tmp_path / "config.yaml")
    _called("run", tmp_path / "config.yaml")
    manifest = Manifest.load(tmp_path / "out.manifest")
    assert manifest.digest == fit(_array(), normalize=CHAINS["two passes"], dtype="float32", weights="share").digest
    assert manifest.provenance["fitted_on"]["weights"] == "share"
    written = zarr.open_array(tmp_path / "out.zarr" / "X", mode="r")[...]
    np.testing.assert_array_equal(written, manifest.transform(_array()).to_numpy())
    _called("apply", tmp_path / "out.manifest", "--source", f"{tmp_path}/in.zarr:X", "--output", tmp_path / "again.zarr")
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "again.zarr" / "X", mode="r")[...], written)
    assert "weight" in _called("show", tmp_path / "out.manifest").stdout
    message = _called(
        "fit", tmp_path / "config.yaml", "--set", "fit.weights=shares", "--set", "output.overwrite=true", status=2
    )
    assert "use 'share'" in message.stderr


def test_a_description_on_the_way_is_weighted(tmp_path: Path) -> None:
    document = {**_document(tmp_path), "normalize": ["log1p"]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(document))
    _called("run", tmp_path / "config.yaml")
    described = Manifest.load(tmp_path / "out.manifest").to_json()["statistics"]
    weights = np.repeat(_columns()["share"], 10)
    assert described["weight"] == pytest.approx(weights.sum(), rel=1e-15)
    mean = np.average(np.log1p(_values("float32").astype(np.float64)).ravel(), weights=weights)
    assert described["mean"] == pytest.approx(mean, rel=1e-13)
