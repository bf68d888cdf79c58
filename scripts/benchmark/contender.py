"""The process of a contender, from the side that asks. Not here: what the process does (`driver.py`)."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmark.task import Answer, Task

SCRIPTS = Path(__file__).resolve().parent.parent
ROOT = SCRIPTS.parent
STOP_SECONDS = 20.0
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Contender:
    """Who takes part.

    Parameters
    ----------
    name : str
    python : str
        The interpreter of its environment.
    module : tuple of str
        The driver, and the arguments that it takes.
    kinds : tuple of str
        The tasks that it is asked for; all of them where empty.
    lasting : bool
        Whether one process does all tasks of a subject. Otherwise each kind of task has a fresh one, whose memory tells what
        that task takes.
    run_is_sum : bool
        Whether its whole run is its fit and then its apply, which share nothing, so that the two need not be done again.
    same_output : bool
        Whether it writes what this program writes.
    """

    name: str
    python: str
    module: tuple[str, ...]
    kinds: tuple[str, ...] = ()
    lasting: bool = False
    run_is_sum: bool = False
    same_output: bool = True


class Process:
    """A contender that runs."""

    def __init__(self, contender: Contender, process: subprocess.Popen[str], log: Path) -> None:
        self.contender = contender
        self._process = process
        self._log = log
        self._ended = ""

    def ask(self, task: Task, limit_seconds: float) -> Answer:
        """What became of `task`; a process that takes too long is ended."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("started without pipes")
        if self._ended:
            return Answer(error=f"ended: a task before this was {self._ended}")
        with suppress(BrokenPipeError):
            self._process.stdin.write(task.to_line() + "\n")
            self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], limit_seconds)[0]:
            self._kill()
            self._ended = f"not done within {limit_seconds:.0f} s"
            return Answer(error=self._ended)
        line = self._process.stdout.readline()
        return Answer.from_line(line) if line else Answer(error=f"its process ended, see {self._log}")

    def stop(self) -> None:
        """Let the process end, or end it."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _kill(self) -> None:
        """End the process and what it started."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextmanager
def started(contender: Contender, threads: int, logs: Path) -> Iterator[Process]:
    """The process of `contender`, on so many processors."""
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{contender.name.replace(' ', '-')}.log"
    paths = os.pathsep.join((str(ROOT), str(SCRIPTS)))
    environment = {**os.environ, "PYTHONPATH": paths, **dict.fromkeys(ONE_THREAD, "1"), "NUMBA_NUM_THREADS": str(threads)}
    with log.open("a") as stderr:
        process = subprocess.Popen(
            [contender.python, "-m", *contender.module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=environment,
            cwd=logs,
            start_new_session=True,
        )
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(process.pid, set(sorted(os.sched_getaffinity(0))[:threads]))
    running = Process(contender, process, log)
    try:
        yield running
    finally:
        running.stop()
