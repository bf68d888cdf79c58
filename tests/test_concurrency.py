"""Runs on one output: two at once, one after another that failed or was killed, and one that replaces what is there."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from distributed import LocalCluster
from numpy.typing import NDArray

from pipeline.apply import Write
from pipeline.block import Block
from pipeline.config import Config, parse_config
from pipeline.errors import ChunkError, DataError, OutputExistsError, WriteError
from pipeline.progress import SilentReporter
from pipeline.room import Room
from pipeline.run import run_config
from pipeline.source.open import open_source

REPOSITORY = Path(__file__).parents[1]
VALUES = np.random.default_rng(0).normal(size=(40, 6))
EVERYTHING = Block((0, 0), (40, 6))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "in.zarr", VALUES)


def write_source(path: Path, values: NDArray[Any]) -> Path:
    array = zarr.create_array(path, name="X", shape=values.shape, chunks=(10, 6), dtype="f8", dimension_names=("cell", "gene"))
    array[...] = values
    return path


def config(source: Path, name: str, bounds: list[float], /, **more: Any) -> Config:
    folder = source.parent
    output = {"store": str(folder / "out.zarr"), "manifest": str(folder / f"{name}.manifest"), **more.pop("output", {})}
    document = {
        "source": {"store": str(source), "array": "X"},
        "normalize": [{"minmax": {"range": bounds}}],
        "output": output,
        "block_bytes": 480,
        "cluster": {"threads_per_worker": 1},
    }
    return parse_config({**document, **more}, Config)


def outcome(config: Config) -> str:
    try:
        run_config(config, SilentReporter())
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "done"


def bounds(folder: Path) -> tuple[float, float]:
    values = open_source(folder / "out.zarr", "X").read(EVERYTHING)
    return float(values.min()), float(values.max())


class Pause:
    """Holds the run whose values end at 1 before it writes its third block, until `over` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.over, self.blocks = threading.Event(), threading.Event(), 0
        call = Write.__call__

        def paused(task: Write, block: Block, values: NDArray[Any], room: Room) -> Any:
            if task.chain.steps[0].step.range[1] == 1:
                self.blocks += 1
                if self.blocks == 3:
                    self.reached.set()
                    assert self.over.wait(60)
            return call(task, block, values, room)

        monkeypatch.setattr(Write, "__call__", paused)

    @contextmanager
    def run(self, config: Config, outcomes: list[str]) -> Any:
        thread = threading.Thread(target=lambda: outcomes.append(outcome(config)))
        thread.start()
        assert self.reached.wait(60)
        yield
        self.over.set()
        thread.join()


def test_of_two_runs_at_once_the_second_is_refused(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes: list[str] = []
    with (
        Pause(monkeypatch).run(config(source, "first", [0, 1]), outcomes),
        pytest.raises(OutputExistsError, match="another run"),
    ):
        run_config(config(source, "second", [100, 200]), SilentReporter())
    assert outcomes == ["done"]
    assert bounds(source.parent) == (0, 1)
    assert not (source.parent / "second.manifest").exists()


@pytest.mark.parametrize("old", [False, True])
def test_with_overwrite_the_second_takes_over_and_the_first_never_publishes(
    source: Path, monkeypatch: pytest.MonkeyPatch, old: bool
) -> None:
    if old:
        run_config(config(source, "old", [-5, -4]), SilentReporter())
    outcomes: list[str] = []
    with Pause(monkeypatch).run(config(source, "first", [0, 1], output={"overwrite": old}), outcomes):
        run_config(config(source, "second", [100, 200], output={"overwrite": True}), SilentReporter())
        assert bounds(source.parent) == (100, 200)
    assert len(outcomes) == 1
    assert outcomes[0].startswith("WriteError")
    assert bounds(source.parent) == (100, 200)
    assert not (source.parent / "first.manifest").exists()
    assert not list(source.parent.glob(".out*"))


def test_two_processes_at_once(source: Path, tmp_path: Path) -> None:
    """One of them writes; the other says so, or comes when all is done. The data is never mixed."""
    command = "import sys; from tests.test_concurrency import config, outcome; from pathlib import Path; "
    command += "print(outcome(config(Path(sys.argv[1]), sys.argv[2], [float(each) for each in sys.argv[3:]])))"
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", command, str(source), *given], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
        )
        for given in (("first", "0", "1"), ("second", "100", "200"))
    ]
    outcomes = [run.communicate()[0].strip() for run in runs]
    done = outcomes.index("done")
    assert outcomes[1 - done].startswith("OutputExistsError"), outcomes
    assert bounds(tmp_path) == ((0, 1), (100, 200))[done]


def test_a_failed_run_can_be_repeated_in_the_same_process(source: Path) -> None:
    chunk = source / "X" / "c" / "3" / "0"
    content = chunk.read_bytes()
    affine = [{"affine": {"scale": 1.0}}]
    chunk.write_bytes(b"junk")
    with pytest.raises(ChunkError):
        run_config(config(source, "first", [0, 1], normalize=affine, fit={"describe": False}), SilentReporter())
    chunk.write_bytes(content)
    run_config(config(source, "first", [0, 1]), SilentReporter())
    assert bounds(source.parent) == (0, 1)


def test_a_killed_run_can_be_repeated(source: Path) -> None:
    command = (
        "import os, sys; from pathlib import Path; from pipeline.apply import Write; "
        "from tests.test_concurrency import config, outcome; call = Write.__call__; blocks = []; "
        "Write.__call__ = lambda *given: (blocks.append(1), call(*given), len(blocks) == 2 and os._exit(9))[1]; "
        "outcome(config(Path(sys.argv[1]), 'first', [0, 1]))"
    )
    killed = subprocess.run([sys.executable, "-c", command, str(source)], cwd=REPOSITORY, check=False)
    assert killed.returncode == 9
    assert (source.parent / "out.zarr" / ".zarrnorm" / "run").exists()
    run_config(config(source, "first", [100, 200]), SilentReporter())
    assert bounds(source.parent) == (100, 200)


@pytest.mark.parametrize("fails", ["fit", "write", "commit"])
def test_the_old_output_outlives_a_run_that_fails(source: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    run_config(config(source, "old", [-5, -4]), SilentReporter())
    failing: AbstractContextManager[Any] = pytest.raises(DataError)
    more: dict[str, Any] = {}
    if fails == "fit":
        values = VALUES.copy()
        values[35, 2] = np.nan
        more = {
            "source": {"store": str(write_source(source.parent / "nan.zarr", values)), "array": "X"},
            "fit": {"nan": "error"},
        }
    if fails == "write":
        monkeypatch.setattr(Write, "__call__", raising(DataError("no")))
    if fails == "commit":
        monkeypatch.setattr("pipeline.sink.zarr_sink.commit", raising(OSError(28, "No space left on device")))
        failing = pytest.raises(WriteError, match="No space left")
    with failing:
        run_config(config(source, "new", [0, 1], output={"overwrite": True}, **more), SilentReporter())
    assert bounds(source.parent) == (-5, -4)
    assert not list(source.parent.glob(".out*"))
    assert not (source.parent / "new.manifest").exists()


def raising(error: Exception) -> Callable[..., Any]:
    def fails(*_: Any) -> None:
        raise error

    return fails


def test_a_failed_run_leaves_no_task_behind_that_writes(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 4, size=(8, 60_000)).astype("f4")
    good, bad = tmp_path / "good.zarr", tmp_path / "bad.zarr"
    for path in (good, bad):
        array = zarr.create_array(
            path, name="X", shape=values.shape, chunks=(1, 60_000), dtype="f4", dimension_names=("cell", "gene")
        )
        array[...] = values
    (bad / "X" / "c" / "7" / "0").write_bytes(b"junk")
    with LocalCluster(
        n_workers=2,
        threads_per_worker=4,
        processes=True,
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address="127.0.0.1:0",
    ) as cluster:

        def run(source: Path, scale: float, codec: dict[str, Any]) -> None:
            more = {
                "cluster": {"kind": "address", "address": cluster.scheduler_address},
                "normalize": [{"affine": {"scale": scale}}],
                "fit": {"describe": False},
                "block_bytes": 240_000,
            }
            run_config(config(source, f"{scale}", [0, 1], output={"compressors": [codec]}, **more), SilentReporter())

        with pytest.raises(ChunkError):
            run(bad, 1.0, {"name": "gzip", "configuration": {"level": 9}})
        files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out.zarr").rglob("*")}
        time.sleep(1.0)
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out.zarr").rglob("*")} == files
        run(good, 100.0, {"name": "blosc", "configuration": {"cname": "lz4"}})
        written = open_source(tmp_path / "out.zarr", "X").read(Block((0, 0), values.shape))
    np.testing.assert_array_equal(written, values * 100)
