"""An input that is held in memory is read once; the output and the digest are those of a run that reads again."""

from __future__ import annotations

import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from distributed import Worker

from pipeline.cluster import DaskExecutor, connect
from pipeline.config import Config, LocalClusterConfig, parse_config
from pipeline.errors import ChunkError
from pipeline.progress import SilentReporter
from pipeline.run import plan_config, run_config
from pipeline.source.open import open_source
from tests.counting import counted_reads, stored_chunks
from tests.source.stores import stored_files

CHAINS: dict[str, list[Any]] = {
    "one fit pass": [{"zscore": {"per": ["gene"]}}],
    "two fit passes": [{"library_size": {"target": "median"}}, "log1p", {"zscore": {"per": ["gene"]}}],
    "whole vectors": [{"minmax": {"per": []}}, {"unit_norm": {"dims": ["gene"]}}],
}


def _config(folder: Path, chain: list[Any], name: str, hold: bool, **options: Any) -> Config:
    output = {"store": str(folder / f"{name}.zarr"), "manifest": str(folder / f"{name}.manifest"), "chunks": [6, 8]}
    document = {
        "source": {"store": str(folder / "in.zarr"), "array": "X", "dims": ["cell", "gene"]},
        "normalize": chain,
        "output": output,
        "block_bytes": 2000,
        "hold_input": hold,
        **options,
    }
    return parse_config(document, Config)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    group = zarr.open_group(tmp_path / "in.zarr", mode="w")
    array = group.create_array("X", shape=(60, 30), chunks=(7, 11), dtype="float32", dimension_names=["cell", "gene"])
    array[...] = np.random.default_rng(3).integers(1, 50, (60, 30))
    return tmp_path


@pytest.mark.parametrize(
    "workers", [{}, {"workers": 2, "processes": True, "threads_per_worker": 1}], ids=["threads", "processes"]
)
@pytest.mark.parametrize("chain", CHAINS.values(), ids=list(CHAINS))
def test_each_chunk_is_read_once_and_nothing_else_differs(chain: list[Any], workers: dict[str, Any], folder: Path) -> None:
    cluster_options = {"cluster": {"kind": "local", **workers}}
    again = run_config(_config(folder, chain, "again", False, **cluster_options), SilentReporter())
    config = _config(folder, chain, "held", True, **cluster_options)
    planned = plan_config(config).to_json()
    assert planned["reads"] == 1
    assert [phase["name"] for phase in planned["phases"]] == ["read", *["fit"] * planned["fit_passes"], "apply"]
    with counted_reads(folder / "in.zarr", "X") as counts:
        held = run_config(config, SilentReporter())
    if not workers:
        assert set(counts) == stored_chunks(folder / "in.zarr", "X")
        assert set(counts.values()) == {1}
    assert held.manifest.digest == again.manifest.digest
    assert stored_files(folder / "held.zarr") == stored_files(folder / "again.zarr")


def test_a_description_on_the_way_needs_nothing_held(folder: Path) -> None:
    planned = plan_config(_config(folder, ["log1p"], "out", True)).to_json()
    assert (planned["reads"], [phase["name"] for phase in planned["phases"]]) == (1, ["apply"])


def test_what_does_not_fit_is_read_again_and_plan_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = _config(folder, CHAINS["one fit pass"], "out", True)
    held = plan_config(config)
    monkeypatch.setattr("pipeline.cluster.connection.MEMORY_LIMIT", int(held.peak_bytes_per_worker / 0.6) - 10)
    planned = plan_config(config)
    assert (held.is_held, planned.is_held) == (True, False)
    assert planned.to_json()["reads"] == 2
    with counted_reads(folder / "in.zarr", "X") as counts:
        run_config(config, SilentReporter())
    assert min(counts.values()) == 2


def test_a_chunk_that_cannot_be_read_fails_the_run_and_leaves_nothing(folder: Path) -> None:
    (folder / "in.zarr/X/c/1/1").write_bytes(b"garbage")
    with pytest.raises(ChunkError, match="X/c/1/1"):
        run_config(_config(folder, CHAINS["one fit pass"], "out", True), SilentReporter())
    assert not (folder / "out.zarr").exists()


def _blocks_held(dask_worker: Worker) -> int:
    return sum(str(key).startswith("read-") for key in dask_worker.data)


def test_what_workers_held_is_let_go_of(folder: Path) -> None:
    source = open_source(folder / "in.zarr", "X", dims=("cell", "gene"))
    with connect(LocalClusterConfig(processes=True)) as executor:
        assert isinstance(executor, DaskExecutor)
        held = executor.hold(source, (14, 30), lambda _: None)
        assert list(executor.client.run(_blocks_held).values()) == [len(held.held)] == [5]
        del held
        until = time.monotonic() + 30
        while any(executor.client.run(_blocks_held).values()) and time.monotonic() < until:
            time.sleep(0.05)
        assert list(executor.client.run(_blocks_held).values()) == [0]


def test_what_threads_held_is_let_go_of(folder: Path) -> None:
    source = open_source(folder / "in.zarr", "X", dims=("cell", "gene"))
    with connect(LocalClusterConfig(threads_per_worker=3)) as executor:
        held = executor.hold(source, (14, 30), lambda _: None)
    boxes = [weakref.ref(values) for values in held.held.values()]
    assert len(boxes) == 5
    del held
    assert [box() for box in boxes] == [None] * 5
