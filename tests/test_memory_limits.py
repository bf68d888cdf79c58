"""What would not fit into memory is refused before it is read; what is predicted to fit is measured to."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
import zarr
from click.testing import CliRunner
from distributed import LocalCluster

from pipeline import Manifest, fit
from pipeline.block import Tiling
from pipeline.cli import main
from pipeline.cluster import workers_planned
from pipeline.config import AddressClusterConfig, ApplyConfig, Config, LocalClusterConfig, parse_config
from pipeline.errors import ConfigError
from pipeline.executor import Workers
from pipeline.gather import summarize
from pipeline.job import as_source
from pipeline.normalize.memory import parameter_bytes
from pipeline.plan import PROCESS_BYTES, Pass, Phase, Plan, plan_fit, require_memory, summary_bytes
from pipeline.prepare import plan_of_apply
from pipeline.progress import SilentReporter
from pipeline.run import apply_manifest, plan_config, run_config
from pipeline.source.memory import MemorySource
from pipeline.source.zarr_source import ZarrSource
from tests.counting import counted_reads
from tests.inference.cases import CHAINS, make_case

GB = 10**9
MACHINE_BYTES = 24 * GB


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.cluster.connection.MEMORY_LIMIT", MACHINE_BYTES)


def _wide(folder: Path, features: int, step: Any) -> Path:
    """A configuration of 200 cells of so many features, of which no chunk is stored."""
    shape = (200, features)
    zarr.create_array(
        folder / "x.zarr", shape=shape, chunks=(100, features), dtype="f4", dimension_names=["cell", "gene"], fill_value=0
    )
    document = {
        "source": {"store": str(folder / "x.zarr"), "missing_chunks": "fill"},
        "normalize": [step],
        "output": {"store": str(folder / "out.zarr")},
        "cluster": {"kind": "local", "threads_per_worker": 2},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.mark.parametrize("verb", ["plan", "run", "fit"])
def test_a_covariance_of_60000_features_is_refused(verb: str, tmp_path: Path) -> None:
    path = _wide(tmp_path, 60_000, "whiten")
    with counted_reads(tmp_path / "x.zarr", "c") as counts:
        result = CliRunner().invoke(main, [verb, str(path)])
    assert result.exit_code == 2
    assert not counts
    assert not (tmp_path / "out.zarr").exists()
    lines = result.stderr.splitlines()
    assert lines[0] == "error: the run would not fit into memory: fit pass 0: moments, covariance per ['gene']"
    assert lines[1].endswith("GB per worker of 2 threads")
    assert lines[2] == "  expected: at most 24.0 GB, this machine's memory"
    assert lines[3].startswith("  remedy:   statistics of fewer features")


def test_whiten_of_few_features_is_not_refused(tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["plan", str(_wide(tmp_path, 600, "whiten"))]).exit_code == 0


def test_fit_of_an_array_is_refused_too() -> None:
    values = np.broadcast_to(np.float32(1), (200, 60_000))
    with pytest.raises(ConfigError, match="would not fit") as caught:
        fit(values, dims=["cell", "gene"], normalize=["whiten"])
    assert caught.value.exit_status == 2


def test_workers_at_an_address_say_what_they_have() -> None:
    values = np.random.default_rng(0).standard_normal((500, 2000))
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, memory_limit="420MiB", dashboard_address="127.0.0.1:0"
        ) as workers,
        workers.get_client() as client,
    ):
        with pytest.raises(ConfigError, match="would not fit") as caught:
            fit(values, dims=["cell", "gene"], normalize=["whiten"], client=client)
        assert caught.value.expected == "at most 0.4 GB, the memory limit of the smallest worker"
        manifest = fit(values[:, :3], dims=["cell", "gene"], normalize=["whiten"], client=client)
    assert manifest.chain.steps[0].step.name == "whiten"


def test_local_workers_share_the_machine() -> None:
    config = LocalClusterConfig(kind="local", workers=4, threads_per_worker=1, processes=True)
    assert workers_planned(config).memory_bytes == MACHINE_BYTES // 4
    assert workers_planned(config.model_copy(update={"processes": False})).memory_bytes == MACHINE_BYTES
    assert workers_planned(AddressClusterConfig(kind="address", address="tcp://nowhere:8786")).memory_bytes is None


def test_a_writing_pass_is_refused_by_name() -> None:
    phase = Phase("apply", (1, 2), 1, 1, 1, 1, 9 * GB)
    with pytest.raises(ConfigError) as caught:
        require_memory(Plan((), (phase,), 3), Workers(memory_bytes=8 * GB, whose="what there is"))
    assert (caught.value.where, caught.value.found) == ("apply pass", "9.0 GB per worker of 3 threads")
    require_memory(Plan((), (phase,), 3), Workers(memory_bytes=9 * GB, whose="what there is"))
    require_memory(Plan((), (phase,), 3), Workers())


def _bytes_of(summaries: Any) -> int:
    return sum(array.nbytes for summary in summaries.values() for array in summary.arrays().values())


@pytest.mark.parametrize("values_of", ["normal", "wide", "counts"])
def test_20000_features_with_a_histogram_each_are_within_the_planned_bytes(values_of: str) -> None:
    """Of 1,500 cells, summarized in three blocks and merged."""
    rng = np.random.default_rng(1)
    shape = (1500, 20_000)
    values = {
        "normal": lambda: rng.standard_normal(shape, dtype=np.float32),
        "wide": lambda: np.exp(10 * rng.standard_normal(shape, dtype=np.float32)).astype(np.float32),
        "counts": lambda: rng.poisson(3, shape).astype(np.float32),
    }[values_of]()
    each = Pass(0, ("gene",), ("moments", "float_histogram"), (0,))
    merged: Any = None
    for start in range(0, 1500, 500):
        block = values[start : start + 500]
        part = summarize(each.summaries, block, (1,))
        assert _bytes_of(part) <= summary_bytes(each, MemorySource(block, ("cell", "gene")))
        merged = part if merged is None else {name: one.merge(part[name]) for name, one in merged.items()}
    predicted = summary_bytes(each, MemorySource(values, ("cell", "gene")))
    assert _bytes_of(merged) <= predicted
    if values_of == "normal":
        assert predicted <= 2 * _bytes_of(merged)


def test_a_covariance_is_what_is_planned() -> None:
    values = np.random.default_rng(0).standard_normal((50, 300))
    each = Pass(0, ("gene",), ("covariance",), (0,))
    found = _bytes_of(summarize(each.summaries, values, (1,)))
    assert found <= summary_bytes(each, MemorySource(values, ("cell", "gene"))) + 100 <= found + 1000


def test_20000_features_of_some_thousand_cells_are_no_reason_to_refuse() -> None:
    """Buckets never take more than their values, however many summaries are held at once."""
    source = MemorySource(np.broadcast_to(np.float32(0), (4000, 20_000)), ("cell", "gene"))
    blocks = Tiling.regular(source.shape, (250, 20_000))
    each = Pass(0, ("gene",), ("moments", "float_histogram"), (0,))
    peak = plan_fit(each, source, blocks, Workers(threads=2)).peak_bytes_per_worker
    assert PROCESS_BYTES + 9 * summary_bytes(replace(each, summaries=("float_histogram",)), source) <= peak <= 16 * GB


def _grouped_counts(folder: Path, cells: int, genes: int, groups: int) -> Config:
    """A run of quantiles of uint8 counts: small summaries, large parameters."""
    group = zarr.open_group(folder / "in.zarr", mode="w")
    values = np.random.default_rng(0).integers(0, 255, (cells, genes), dtype=np.uint8)
    array = group.create_array("X", shape=values.shape, dtype="u1", chunks=(500, genes), dimension_names=["cell", "gene"])
    array[...] = values
    plate = group.create_array("plate", shape=(cells,), dtype="i4", dimension_names=["cell"])
    plate[...] = np.arange(cells) % groups
    document = {
        "source": {"store": str(folder / "in.zarr"), "array": "X"},
        "fit": {"by": "plate"},
        "normalize": [{"quantile": {"per": ["gene"]}}],
        "output": {"store": str(folder / "out.zarr")},
        "cluster": {"kind": "local", "workers": 1, "threads_per_worker": 2, "processes": False},
        "block_bytes": "1MiB",
    }
    return parse_config(document, Config)


class _Peaks(SilentReporter):
    """How many bytes were allocated at most while something was fitted, and while it was written."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, int]] = []

    def start(self, phase: str, total_bytes: int, total_blocks: int) -> None:
        self._close()
        self.phases.append((phase, 0))

    def _close(self) -> None:
        if self.phases:
            self.phases[-1] = (self.phases[-1][0], tracemalloc.get_traced_memory()[1])
        tracemalloc.reset_peak()

    def bytes_of(self) -> dict[str, int]:
        self._close()
        return dict(self.phases)


def test_parameters_of_many_features_and_groups_are_within_the_planned_bytes(tmp_path: Path) -> None:
    """Allocations of the whole run, the saving of the manifest included, and of `apply`; more than without the parameters."""
    (tmp_path / "small").mkdir()
    run_config(_grouped_counts(tmp_path / "small", 60, 4, 3), SilentReporter())  # imports, compiled kernels
    config = _grouped_counts(tmp_path, 3000, 800, 3)
    planned = {phase.name: phase for phase in plan_config(config).phases}
    stored_bytes = 4 * 800 * 1000 * 8
    assert planned["fit"].parameter_bytes == planned["apply"].parameter_bytes == stored_bytes
    peaks = _Peaks()
    tracemalloc.start()
    try:
        path = run_config(config, peaks).manifest_path
        found = peaks.bytes_of()
        manifest = Manifest.load(path)
        assert manifest.held_bytes == stored_bytes
        applying = _Peaks()
        again = {"source": config.source.model_dump(), "output": {"store": str(tmp_path / "again.zarr")}}
        apply_manifest(manifest, parse_config({**again, "block_bytes": "1MiB"}, ApplyConfig), applying)
        applied = applying.bytes_of()["apply"]
    finally:
        tracemalloc.stop()
    for name, phase in planned.items():
        predicted = phase.peak_bytes_per_worker - PROCESS_BYTES
        assert stored_bytes < found[name] <= predicted <= 5 * found[name], name
    source = as_source(tmp_path / "in.zarr", "X")
    assert isinstance(source, ZarrSource)
    phase = plan_of_apply(manifest, manifest.chain, source, parse_config(again, ApplyConfig), Workers(threads=2)).phases[0]
    assert stored_bytes < applied <= phase.peak_bytes_per_worker - PROCESS_BYTES


def test_parameters_that_do_not_fit_are_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _grouped_counts(tmp_path, 1200, 50, 30)
    plan = plan_config(config)
    reading, writing = (phase.peak_bytes_per_worker for phase in plan.phases)
    result = run_config(config, SilentReporter())
    monkeypatch.setattr("pipeline.cluster.connection.MEMORY_LIMIT", max(reading, writing) - 1)
    with counted_reads(tmp_path / "in.zarr", "X") as counts:
        for refused in (run_config, lambda config, _: plan_config(config)):
            with pytest.raises(ConfigError, match="would not fit into memory"):
                refused(
                    config.model_copy(update={"output": config.output.model_copy(update={"overwrite": True})}), SilentReporter()
                )
        manifest = Manifest.load(result.manifest_path)
        again = {
            "source": {"store": str(tmp_path / "in.zarr"), "array": "X"},
            "output": {"store": str(tmp_path / "again.zarr")},
        }
        monkeypatch.setattr("pipeline.cluster.connection.MEMORY_LIMIT", PROCESS_BYTES + manifest.held_bytes)
        with pytest.raises(ConfigError, match="would not fit into memory") as caught:
            apply_manifest(manifest, parse_config(again, ApplyConfig), SilentReporter())
    assert caught.value.where == "apply pass"
    assert caught.value.found is not None and "GB of parameters" in caught.value.found
    assert not counts
    assert not (tmp_path / "again.zarr").exists()
    np.testing.assert_array_equal(Manifest.load(result.manifest_path).digest, result.manifest.digest)


def test_whitening_holds_its_matrices_and_their_slices() -> None:
    values = np.random.default_rng(0).standard_normal((300, 40))
    for components, columns in ((None, 40), (7, 7)):
        step = {"whiten": {"method": "pca", **({} if components is None else {"components": components})}}
        chain = fit(values, dims=["cell", "gene"], normalize=[step]).chain
        assert chain.held_bytes == 8 * (40 + 5 * 40 * columns)
        predicted = parameter_bytes([chain.steps[0].step], {"cell": 300, "gene": 40})[0]
        assert predicted.total == chain.held_bytes
        assert predicted.stored == sum(array.nbytes for array in chain.steps[0].parameters.values())


@pytest.mark.parametrize("name", sorted(CHAINS))
def test_no_step_has_more_parameters_than_were_planned(name: str) -> None:
    manifest = make_case(name).manifest
    sizes = dict(zip(("cell", "y", "gene"), (23, 3, 5), strict=True))
    planned = parameter_bytes([fitted.step for fitted in manifest.chain.steps], sizes)
    for fitted, one in zip(manifest.chain.steps, planned, strict=True):
        assert sum(array.nbytes for array in fitted.parameters.values()) <= one.stored
        assert fitted.held_bytes <= one.total
