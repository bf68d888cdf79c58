"""The command line of the benchmark: which subjects, which peers, how often, on how many threads."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

from benchmark.contender import ROOT, Contender
from benchmark.measure import FLOOR, OURS, Options, measure
from benchmark.report import Report
from benchmark.subjects import TASKS, make_subjects
from benchmark.targets import verdicts

SUBJECTS = ("a", "b", "c", "d")
MNIST = ROOT.parent / "shared" / "data" / "mnist"


def listed(_: click.Context, __: click.Parameter, value: str) -> list[str]:
    """The parts of a list with commas."""
    return [part.strip() for part in value.split(",") if part.strip()]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--subjects", default=",".join(SUBJECTS), show_default=True, callback=listed, help="Which of them.")
@click.option("--only", default=",".join(TASKS), show_default=True, callback=listed, help="Which tasks.")
@click.option("--threads", default=2, show_default=True, help="Threads, and processors, for every contender.")
@click.option("--rounds", default=5, show_default=True, help="How often each task is done.")
@click.option("--scale", default=1.0, show_default=True, help="A part of the samples, for a trial.")
@click.option("--peer-seconds", default=40.0, show_default=True, help="A peer works no further round after so long.")
@click.option("--limit-seconds", default=300.0, show_default=True, help="Whatever takes longer is ended.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=ROOT / "out" / "bench",
    help="Where stores, environments and reports go.",
)
def main(
    subjects: list[str],
    only: list[str],
    threads: int,
    rounds: int,
    scale: float,
    peer_seconds: float,
    limit_seconds: float,
    folder: Path,
) -> None:
    """Measure this program, the floors under it and its peers on the same stores and the same threads."""
    options = Options(threads, rounds, peer_seconds, limit_seconds, folder / "work")
    contenders = (
        Contender(FLOOR, sys.executable, ("benchmark.floors", "zarr")),
        Contender("direct decode", sys.executable, ("benchmark.floors", "direct"), ("fit",)),
        Contender("zarr-python default", sys.executable, ("benchmark.floors", "default"), ("fit",)),
        Contender(OURS, sys.executable, ("benchmark.ours",)),
    )
    kinds = [kind for name in only for kind in TASKS[name]]
    made = make_subjects(subjects, folder / "stores", MNIST, scale)
    series = [
        each
        for subject in made
        for each in measure(subject, contenders, kinds, options, lambda line: click.echo(line, err=True))
    ]
    quantities = {name: value for each in series for name, value in each.quantities().items()}
    report = Report(
        tuple(made),
        tuple(series),
        quantities,
        tuple(verdicts(quantities)),
        {"threads": threads, "rounds": rounds, "scale": scale},
    )
    report.save(folder / "report.json")
    report.show(Console(width=160))


if __name__ == "__main__":
    main()
