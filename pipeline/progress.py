"""What a user sees of long work: a bar with throughput and remaining time on a terminal, plain lines elsewhere.

Not here: what the work is.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

LINE_INTERVAL_SECONDS = 10.0


class Reporter(Protocol):
    """Is told how far a phase is. A context manager: leaving it leaves the terminal as it was."""

    def start(self, phase: str, total_bytes: int, total_blocks: int) -> None:
        """A phase begins that will read so many decoded bytes in so many blocks."""
        ...

    def advance(self, nbytes: int, blocks: int = 1) -> None:
        """So many more bytes and blocks are done."""
        ...

    def finish(self) -> None:
        """The phase is over."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class SilentReporter:
    """Says nothing."""

    def start(self, phase: str, total_bytes: int, total_blocks: int) -> None:
        """Say nothing."""

    def advance(self, nbytes: int, blocks: int = 1) -> None:
        """Say nothing."""

    def finish(self) -> None:
        """Say nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Leave nothing behind."""


class LineReporter(SilentReporter):
    """A line at the start of a phase, one every now and then, and one at its end.

    Parameters
    ----------
    stream : file
        Where the lines go.
    interval_seconds : float
        The least time between two lines of a phase.
    clock : callable
        Returns a time in seconds that never goes back.
    """

    def __init__(
        self, stream: TextIO, interval_seconds: float = LINE_INTERVAL_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._interval_seconds = interval_seconds
        self._clock = clock

    def start(self, phase: str, total_bytes: int, total_blocks: int) -> None:
        """Begin a phase with a line that says how much there is to do."""
        self._phase, self._total_bytes, self._total_blocks = phase, total_bytes, total_blocks
        self._bytes = self._blocks = 0
        self._begun = self._spoken = self._clock()
        self._say(f"{decimal(total_bytes)} in {_counted(total_blocks)}")

    def advance(self, nbytes: int, blocks: int = 1) -> None:
        """Count, and say so where the last line is long enough ago."""
        self._bytes += nbytes
        self._blocks += blocks
        now = self._clock()
        if now - self._spoken >= self._interval_seconds:
            self._spoken = now
            self._say(self._standing(now - self._begun))

    def finish(self) -> None:
        """End the phase with a line that says how much was done how fast."""
        seconds = self._clock() - self._begun
        self._say(f"done, {decimal(self._bytes)} in {seconds:.1f} s{self._speed(seconds)}")

    def _standing(self, seconds: float) -> str:
        done = f"{self._blocks:,} of {_counted(self._total_blocks)}, {decimal(self._bytes)} of {decimal(self._total_bytes)}"
        left = (self._total_bytes - self._bytes) * seconds / self._bytes if self._bytes else None
        return f"{done}{self._speed(seconds)}" + ("" if left is None else f", {left:.0f} s left")

    def _speed(self, seconds: float) -> str:
        return f", {decimal(round(self._bytes / seconds))}/s" if seconds > 0 else ""

    def _say(self, text: str) -> None:
        print(f"{self._phase}: {text}", file=self._stream, flush=True)


class BarReporter(SilentReporter):
    """A progress bar for each phase.

    Parameters
    ----------
    console : rich.console.Console
        A terminal.
    """

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
        )
        self._task = TaskID(0)

    def start(self, phase: str, total_bytes: int, total_blocks: int) -> None:
        """Begin a bar."""
        self._progress.start()
        self._task = self._progress.add_task(phase, total=total_bytes)

    def advance(self, nbytes: int, blocks: int = 1) -> None:
        """Fill the bar by so many bytes."""
        self._progress.advance(self._task, nbytes)

    def finish(self) -> None:
        """Leave the bar full, where it stands."""
        task = self._progress.tasks[self._task]
        self._progress.update(self._task, completed=task.total)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Give the terminal back."""
        self._progress.stop()


@contextmanager
def reporting(reporter: Reporter, phase: str, total_bytes: int, total_blocks: int) -> Iterator[Callable[[int], None]]:
    """One phase: yields what is to be called with the bytes of each block that is done.

    Examples
    --------
    >>> with reporting(LineReporter(sys.stdout, clock=lambda: 0.0), "fit", 2000, 1) as advance:
    ...     advance(2000)
    fit: 2.0 kB in 1 block
    fit: done, 2.0 kB in 0.0 s
    """
    reporter.start(phase, total_bytes, total_blocks)
    yield reporter.advance
    reporter.finish()


def open_reporter(stream: TextIO | None = None) -> Reporter:
    """The reporter that suits `stream`, by default the standard error.

    Parameters
    ----------
    stream : file, optional

    Returns
    -------
    Reporter
        Bars on a terminal, lines elsewhere.
    """
    stream = sys.stderr if stream is None else stream
    console = Console(file=stream)
    return BarReporter(console) if console.is_terminal and not console.is_dumb_terminal else LineReporter(stream)


def _counted(blocks: int) -> str:
    return "1 block" if blocks == 1 else f"{blocks:,} blocks"
