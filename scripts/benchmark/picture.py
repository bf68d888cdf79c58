"""What was found, as one picture: the seconds of every contender of each subject, and targets as ratios to their bounds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.measure import FLOOR, OURS, Series
from benchmark.report import Report
from benchmark.targets import Verdict

KINDS = ("fit", "quantiles", "apply", "run", "cells")
OURS_COLOR, FLOOR_COLOR, PEER_COLOR = "#1b7837", "#333333", "#b8b8b8"
MET_COLOR, MISSED_COLOR = "#1b7837", "#c0392b"
FLOORS = (FLOOR, "direct decode", "zarr-python default")
COLUMN_INCHES, ROW_INCHES = 5.0, 0.24


def draw(report: Report, path: Path) -> str:
    """Draw to `path`; what there is to say about it."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return "no picture: matplotlib is not installed"
    panels = [
        (
            subject.name,
            kind,
            [each for each in report.series if (each.subject, each.kind) == (subject.name, kind) and each.median],
        )
        for subject in report.subjects
        for kind in KINDS
    ]
    panels = [panel for panel in panels if panel[2]]
    judged = [each for each in report.verdicts if each.value is not None]
    columns = 3
    rows = -(-len(panels) // columns)
    tallest = max((len(series) for _, _, series in panels), default=1)
    panel_inches = 0.9 + ROW_INCHES * tallest
    targets_inches = 1.2 + ROW_INCHES * len(judged)
    figure = Figure(figsize=(columns * COLUMN_INCHES, rows * panel_inches + targets_inches), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[max(1, rows) * panel_inches, targets_inches])
    upper, lower = parts
    for number, (subject, kind, series) in enumerate(panels, 1):
        _draw_seconds(upper.add_subplot(rows, columns, number), f"{subject}: {kind}", series)
    _draw_targets(lower.add_subplot(), judged)
    figure.savefig(path, dpi=100)
    return f"picture: {path}"


def _draw_seconds(axes: Any, title: str, series: Sequence[Series]) -> None:
    ordered = sorted(series, key=lambda each: each.median or 0.0, reverse=True)
    medians = [each.median or 0.0 for each in ordered]
    low = [median - min(each.seconds, default=median) for each, median in zip(ordered, medians, strict=True)]
    high = [max(each.seconds, default=median) - median for each, median in zip(ordered, medians, strict=True)]
    colors = [
        OURS_COLOR if each.contender == OURS else FLOOR_COLOR if each.contender in FLOORS else PEER_COLOR for each in ordered
    ]
    axes.barh([each.contender for each in ordered], medians, xerr=[low, high], color=colors, ecolor="#777777", height=0.7)
    for place, median in enumerate(medians):
        axes.annotate(f" {median:.2f}", (median + high[place], place), va="center", fontsize=7)
    axes.margins(x=0.15)
    axes.set_title(f"{title}, seconds", loc="left", fontsize=9)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_targets(axes: Any, judged: Sequence[Verdict]) -> None:
    """How far each quantity is from its bound, on a logarithmic scale."""
    listed = judged[::-1]
    shares = [share_of_bound(each) for each in listed]
    colors = [MET_COLOR if each.met else MISSED_COLOR for each in listed]
    places = range(len(listed))
    axes.hlines(places, 1.0, shares, color=colors, linewidth=5)
    axes.scatter(shares, places, color=colors, s=30, zorder=3)
    axes.axvline(1.0, color="#333333", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.set_yticks(list(places), [f"{each.target.what}: {each.value:,.2f}, {each.bound}" for each in listed])
    axes.set_title("targets: what was found over its bound (left of 1 is met)", loc="left", fontsize=9)
    axes.tick_params(which="both", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def share_of_bound(verdict: Verdict) -> float:
    """What was found over the bound that it is nearest to breaking; more than 1 where it is missed."""
    value = verdict.value or 0.0
    low, high = verdict.target.at_least, verdict.target.at_most
    shares = [value / high] if high else []
    if low and value:
        shares.append(low / value)
    return max(shares)
