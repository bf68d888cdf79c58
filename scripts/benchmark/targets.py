"""What is to be reached, as data, and whether it was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Target:
    """A bound on a quantity, or on the ratio of two.

    Parameters
    ----------
    what : str
    of, over : str
        Names of quantities; no ratio where `over` is empty.
    at_most, at_least : float, optional
    unit : str
        Of what is bounded.
    """

    what: str
    of: str
    over: str = ""
    at_most: float | None = None
    at_least: float | None = None
    unit: str = "×"


@dataclass(frozen=True)
class Verdict:
    """What was found of a target; `value` is None where it was not measured."""

    target: Target
    value: float | None

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        low, high = self.target.at_least, self.target.at_most
        return (low is None or self.value >= low) and (high is None or self.value <= high)

    @property
    def bound(self) -> str:
        """As a reader sees it."""
        low, high, unit = self.target.at_least, self.target.at_most, self.target.unit
        if low is not None and high is not None:
            return f"{low:g} to {high:g} {unit}"
        return f"≥ {low:g} {unit}" if low is not None else f"≤ {high:g} {unit}"


TARGETS = (
    Target("a: fit, moments to order 4, extrema, counts, against the floor", "a/fit/ours/seconds", "a/fit/floor/seconds", 1.20),
    Target("b: fit, exact histogram per channel, against the floor", "b/fit/ours/seconds", "b/fit/floor/seconds", 1.20),
    Target("a: fit with float quantile histograms, against the floor", "a/quantiles/ours/seconds", "a/fit/floor/seconds", 2.0),
    Target("a: apply, affine, against the copy", "a/apply/ours/seconds", "a/apply/floor/seconds", 1.15),
    Target("b: apply, affine, against the copy", "b/apply/ours/seconds", "b/apply/floor/seconds", 1.15),
    *(
        Target(
            f"{subject}: fit, dask-ml StandardScaler against ours",
            f"{subject}/fit/dask-ml StandardScaler/seconds",
            f"{subject}/fit/ours/seconds",
            at_least=3.5,
        )
        for subject in "ab"
    ),
    *(
        Target(
            f"{subject}: fit, dask.compute of mean, var, min, max against ours",
            f"{subject}/fit/dask/seconds",
            f"{subject}/fit/ours/seconds",
            at_least=bound,
        )
        for subject, bound in (("a", 2.5), ("b", 12.0))
    ),
    Target(
        "c: fit of sharded small chunks, zarr-python's default reading against ours",
        "c-sharded/fit/zarr-python default/seconds",
        "c-sharded/fit/ours/seconds",
        at_least=3.0,
    ),
    *(
        Target(
            f"d: peak memory of {kind} at 16 times the data against once",
            f"d16/{kind}/ours/peak_bytes",
            f"d1/{kind}/ours/peak_bytes",
            1.10,
            0.90,
        )
        for kind in ("fit", "apply", "run")
    ),
    *(
        Target(
            f"{subject}: peak memory of {kind} against what the plan predicts",
            f"{subject}/{kind}/ours/peak_bytes",
            f"{subject}/{kind}/ours/predicted_bytes",
            1.0,
        )
        for subject in ("a", "b", "d16")
        for kind in ("fit", "apply", "run")
    ),
    Target("1,000,000 chunks: planned within", "plan/million/seconds", at_most=10.0, unit="s"),
    Target("1,000,000 chunks: planned in memory of", "plan/million/peak_gib", at_most=1.0, unit="GiB"),
    Target("1,000,000 chunks: tasks", "plan/million/tasks", at_most=5_000, unit="tasks"),
    Target("import pipeline", "start/import/seconds", at_most=0.3, unit="s"),
    Target("Manifest.load(...).transform of one image, from a cold process", "start/cold/seconds", at_most=1.0, unit="s"),
    Target("transform of 784 values, warm", "start/warm/microseconds", at_most=100.0, unit="µs"),
    Target("first run in a process, compiled code cached against not", "start/cached/seconds", "start/compiled/seconds", 0.5),
)


def verdicts(quantities: Mapping[str, float], targets: Iterable[Target] = TARGETS) -> list[Verdict]:
    """What was found of each target."""
    return [Verdict(target, _value(target, quantities)) for target in targets]


def _value(target: Target, quantities: Mapping[str, float]) -> float | None:
    value = quantities.get(target.of)
    if value is None or not target.over:
        return value
    base = quantities.get(target.over)
    return None if base is None else value / base
