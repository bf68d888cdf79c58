"""Rounds: every contender in turn does a task, again and again, until each has done it often enough.

Not here: what is made of the answers (`targets.py`, `report.py`).
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from benchmark.contender import Contender, Process, started
from benchmark.subjects import Subject
from benchmark.task import Answer, Task

OURS = "ours"
FLOOR = "floor"
ROWS_COMPARED = 10


@dataclass(frozen=True)
class Options:
    """How often, on how much, and for how long at most.

    Parameters
    ----------
    threads, rounds : int
    peer_seconds : float
        A peer that has worked so long on one task sits out the rounds that are left.
    limit_seconds : float
        A contender that does not answer within this time is ended.
    folder : path
        Where outputs and logs go.
    """

    threads: int
    rounds: int
    peer_seconds: float
    limit_seconds: float
    folder: Path


@dataclass
class Series:
    """What one contender did with one kind of task of a subject.

    Parameters
    ----------
    warm_up : Answer
        To the same task on a small store, before anything was measured.
    answers : list of Answer
        One a round.
    output_bytes : int, optional
        Stored, by the last of them.
    differences : mapping of str to float
        From what this program found, see `compare_statistics` and `compare_outputs`.
    sum_seconds : float, optional
        The medians of the tasks that this one consists of, where they are all that is known of it.
    """

    subject: str
    kind: str
    contender: str
    warm_up: Answer
    answers: list[Answer] = field(default_factory=list)
    output_bytes: int | None = None
    differences: dict[str, float] = field(default_factory=dict)
    sum_seconds: float | None = None

    @property
    def done(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.done]

    @property
    def seconds(self) -> list[float]:
        return [answer.seconds for answer in self.done]

    @property
    def median(self) -> float | None:
        return statistics.median(self.seconds) if self.done else self.sum_seconds

    @property
    def reason(self) -> str:
        """Why there is no figure; empty where there is one."""
        if self.median is not None:
            return ""
        last = self.answers[-1] if self.answers else self.warm_up
        return last.cannot or f"failed: {last.error}"

    def quantities(self) -> dict[str, float]:
        """Every figure by its name, for targets: medians of seconds, the largest of anything else."""
        if self.median is None:
            return {}
        key = f"{self.subject}/{self.kind}/{self.contender}"
        found = {f"{key}/seconds": self.median}
        peaks = [answer.peak_bytes for answer in self.done if answer.peak_bytes is not None]
        cpu = [answer.cpu_seconds for answer in self.done if answer.cpu_seconds is not None]
        if peaks:
            found[f"{key}/peak_bytes"] = max(peaks)
        if cpu:
            found[f"{key}/cpu_seconds"] = statistics.median(cpu)
        for name in self.done[0].extra if self.done else ():
            found[f"{key}/{name}"] = max(answer.extra[name] for answer in self.done)
        return found


def measure(
    subject: Subject, contenders: Sequence[Contender], kinds: Sequence[str], options: Options, say: Callable[[str], None]
) -> list[Series]:
    """Put every contender to each kind of task that is asked for and that the subject has."""
    say(f"{subject.name}: {subject.title}")
    folder = options.folder / subject.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    wanted = [kind for kind in subject.kinds if kind in kinds]
    rounds = _Rounds(subject, folder, options, say)
    rounds.prepare(next(each for each in contenders if each.name == OURS), wanted)
    found: list[Series] = []
    with ExitStack() as lasting:
        lasts = {each.name: lasting.enter_context(rounds.started(each)) for each in contenders if each.lasting}
        for kind in wanted:
            sums = _sums(found, kind, contenders)
            asked = [each for each in contenders if kind in (each.kinds or wanted) and each.name not in sums]
            with ExitStack() as fresh:
                processes = [lasts.get(each.name) or fresh.enter_context(rounds.started(each)) for each in asked]
                found += [*rounds.measure(kind, processes), *sums.values()]
    shutil.rmtree(folder)
    return found


def _sums(found: Sequence[Series], kind: str, contenders: Sequence[Contender]) -> dict[str, Series]:
    """The whole runs of those whose run is a fit and an apply, where both have been measured."""
    if kind != "run":
        return {}
    sums = {}
    for contender in contenders:
        parts = [each for each in found if each.contender == contender.name and each.kind in ("fit", "apply")]
        medians = [each.median for each in parts if each.median is not None]
        if contender.run_is_sum and len(medians) == 2:
            sums[contender.name] = Series(parts[0].subject, kind, contender.name, parts[0].warm_up, sum_seconds=sum(medians))
    return sums


class _Rounds:
    """The tasks of one subject, with what they need in `folder`."""

    def __init__(self, subject: Subject, folder: Path, options: Options, say: Callable[[str], None]) -> None:
        self._subject, self._folder, self._options, self._say = subject, folder, options, say

    def started(self, contender: Contender) -> AbstractContextManager[Process]:
        """The process of `contender`."""
        return started(contender, self._options.threads, self._options.folder / "logs")

    def prepare(self, ours: Contender, kinds: Sequence[str]) -> None:
        """Have this program find what others apply, and write small outputs from which they learn how to store theirs."""
        with self.started(ours) as process:
            found = self._subject.task("fit", self._options.threads, self._statistics.with_suffix(".zarr"))
            _require(process.ask(replace(found, results=str(self._statistics)), self._options.limit_seconds))
            for kind in dict.fromkeys(_written_as(kind) for kind in kinds):
                small = self._subject.task(kind, self._options.threads, self._template(kind), small=True)
                _require(process.ask(small, self._options.limit_seconds))

    @property
    def _statistics(self) -> Path:
        return self._folder / "statistics.npz"

    def _template(self, kind: str) -> Path:
        return self._folder / f"template-{_written_as(kind)}.zarr"

    def measure(self, kind: str, processes: Sequence[Process]) -> list[Series]:
        """What each of `processes` did in every round, and how far from this program's results theirs are."""
        tasks = {each.contender.name: self._task(kind, each.contender) for each in processes}
        series = [self._warmed_up(kind, each, tasks[each.contender.name]) for each in processes]
        for _ in range(min(self._options.rounds, self._subject.rounds_at_most or self._options.rounds)):
            for process, each in zip(processes, series, strict=True):
                if not self._sits_out(each):
                    self._round(process, each, tasks[process.contender.name])
        same_output = {each.contender.name for each in processes if each.contender.same_output}
        own = series[[each.contender.name for each in processes].index(OURS)]
        for each in series:
            if each is not own:
                each.differences = self._differences(tasks[OURS], tasks[each.contender], each.contender in same_output)
        return series

    def _sits_out(self, series: Series) -> bool:
        if not series.warm_up.done or (series.answers and not series.answers[-1].done):
            return True
        ours_or_floor = series.contender in (OURS, FLOOR)
        return not ours_or_floor and sum(series.seconds) >= self._options.peer_seconds

    def _round(self, process: Process, series: Series, task: Task) -> None:
        _remove(task)
        answer = process.ask(task, self._options.limit_seconds)
        series.answers.append(answer)
        output = Path(task.output)
        if answer.done and output.exists():
            series.output_bytes = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
            np.save(_first_samples(task), zarr.open_array(output, path=task.array, mode="r")[:ROWS_COMPARED])
        _remove(task)  # at once: what is not on the disk yet never gets there, and disturbs nobody
        self._tell(series, answer)

    def _tell(self, series: Series, answer: Answer) -> None:
        shown = f"{answer.seconds:.2f} s" if answer.done else answer.cannot or answer.error
        self._say(f"{series.subject} {series.kind}: {series.contender}: {shown}")

    def _task(self, kind: str, contender: Contender) -> Task:
        name = contender.name.replace(" ", "-")
        task = self._subject.task(kind, self._options.threads, self._folder / f"{name}.zarr")
        results = str(self._folder / f"{name}-{kind}.npz")
        return replace(task, template=str(self._template(kind)), statistics=str(self._statistics), results=results)

    def _warmed_up(self, kind: str, process: Process, task: Task) -> Series:
        """The series of a contender, with its answer to the same task on the small store."""
        small = self._subject.task(kind, self._options.threads, Path(task.output), small=True)
        small = replace(small, template=task.template, statistics=task.statistics)
        answer = process.ask(small, self._options.limit_seconds)
        _remove(small)
        series = Series(self._subject.name, kind, process.contender.name, answer)
        if not answer.done:
            self._tell(series, answer)
        return series

    def _differences(self, own: Task, other: Task, same_output: bool) -> dict[str, float]:
        """How far from ours the results of another task are."""
        found: dict[str, float] = {}
        if Path(own.results).exists() and Path(other.results).exists():
            found |= compare_statistics(own.results, other.results)
        mine, theirs = _first_samples(own), _first_samples(other)
        if same_output and mine.exists() and theirs.exists():
            found["output"] = compare_outputs(np.load(mine), np.load(theirs))
        return found


def compare_statistics(own: str, other: str) -> dict[str, float]:
    """How far a peer's means are from ours, in standard deviations, and its standard deviations, relative to ours."""
    with np.load(own) as mine, np.load(other) as theirs:
        found = {}
        std = mine["std"].ravel()
        if "mean" in theirs.files:
            found["mean"] = float(np.max(np.abs(theirs["mean"].ravel() - mine["mean"].ravel()) / std))
        if "std" in theirs.files:
            found["std"] = float(np.max(np.abs(theirs["std"].ravel() / std - 1)))
        for name in ("min", "max"):
            if name in theirs.files:
                found[name] = float(np.max(np.abs(theirs[name].ravel() - mine[name].ravel()) / std))
        return found


def compare_outputs(mine: NDArray[Any], theirs: NDArray[Any]) -> float:
    """How far apart the samples of two outputs are at most, relative to 1 + |ours|."""
    if mine.shape != theirs.shape:
        raise ValueError(f"an output of shape {theirs.shape}, not {mine.shape}")
    return float(np.max(np.abs(theirs.astype(np.float64) - mine) / (1 + np.abs(mine))))


def _first_samples(task: Task) -> Path:
    """Where the first samples of an output are kept when it is gone."""
    return Path(task.results).with_suffix(".npy")


def _written_as(kind: str) -> str:
    """The task whose output has the form of what `kind` writes."""
    return "cells" if kind == "cells" else "run"


def _require(answer: Answer) -> None:
    if not answer.done:
        raise RuntimeError(answer.cannot or answer.error)


def _remove(task: Task) -> None:
    shutil.rmtree(task.output, ignore_errors=True)
