"""The process of a contender: reads tasks from its standard input, does them one by one, and says how long the work took.

Standard library and NumPy only: it runs in the environment of every peer. Not here: starting the process (`contender.py`).
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmark.task import Answer, Task

Statistics: TypeAlias = Mapping[str, Any]
KILOBYTE = 1024
MESSAGE_CHARACTERS = 200


class CannotError(Exception):
    """The contender has no way to do such a task; the message says why."""


class Clock:
    """Times the work of one task; what a task does outside of `timed` is preparation."""

    def __init__(self) -> None:
        self.seconds = self.cpu_seconds = 0.0
        self.peak_bytes: int | None = None
        self.extra: dict[str, float] = {}
        self.said: dict[str, str] = {}

    @contextmanager
    def timed(self) -> Iterator[None]:
        reset_peak()
        before, cpu_before = perf_counter(), process_time()
        yield
        self.seconds += perf_counter() - before
        self.cpu_seconds += process_time() - cpu_before
        self.peak_bytes = max(self.peak_bytes or 0, peak_bytes())


Work: TypeAlias = Callable[[Task, Clock], Statistics | None]


def serve(
    works: Mapping[str, Work], packages: tuple[str, ...], cannot: str = "has no such task", elsewhere: bool = False
) -> None:
    """Answer tasks until there are none.

    Parameters
    ----------
    works : mapping of str to callable
        What is done for each kind of task. What it returns is saved as the task says.
    packages : tuple of str
        Whose versions are told.
    cannot : str
        Why the contender does no other kind.
    elsewhere : bool
        Whether other processes do the work, so that this one's memory and CPU time say nothing.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to the log
    versions = {name: version(name) for name in packages}
    for line in sys.stdin:
        task = Task.from_line(line)
        answer = _answer(task, works, cannot, elsewhere, versions)
        print(answer.to_line(), file=answers, flush=True)


def _answer(task: Task, works: Mapping[str, Work], cannot: str, elsewhere: bool, versions: dict[str, str]) -> Answer:
    if task.kind not in works:
        return Answer(cannot=cannot, said=versions)
    clock = Clock()
    try:
        statistics = works[task.kind](task, clock)
    except CannotError as error:
        return Answer(cannot=str(error), said=versions)
    except Exception as error:
        traceback.print_exc()
        last = str(error).strip().rpartition("\n")[2]
        return Answer(error=f"{type(error).__name__}: {last}"[:MESSAGE_CHARACTERS], said=versions)
    if statistics is not None and task.results:
        np.savez(task.results, allow_pickle=False, **statistics)
    return Answer(
        clock.seconds,
        None if elsewhere else clock.cpu_seconds,
        None if elsewhere else clock.peak_bytes,
        clock.extra,
        {**versions, **clock.said},
    )


def load_statistics(task: Task) -> dict[str, NDArray[np.float64]]:
    """What `task` is to apply, each flat: one number a feature."""
    with np.load(task.statistics) as archive:
        return {name: archive[name].ravel() for name in archive.files}


def reset_peak() -> None:
    """Begin to count this process's peak of memory anew, where the system allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_bytes() -> int:
    """The peak of this process's resident memory."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KILOBYTE
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * KILOBYTE
