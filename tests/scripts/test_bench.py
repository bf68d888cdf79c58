"""The benchmark: its quick form runs and holds, its parts do what they say; no seconds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from benchmark.blocks import boxes
from benchmark.contender import Contender, started
from benchmark.environments import PEERS, REQUIREMENTS, contender, wanted_peers
from benchmark.measure import Series, compare_statistics
from benchmark.picture import share_of_bound
from benchmark.quick import expect, expect_at_most
from benchmark.stores import DIGITS, write_digits, write_expression, write_repeated
from benchmark.targets import TARGETS, Target, Verdict, verdicts
from benchmark.task import Answer, Task

ROOT = Path(__file__).resolve().parent.parent.parent
PATHS = os.pathsep.join((str(ROOT), str(ROOT / "scripts")))


def _bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": PATHS}
    command = [sys.executable, "-m", "benchmark", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_quick_form_holds() -> None:
    done = _bench("--quick")
    assert done.returncode == 0, done.stderr
    for name in ("expression", "photographs", "digits", "digits-sharded"):
        assert f"{name}: run reads each chunk 2 ×" in done.stderr


def test_an_expectation_can_fail() -> None:
    with pytest.raises(AssertionError, match="reads: 2, not 1"):
        expect("reads", 2, 1)
    with pytest.raises(AssertionError, match="blocks: nan, more than 2"):
        expect_at_most("blocks", float("nan"), 2)


def test_a_small_run_reports_every_contender(tmp_path: Path) -> None:
    options = [
        "--subjects",
        "c",
        "--scale",
        "0.01",
        "--rounds",
        "1",
        "--peers",
        "none",
        "--threads",
        "1",
        "--only",
        "fit,apply",
    ]
    done = _bench(*options, "--folder", str(tmp_path))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "report.json").read_text())
    measured = {(each["subject"], each["kind"], each["contender"]): each for each in found["series"]}
    for subject in ("c", "c-sharded"):
        for kind in ("fit", "apply"):
            assert {name for one, two, name in measured if (one, two) == (subject, kind)} >= {"floor", "ours"}
            assert measured[subject, kind, "ours"]["median_seconds"] > 0
            assert measured[subject, kind, "ours"]["answers"][0]["extra"]["predicted_bytes"] > 0
    assert "Blosc" in measured["c-sharded", "fit", "direct decode"]["reason"]
    assert len(found["targets"]) == len(TARGETS)
    assert [each["met"] for each in found["targets"]].count(None) == len(TARGETS) - 1


def test_unknown_names_are_refused() -> None:
    for option, value in (("--subjects", "z"), ("--peers", "nobody"), ("--only", "fly")):
        done = _bench(option, value)
        assert done.returncode == 2
        assert value in done.stderr


def test_targets_are_ratios_of_medians() -> None:
    series = [
        Series("a", "fit", name, Answer(), [Answer(seconds=each) for each in seconds])
        for name, seconds in (("ours", [1.0, 9.0, 2.0]), ("floor", [1.0, 2.0, 2.5]))
    ]
    quantities = {name: value for each in series for name, value in each.quantities().items()}
    found = {each.target.of: each for each in verdicts(quantities)}["a/fit/ours/seconds"]
    assert (found.value, found.met) == (1.0, True)


@pytest.mark.parametrize(
    ("target", "value", "met", "bound"),
    [
        (Target("", "", at_most=1.2), 1.2, True, "≤ 1.2 ×"),
        (Target("", "", at_most=1.2), 1.3, False, "≤ 1.2 ×"),
        (Target("", "", at_least=3.5), 3.4, False, "≥ 3.5 ×"),
        (Target("", "", at_most=1.1, at_least=0.9), 0.8, False, "0.9 to 1.1 ×"),
        (Target("", "", at_most=1.1, at_least=0.9), 1.0, True, "0.9 to 1.1 ×"),
        (Target("", "", at_most=1.2), None, None, "≤ 1.2 ×"),
    ],
)
def test_a_verdict_says_whether_a_bound_holds(target: Target, value: float | None, met: bool | None, bound: str) -> None:
    verdict = Verdict(target, value)
    assert (verdict.met, verdict.bound) == (met, bound)
    assert value is None or (share_of_bound(verdict) <= 1) == met


def test_a_series_without_figures_says_why() -> None:
    assert Series("a", "fit", "x", Answer(cannot="no Zarr writer")).reason == "no Zarr writer"
    assert Series("a", "fit", "x", Answer(), [Answer(error="killed")]).reason == "failed: killed"
    assert Series("a", "run", "x", Answer(), sum_seconds=2.0).quantities() == {"a/run/x/seconds": 2.0}


def test_every_peer_has_a_driver_and_pinned_requirements() -> None:
    assert wanted_peers(["all"]) == list(PEERS)
    assert wanted_peers(["none"]) == []
    assert [peer.name for peer in wanted_peers(["dask-ml"])] == ["dask-ml StandardScaler", "dask-ml MinMaxScaler"]
    for peer in PEERS:
        assert (REQUIREMENTS / f"{peer.module}.py").is_file()
        lines = (REQUIREMENTS / f"{peer.environment}.txt").read_text().splitlines()
        assert all(re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[\w.!+]+", line) for line in lines)
        assert any(line.startswith("zarr==") for line in lines)
        assert not any(re.match("nvidia|torch", line) for line in lines)


def test_a_peer_that_cannot_be_here_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (spark,) = wanted_peers(["spark"])
    assert contender(spark, tmp_path, print) == "java is not installed"


def test_a_contender_that_ends_or_takes_too_long_is_an_error(tmp_path: Path) -> None:
    task = Task("fit", "", "", (), (), 1, 1, (), (), "")
    for module, said in (
        (("timeit", "-n1", "-r1", "import time; time.sleep(60)"), "not done within"),
        (("benchmark.task",), "ended"),
    ):
        with started(Contender("somebody", sys.executable, module), 1, tmp_path) as process:
            answer = process.ask(task, 2.0)
        assert not answer.done
        assert said in answer.error


def test_messages_survive_the_pipe() -> None:
    task = Task("fit", "in.zarr", "X", ("cell", "gene"), ("gene",), 2, 10, (5, 2), (5, 2), "out.zarr")
    assert Task.from_line(task.to_line()) == task
    assert task.reduced == (0,)
    answer = Answer(1.5, None, 7, {"x": 1.0}, {"numpy": "2"}, error="no\nline")
    assert Answer.from_line(answer.to_line()) == answer
    assert "\n" not in answer.to_line()


def test_boxes_tile() -> None:
    counts = np.zeros((5, 7), int)
    for box in boxes((5, 7), (2, 3)):
        counts[box] += 1
    assert (counts == 1).all()


def test_stores_are_the_same_every_time(tmp_path: Path) -> None:
    arrays: list[Any] = []
    for name in ("one", "two"):
        write_expression(tmp_path / name, 100, (10, 1000))
        arrays.append(zarr.open_array(tmp_path / name, path="X", mode="r")[...])
    np.testing.assert_array_equal(*arrays)
    zeros = (arrays[0] == 0).mean(axis=0)
    assert zeros.min() < 0.1 < 0.9 < zeros.max()
    assert np.isfinite(arrays[0]).all() and (arrays[0] >= 0).all()


@pytest.mark.parametrize("sharded", [False, True])
def test_a_repeated_store_is_linked(sharded: bool, tmp_path: Path) -> None:
    source, repeated = tmp_path / "source.zarr", tmp_path / "repeated.zarr"
    write_digits(source, 2000, tmp_path / "none", sharded)
    write_repeated(repeated, source, DIGITS, 5000)
    values: Any = zarr.open_array(source, path=DIGITS, mode="r")[...]
    found: Any = zarr.open_array(repeated, path=DIGITS, mode="r")[...]
    np.testing.assert_array_equal(found, np.concatenate([values, values, values[:1000]]))


def test_statistics_are_compared_in_deviations(tmp_path: Path) -> None:
    np.savez(tmp_path / "ours.npz", mean=np.array([1.0, 2.0]), std=np.array([2.0, 4.0]))
    np.savez(tmp_path / "theirs.npz", mean=np.array([[1.0, 4.0]]), std=np.array([2.0, 3.0]))
    found = compare_statistics(str(tmp_path / "ours.npz"), str(tmp_path / "theirs.npz"))
    assert found == {"mean": 0.5, "std": 0.25}
