"""A fit by group: every group gets what a fit of its samples alone gives, in the reads that one fit takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray
import yaml
import zarr
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from pipeline import Manifest, fit, passes
from pipeline.cli import main
from pipeline.cluster import connect
from pipeline.config import Config, LocalClusterConfig, parse_config
from pipeline.errors import ConfigError, DataError, InputMismatchError, PipelineError, SourceError
from pipeline.executor import SerialExecutor
from pipeline.job import as_source, make_job
from pipeline.plan import plan_passes
from pipeline.progress import SilentReporter
from pipeline.run import fit_job, plan_config, run_config
from tests.counting import counted_reads, stored_chunks

DIMS = ("cell", "y", "gene")
SHAPE = (90, 2, 5)
PLATES = ("P1", "P10", "P2", "Ω")

CHAINS: dict[str, list[Any]] = {
    "per gene": [{"zscore": {"per": ["gene"]}}],
    "everything": [{"minmax": {"per": []}}],
    "derived": [{"zscore": {"per": ["gene"]}}, {"affine": {"scale": 2}}, {"minmax": {"per": ["y"]}}, "log1p"],
    "two passes": [{"minmax": {"per": ["gene"]}}, "log1p", {"zscore": {"per": ["y"], "ddof": 1}}],
    "three passes": [{"minmax": {"per": ["gene"]}}, "log1p", {"maxabs": {"per": []}}, "log1p", {"zscore": {"per": ["gene"]}}],
    "vectors": [{"zscore": {"per": ["gene"]}}, {"unit_norm": {"dims": ["gene"]}}, {"minmax": {"per": ["gene"]}}],
    "quantiles": [{"robust": {"per": ["gene"]}}, {"quantile": {"per": ["gene"], "n_quantiles": 50}}],
    "quantiles of quantiles": [{"quantile": {"per": ["gene"], "n_quantiles": 50}}, {"robust": {"per": ["y"], "scale": "mad"}}],
}
READS = {"two passes": 2, "three passes": 3, "vectors": 2, "quantiles of quantiles": 2}


def _plates(count: int = SHAPE[0]) -> NDArray[Any]:
    """Some in runs, some mixed, one plate with a single sample."""
    plates = np.random.default_rng(8).choice(PLATES[:3], count)
    plates[: count // 3] = "P2"
    plates[-4] = "Ω"
    return plates


def _data(dtype: str) -> NDArray[Any]:
    values = np.random.default_rng(9).gamma(2.0, 20.0, SHAPE)
    values *= 1 + np.unique(_plates(), return_inverse=True)[1].reshape(-1, 1, 1)
    if dtype == "float64":
        values[5:40, :, 2] = np.nan
        values[50, 1, 0] = np.inf
    return np.minimum(values, 255).astype(dtype)


def _array(dtype: str) -> xarray.DataArray:
    coordinates = {"plate": ("cell", _plates()), "gene": list("abcde"), "split": ("cell", np.arange(SHAPE[0]) % 3)}
    return xarray.DataArray(_data(dtype), dims=DIMS, coords=coordinates)


def _store(path: Path, dtype: str) -> Path:
    group = zarr.open_group(path, mode="w")
    array = group.create_array("X", shape=SHAPE, dtype=dtype, chunks=(7, 2, 3), dimension_names=DIMS)
    array[...] = _data(dtype)
    for name, dim, values in (("plate", "cell", _plates()), ("gene", "gene", np.array(list("abcde")))):
        labels = group.create_array(name, shape=values.shape, dtype=str, dimension_names=(dim,))
        labels[...] = values
    split = group.create_array("split", shape=SHAPE[:1], dtype="int8", dimension_names=("cell",))
    split[...] = np.arange(SHAPE[0]) % 3
    return path


def _parameters(chain: Any) -> list[dict[str, bytes]]:
    return [{name: values.tobytes() for name, values in step.parameters.items()} for step in chain.steps]


@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8"])
@pytest.mark.parametrize("name", CHAINS)
def test_every_group_is_fitted_as_if_alone_and_all_as_without_groups(name: str, dtype: str) -> None:
    values = _array(dtype)
    manifest = fit(values, normalize=CHAINS[name], by="plate")
    assert manifest.groups is not None and manifest.groups.labels.tolist() == sorted(PLATES)
    for label, chain in zip(sorted(PLATES), manifest.groups.chains, strict=True):
        alone = fit(values, normalize=CHAINS[name], where={"plate": label})
        assert _parameters(chain) == _parameters(alone.chain)
    whole = fit(values, normalize=CHAINS[name])
    assert _parameters(manifest.chain) == _parameters(whole.chain)
    assert manifest.to_json()["statistics"] == whole.to_json()["statistics"]
    assert manifest.digest != whole.digest


@pytest.mark.parametrize("name", CHAINS)
def test_a_store_is_read_as_often_as_without_groups(name: str, tmp_path: Path) -> None:
    store = _store(tmp_path / "in.zarr", "float32")
    with counted_reads(store, "X") as counts:
        manifest = fit(store, "X", normalize=CHAINS[name], by="plate", block_bytes=400)
    assert set(counts) == stored_chunks(store, "X")
    assert set(counts.values()) == {READS.get(name, 1)}
    assert manifest.digest == fit(_array("float32"), normalize=CHAINS[name], by="plate").digest


def test_a_small_dtype_needs_one_read(tmp_path: Path) -> None:
    store = _store(tmp_path / "in.zarr", "uint8")
    with counted_reads(store, "X") as counts:
        fit(store, "X", normalize=[{"minmax": {"per": ["gene"]}}, "log1p", {"zscore": {"per": ["gene"]}}], by="plate")
    assert set(counts.values()) == {1}


def test_workers_in_processes_give_the_same_digest(tmp_path: Path) -> None:
    store = _store(tmp_path / "in.zarr", "float32")
    with connect(LocalClusterConfig(workers=2, threads_per_worker=1, processes=True)) as executor:
        remote = fit(store, "X", normalize=CHAINS["two passes"], by="plate", block_bytes=400, client=executor.client)
    assert remote.digest == fit(_array("float32"), normalize=CHAINS["two passes"], by="plate").digest


def test_dask_arrays_are_fitted_by_group() -> None:
    lazy = _array("float32").chunk(cell=11, gene=2)
    assert (
        fit(lazy, normalize=CHAINS["two passes"], by="plate").digest
        == fit(_array("float32"), normalize=CHAINS["two passes"], by="plate").digest
    )


def test_whitening_of_groups_has_their_bits_and_that_of_all_rounds_differently() -> None:
    """The covariance of all samples is merged from the groups', in another order than without groups."""
    values, chain = _array("float32"), [{"whiten": {"dims": ["gene", "y"]}}]
    scope: dict[str, Any] = {"where": {"plate": ["P1", "P2"]}}
    manifest, whole = fit(values, normalize=chain, by="plate", **scope), fit(values, normalize=chain, **scope)
    assert manifest.groups is not None and len(manifest.groups.chains) == 2
    for label, own in zip(("P1", "P2"), manifest.groups.chains, strict=True):
        assert _parameters(own) == _parameters(fit(values, normalize=chain, where={"plate": label}).chain)
    for name, parameter in whole.chain.steps[0].parameters.items():
        np.testing.assert_allclose(manifest.chain.steps[0].parameters[name], parameter, rtol=1e-8, atol=1e-10)


def test_zscore_is_that_of_pandas() -> None:
    generator = np.random.default_rng(4)
    values = generator.normal(50.0, 7.0, (300, 6))
    donors = generator.integers(0, 12, 300)
    array = xarray.DataArray(values, dims=("cell", "gene"), coords={"donor": ("cell", donors)})
    table = pd.DataFrame(values).groupby(donors)
    expected = (table.transform(lambda column: (column - column.mean()) / column.std(ddof=1))).to_numpy()
    ours = fit(array, normalize=[{"zscore": {"per": ["gene"], "ddof": 1}}], by="donor").transform(array)
    np.testing.assert_allclose(ours.to_numpy(), expected, rtol=0, atol=1e-12)


def test_a_group_of_one_sample_is_constant() -> None:
    values = _array("float32")
    manifest = fit(values, normalize=[{"zscore": {"per": ["gene", "y"], "ddof": 1, "beta": 0.5}}], by="plate")
    assert (manifest.transform(values.sel(cell=values.plate == "Ω")).to_numpy() == 0.5).all()


def test_a_feature_without_a_finite_value_in_a_group_is_the_constant_0_there() -> None:
    values = _array("float64")
    values[{"cell": np.flatnonzero(values.plate == "P10"), "gene": 3}] = np.nan
    manifest = fit(values, normalize=[{"zscore": {"per": ["gene"]}}], by="plate")
    assert manifest.groups is not None
    (step,) = manifest.groups.chains[1].steps
    assert (step.parameters["mean"][3], step.parameters["std"][3]) == (0.0, 1.0)
    assert step.parameters["mean"][0] != 0


def test_a_group_without_any_finite_value_is_named() -> None:
    values = _array("float64")
    values[{"cell": np.flatnonzero(values.plate == "P10")}] = np.nan
    with pytest.raises(DataError, match="no finite value") as caught:
        fit(values, normalize=[{"zscore": {"per": ["gene"]}}], by="plate")
    assert "plate 'P10'" in str(caught.value) and "fit.where" in str(caught.value)


@pytest.mark.parametrize("policy", ["propagate", "error"])
def test_the_nan_policy_holds_in_every_group(policy: str) -> None:
    values = _array("float64")
    if policy == "error":
        with pytest.raises(DataError, match="non-finite"):
            fit(values, normalize=CHAINS["per gene"], by="plate", nan=policy)
        return
    manifest = fit(values, normalize=CHAINS["per gene"], by="plate", nan=policy)
    assert manifest.groups is not None
    for label, chain in zip(manifest.groups.labels, manifest.groups.chains, strict=True):
        own = values.sel(cell=values.plate == label)
        expected = ~np.isfinite(own).all(("cell", "y")).to_numpy()
        np.testing.assert_array_equal(np.isnan(chain.steps[0].parameters["mean"]), expected)


def test_part_of_the_samples_has_its_own_groups(tmp_path: Path) -> None:
    values = _array("float32")
    manifest = fit(values, normalize=CHAINS["two passes"], where={"split": [0, 1]}, by="plate", unseen="global")
    part = values.sel(cell=values.split < 2)
    assert manifest.digest == fit(part, normalize=CHAINS["two passes"], by="plate", unseen="global").digest
    assert manifest.provenance["fitted_on"]["samples"] == 60
    options: dict[str, Any] = {"where": {"split": [0, 1]}, "by": "plate", "unseen": "global", "block_bytes": 400}
    stored = fit(_store(tmp_path / "in.zarr", "float32"), "X", normalize=CHAINS["two passes"], **options)
    assert stored.digest == manifest.digest


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"by": "plaet"}, SourceError, "no such coordinate"),
        ({"by": "gene"}, SourceError, "does not label samples"),
        ({"by": "day"}, SourceError, "do not group"),
        ({"by": "dose"}, SourceError, "without a label"),
        ({"by": "plate", "normalize": ["log1p"]}, ConfigError, "nothing is fitted"),
        ({"by": "plate", "unseen": "skip"}, ConfigError, "wrong value"),
        ({"unseen": "nan"}, ConfigError, "without groups"),
        ({"by": "plate", "unseen": "nan", "dtype": "int16"}, ConfigError, "integers have no NaN"),
    ],
)
def test_a_wrong_request_is_refused(options: dict[str, Any], kind: type[PipelineError], message: str) -> None:
    days = np.datetime64("2024-01-01") + np.arange(SHAPE[0])
    values = _array("float32").assign_coords(day=("cell", days.astype("M8[ns]")), dose=("cell", np.full(SHAPE[0], np.nan)))
    with pytest.raises(kind, match=message):
        fit(values, **{"normalize": CHAINS["per gene"], **options})


def test_a_sample_that_is_not_fitted_on_needs_no_label() -> None:
    doses = np.where(np.arange(SHAPE[0]) % 3 == 2, np.nan, np.arange(SHAPE[0]) % 2)
    values = _array("float32").assign_coords(dose=("cell", doses))
    manifest = fit(values, normalize=CHAINS["per gene"], by="dose", where={"split": [0, 1]})
    assert manifest.groups is not None and manifest.groups.labels.tolist() == [0.0, 1.0]


def _document(folder: Path, dtype: str = "float32", **options: Any) -> dict[str, Any]:
    _store(folder / "in.zarr", dtype)
    return {
        "source": {"store": str(folder / "in.zarr"), "array": "X"},
        "fit": {"by": "plate", **options},
        "normalize": CHAINS["two passes"],
        "output": {"store": str(folder / "out.zarr"), "dtype": "float32", "chunks": [8, 2, 2]},
        "block_bytes": 400,
    }


def _bits(values: Any) -> tuple[str, bytes]:
    return values.dtype.name, np.ascontiguousarray(values).tobytes()


def test_a_run_writes_what_the_manifest_makes_of_each_sample(tmp_path: Path) -> None:
    config = parse_config(_document(tmp_path), Config)
    passes = plan_config(config).passes
    with counted_reads(tmp_path / "in.zarr", "X") as counts:
        result = run_config(config, SilentReporter())
    assert min(counts.values()) == len(passes) + 1 == 3
    stored = zarr.open_array(tmp_path / "out.zarr" / "X", mode="r")[...]
    manifest = Manifest.load(result.manifest_path)
    assert _bits(manifest.transform(_array("float32")).to_numpy()) == _bits(stored)
    for place in (0, 40, 86):
        assert _bits(manifest.transform(_data("float32")[place], by=_plates()[place])) == _bits(stored[place])


@pytest.mark.parametrize("unseen", ["global", "nan", "error"])
def test_a_run_on_plates_that_were_not_fitted_follows_the_policy(unseen: str, tmp_path: Path) -> None:
    config = parse_config(_document(tmp_path, unseen=unseen, where={"plate": ["P1", "P2"]}), Config)
    if unseen == "error":
        for go in (lambda: run_config(config, SilentReporter()), lambda: plan_config(config)):
            with (
                pytest.raises(InputMismatchError, match="label that was not fitted"),
                counted_reads(tmp_path / "in.zarr", "X") as counts,
            ):
                go()
            assert not counts
        assert not (tmp_path / "out.zarr").exists()
        return
    manifest = run_config(config, SilentReporter()).manifest
    stored = zarr.open_array(tmp_path / "out.zarr" / "X", mode="r")[...]
    other = np.isin(_plates(), ["P10", "Ω"])
    expected = manifest.chain(_data("float32")) if unseen == "global" else np.full(SHAPE, np.nan, np.float32)
    assert _bits(stored[other]) == _bits(expected[other])
    assert _bits(stored[~other]) == _bits(manifest.transform(_data("float32")[~other], by=_plates()[~other]))
    assert np.isfinite(stored[~other]).all()


def _called(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result


def test_the_command_line_from_end_to_end(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(_document(tmp_path)))
    _called("run", tmp_path / "config.yaml")
    _called("fit", tmp_path / "config.yaml", "--set", f"output.manifest={tmp_path}/other.manifest")
    arguments = ("--source", f"{tmp_path}/in.zarr:X", "--output", tmp_path / "again.zarr")
    _called("apply", tmp_path / "other.manifest", *arguments, "--set", "block_bytes=300")
    written = [zarr.open_array(tmp_path / store / "X", mode="r")[...] for store in ("out.zarr", "again.zarr")]
    assert _bits(written[0]) == _bits(written[1])
    shown = " ".join(_called("show", tmp_path / "out.manifest").stdout.split())
    assert "plate: 4 groups, unseen labels: error" in shown
    assert '"labels": ["P1", "P10", "P2", "\\u03a9"]' in _called("show", tmp_path / "out.manifest", "--json").stdout
    message = _called("fit", tmp_path / "config.yaml", "--set", "fit.by=plates", "--set", "output.overwrite=true", status=2)
    assert "use 'plate'" in message.stderr


def test_applying_to_a_store_without_labels_says_what_to_do(tmp_path: Path) -> None:
    manifest = fit(_array("float32"), normalize=CHAINS["per gene"], by="plate")
    manifest.save(tmp_path / "manifest")
    group = zarr.open_group(tmp_path / "bare.zarr", mode="w")
    group.create_array("X", shape=SHAPE, dtype="f4", chunks=(90, 2, 5), dimension_names=DIMS)[...] = _data("float32")
    arguments = ("apply", tmp_path / "manifest", "--source", f"{tmp_path}/bare.zarr:X", "--output", tmp_path / "out.zarr")
    message = _called(*arguments, status=2).stderr
    assert "each plate is normalized by itself" in message and "store 'plate' beside the array" in message
    group.create_array("plate", shape=(2,), dtype=str, dimension_names=("y",))[...] = np.array(["P1", "P2"])
    assert "does not label samples" in _called(*arguments, status=2).stderr


def test_features_in_another_order_are_matched_for_every_group(tmp_path: Path) -> None:
    manifest = fit(_array("float32"), normalize=CHAINS["two passes"], by="plate")
    manifest.save(tmp_path / "manifest")
    order = [3, 0, 4]
    group = zarr.open_group(tmp_path / "part.zarr", mode="w")
    part = _data("float32")[20:60][:, :, order]
    group.create_array("X", shape=part.shape, dtype="f4", chunks=(9, 1, 2), dimension_names=DIMS)[...] = part
    for name, dim, values in (("plate", "cell", _plates()[20:60]), ("gene", "gene", np.array(list("abcde"))[order])):
        group.create_array(name, shape=values.shape, dtype=str, dimension_names=(dim,))[...] = values
    _called("apply", tmp_path / "manifest", "--source", f"{tmp_path}/part.zarr:X", "--output", tmp_path / "out.zarr")
    stored = zarr.open_array(tmp_path / "out.zarr" / "X", mode="r")[...]
    assert _bits(stored) == _bits(manifest.transform(_array("float32")).to_numpy()[20:60][:, :, order])


def test_memory_is_planned_for_every_group(tmp_path: Path) -> None:
    document = _document(tmp_path)
    grouped = plan_config(parse_config(document, Config)).phases[0]
    alone = plan_config(parse_config({**document, "fit": {}}, Config)).phases[0]
    assert grouped.peak_bytes_per_worker > alone.peak_bytes_per_worker
    assert (grouped.blocks, grouped.bytes_read) == (alone.blocks, alone.bytes_read)


def test_memory_is_planned_for_all_samples_beside_groups_with_steps_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many sets of summaries as are gathered."""
    job = make_job(as_source(_array("float32")), CHAINS["two passes"], by="plate")
    planned: list[int] = []
    gathered: list[int] = []
    plan_fit, gather_task = passes.plan_fit, passes.gather_task

    def noting_plan(*given: Any) -> Any:
        planned.append(given[4])
        return plan_fit(*given)

    def noting_task(*given: Any) -> Any:
        task = gather_task(*given)
        gathered.append(job.group_count + (task.overall is not None))
        return task

    monkeypatch.setattr(passes, "plan_fit", noting_plan)
    monkeypatch.setattr(passes, "gather_task", noting_task)
    fit_job(job, plan_passes(job.steps, job.source), SerialExecutor(), SilentReporter())
    assert planned == gathered == [job.group_count, job.group_count + 1]


def test_the_order_of_samples_leaves_no_trace() -> None:
    job = make_job(as_source(_array("float32").isel(cell=slice(None, None, -1))), CHAINS["two passes"], by="plate")
    manifest = fit_job(job, plan_passes(job.steps, job.source), SerialExecutor(), SilentReporter())
    assert manifest.digest == fit(_array("float32"), normalize=CHAINS["two passes"], by="plate").digest
