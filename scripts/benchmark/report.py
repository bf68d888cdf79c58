"""What was found, as tables for readers and as JSON for machines. Not here: the picture (`picture.py`)."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmark.measure import FLOOR, OURS, Series
from benchmark.subjects import Subject
from benchmark.targets import Verdict

DIFFERENCE_ALLOWED = 1e-4
MEGABYTE = 1e6


@dataclass(frozen=True)
class Report:
    """Everything that was measured."""

    subjects: tuple[Subject, ...]
    series: tuple[Series, ...]
    quantities: dict[str, float]
    verdicts: tuple[Verdict, ...]
    options: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "machine": machine(),
            "options": self.options,
            "subjects": [
                {
                    "name": each.name,
                    "title": each.title,
                    "decoded_bytes": each.decoded_bytes,
                    "stored_bytes": each.stored_bytes,
                    "block_bytes": each.block_bytes,
                }
                for each in self.subjects
            ],
            "series": [{**asdict(each), "median_seconds": each.median, "reason": each.reason} for each in self.series],
            "quantities": self.quantities,
            "targets": [
                {**asdict(each.target), "bound": each.bound, "value": each.value, "met": each.met} for each in self.verdicts
            ],
        }

    def save(self, path: Path) -> None:
        """Write the JSON."""
        path.write_text(json.dumps(self.to_json(), indent=1) + "\n")

    def show(self, console: Console) -> None:
        """Print a table for each kind of task of each subject, then the targets."""
        for subject in self.subjects:
            stored = f"{subject.decoded_bytes / MEGABYTE:,.0f} MB, {subject.stored_bytes / MEGABYTE:,.0f} MB stored"
            console.print(f"\n[bold]{subject.name}: {subject.title}[/bold] ({stored})")
            own = [each for each in self.series if each.subject == subject.name]
            for kind in dict.fromkeys(each.kind for each in own):
                _show_kind(console, subject, kind, [each for each in own if each.kind == kind])
        _show_pipelines(console, self.series)
        _show_alone(console, {name: value for name, value in self.quantities.items() if name.startswith(("plan/", "start/"))})
        _show_targets(console, self.verdicts)


def machine() -> dict[str, Any]:
    """What it ran on."""
    return {"python": platform.python_version(), "system": platform.platform(), "processors": os.cpu_count()}


def _show_kind(console: Console, subject: Subject, kind: str, series: Sequence[Series]) -> None:
    table = Table(title=kind, title_justify="left")
    for name in ("", "median s", "min to max", "rounds", "MB/s", "× floor", "× ours", "CPU s", "peak MB", "apart from ours"):
        table.add_column(name, justify="left" if name in ("", "apart from ours") else "right")
    medians = {each.contender: each.median for each in series}
    for each in series:
        if each.median is None:
            table.add_row(each.contender, "—", *[""] * 7, each.reason)
            continue
        floor, ours = medians.get(FLOOR), medians.get(OURS)
        cpu = [answer.cpu_seconds for answer in each.done if answer.cpu_seconds is not None]
        peaks = [answer.peak_bytes for answer in each.done if answer.peak_bytes is not None]
        table.add_row(
            each.contender,
            f"{each.median:.2f}",
            f"{min(each.seconds):.2f} to {max(each.seconds):.2f}" if each.done else "fit + apply",
            str(len(each.done) or ""),
            f"{subject.decoded_bytes / MEGABYTE / each.median:,.0f}",
            f"{each.median / floor:.2f}" if floor else "",
            f"{each.median / ours:.2f}" if ours else "",
            f"{statistics.median(cpu):.2f}" if cpu else "",
            f"{max(peaks) / MEGABYTE:,.0f}" if peaks else "",
            _differences(each),
        )
    console.print(table)
    for each in series:
        if each.contender == OURS and each.done:
            console.print(f"not counted: warm-up {each.warm_up.seconds:.2f} s")


def _differences(series: Series) -> str:
    parts = [
        f"{name} {value:.0e}" + (" WRONG" if not value <= DIFFERENCE_ALLOWED else "")
        for name, value in series.differences.items()
    ]
    return ", ".join(parts)


def _show_pipelines(console: Console, series: Sequence[Series]) -> None:
    """Which codec pipelines were at work: a floor with another than ours would be another floor."""
    used: dict[str, set[str]] = {}
    for each in series:
        for answer in each.done:
            if "codec_pipeline" in answer.said:
                used.setdefault(each.contender, set()).add(answer.said["codec_pipeline"])
    for contender, pipelines in used.items():
        console.print(f"codec pipeline of {contender}: {', '.join(sorted(pipelines))}")


def _show_alone(console: Console, quantities: Mapping[str, float]) -> None:
    """What was measured without anybody to compare with."""
    table = Table(title="planning and starting", title_justify="left")
    table.add_column("quantity")
    table.add_column("found", justify="right")
    for name, value in quantities.items():
        table.add_row(name, f"{value:,.3f}")
    if quantities:
        console.print(table)


def _show_targets(console: Console, verdicts: Sequence[Verdict]) -> None:
    table = Table(title="targets", title_justify="left")
    for name in ("what", "found", "target", ""):
        table.add_column(name, justify="right" if name in ("found", "target") else "left")
    for each in verdicts:
        found = "—" if each.value is None else f"{each.value:,.2f} {each.target.unit}"
        words = {True: "met", False: "[bold]missed[/bold]", None: "not measured"}
        table.add_row(each.target.what, found, each.bound, words[each.met])
    console.print(table)
