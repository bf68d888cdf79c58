"""What is said of long work, on a terminal and elsewhere."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from pipeline.progress import BarReporter, LineReporter, SilentReporter, open_reporter, reporting


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def _lines(work: Callable[[LineReporter, Clock], None]) -> list[str]:
    stream, clock = io.StringIO(), Clock()
    work(LineReporter(stream, interval_seconds=10, clock=clock), clock)
    return stream.getvalue().splitlines()


def test_lines_at_the_start_at_intervals_and_at_the_end() -> None:
    def work(reporter: LineReporter, clock: Clock) -> None:
        with reporting(reporter, "fit", 4_000_000, 4) as advance:
            for clock.seconds in (4.0, 12.0, 13.0, 20.0):
                advance(1_000_000)

    assert _lines(work) == [
        "fit: 4.0 MB in 4 blocks",
        "fit: 2 of 4 blocks, 2.0 MB of 4.0 MB, 166.7 kB/s, 12 s left",
        "fit: done, 4.0 MB in 20.0 s, 200.0 kB/s",
    ]


def test_each_phase_counts_anew() -> None:
    def work(reporter: LineReporter, clock: Clock) -> None:
        for phase in ("fit", "apply"):
            with reporting(reporter, phase, 1000, 1) as advance:
                clock.seconds += 1
                advance(1000)

    assert _lines(work)[-1] == "apply: done, 1.0 kB in 1.0 s, 1.0 kB/s"


def test_a_phase_without_work_says_so() -> None:
    def work(reporter: LineReporter, clock: Clock) -> None:
        with reporting(reporter, "fit", 0, 0):
            clock.seconds = 0.0

    assert _lines(work) == ["fit: 0 bytes in 0 blocks", "fit: done, 0 bytes in 0.0 s"]


def test_a_phase_that_fails_is_not_called_done() -> None:
    def work(reporter: LineReporter, clock: Clock) -> None:
        with pytest.raises(ValueError, match="boom"), reporting(reporter, "fit", 1000, 1):
            raise ValueError("boom")

    assert _lines(work) == ["fit: 1.0 kB in 1 block"]


def _terminal(stream: io.StringIO) -> Console:
    return Console(file=stream, force_terminal=True, width=100, _environ={"TERM": "xterm"})


def test_a_bar_on_a_terminal_shows_throughput_and_the_terminal_is_given_back() -> None:
    stream = io.StringIO()
    with BarReporter(_terminal(stream)) as reporter, reporting(reporter, "apply", 2_000_000, 2) as advance:
        advance(1_000_000)
        advance(1_000_000)

    shown = stream.getvalue()
    assert "apply" in shown
    assert "100%" in shown
    assert "2.0/2.0 MB" in shown
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l")


def test_the_cursor_comes_back_after_a_failure() -> None:
    stream = io.StringIO()
    with (
        pytest.raises(ValueError, match="boom"),
        BarReporter(_terminal(stream)) as reporter,
        reporting(reporter, "fit", 10, 1),
    ):
        raise ValueError("boom")

    assert "\x1b[?25h" in stream.getvalue()


def test_the_reporter_suits_the_stream() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERM", "xterm")
        for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            patch.delenv(name, raising=False)
        assert isinstance(open_reporter(Terminal()), BarReporter)
        assert isinstance(open_reporter(io.StringIO()), LineReporter)
        patch.setenv("TERM", "dumb")
        assert isinstance(open_reporter(Terminal()), LineReporter)


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    with SilentReporter() as reporter, reporting(reporter, "fit", 10, 1) as advance:
        advance(10)

    assert capsys.readouterr() == ("", "")
