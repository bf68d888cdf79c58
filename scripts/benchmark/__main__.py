"""The command line of the benchmark: which subjects, which peers, how often, on how many threads."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from benchmark.contender import ROOT, Contender
from benchmark.environments import PEER_KINDS, contender, wanted_peers
from benchmark.measure import FLOOR, OURS, Options, Series, measure
from benchmark.picture import draw
from benchmark.quick import check
from benchmark.report import Report
from benchmark.start import measure_plan, measure_start
from benchmark.subjects import TASKS, Subject, make_subjects
from benchmark.targets import verdicts
from benchmark.task import Answer

SUBJECTS = ("a", "b", "c", "d", "plan", "start")
MNIST = ROOT.parent / "shared" / "data" / "mnist"
WIDTH = 170


class Listed(click.ParamType[list[str]]):
    """Names with commas between them."""

    name = "names"

    def __init__(self, known: Sequence[str] = ()) -> None:
        self._known = known

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        """The names; an error where one is not known."""
        names = [name.strip() for name in value.split(",") if name.strip()]
        if unknown := [name for name in names if self._known and name not in self._known]:
            self.fail(f"{', '.join(unknown)}: not among {', '.join(self._known)}", param, ctx)
        return names


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Check counts on tiny stores, no seconds and no peers; other options are ignored.")
@click.option("--subjects", type=Listed(SUBJECTS), default=",".join(SUBJECTS), show_default=True, help="Which of them.")
@click.option("--only", type=Listed(tuple(TASKS)), default=",".join(TASKS), show_default=True, help="Which tasks.")
@click.option("--peers", type=Listed(), default="all", show_default=True, help="all, none, or names such as dask-ml,dask.")
@click.option("--threads", default=2, show_default=True, help="Threads, and processors, of every contender.")
@click.option("--rounds", default=5, show_default=True, help="How often each task is done.")
@click.option("--scale", default=1.0, show_default=True, help="A part of the samples, for a trial.")
@click.option("--peer-seconds", default=12.0, show_default=True, help="A peer does no further round of a task after so long.")
@click.option("--limit-seconds", default=300.0, show_default=True, help="Whatever takes longer is ended.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=ROOT / "out" / "bench",
    help="For stores, environments, reports.",
)
def main(
    quick: bool,
    subjects: list[str],
    only: list[str],
    peers: list[str],
    threads: int,
    rounds: int,
    scale: float,
    peer_seconds: float,
    limit_seconds: float,
    folder: Path,
) -> None:
    """Measure this program, the floors under it and its peers on the same stores and the same threads."""
    if quick:
        check(_say)
        return
    try:
        wanted = wanted_peers(peers)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--peers") from None
    folder = folder.resolve()
    options = Options(threads, rounds, peer_seconds, limit_seconds, folder / "work")
    kinds = [kind for name in only for kind in TASKS[name]]
    made = make_subjects(subjects, folder / "stores", MNIST, scale)
    found = [contender(peer, folder / "environments", _say) for peer in wanted] if any(each.peers for each in made) else []
    absent = {peer.name: each for peer, each in zip(wanted, found, strict=False) if isinstance(each, str)}
    present = [each for each in found if isinstance(each, Contender)]
    series = [each for subject in made for each in _measured(subject, present, absent, kinds, options)]
    quantities = {name: value for each in series for name, value in each.quantities().items()}
    if "plan" in subjects:
        quantities |= measure_plan(folder / "work")
    if "start" in subjects:
        quantities |= measure_start(folder / "work")
    told = {"threads": threads, "rounds": rounds, "scale": scale, "peers": [peer.name for peer in wanted]}
    report = Report(tuple(made), tuple(series), quantities, tuple(verdicts(quantities)), told)
    report.save(folder / "report.json")
    report.show(Console(width=WIDTH))
    _say(draw(report, folder / "report.png"))


def _measured(
    subject: Subject, peers: Sequence[Contender], absent: dict[str, str], kinds: Sequence[str], options: Options
) -> list[Series]:
    """The series of one subject, with those of peers that are not here."""
    own = _own() if subject.peers else (_own()[0], _own()[-1])
    found = measure(subject, [*own, *(peers if subject.peers else ())], kinds, options, _say)
    missing = absent if subject.peers else {}
    measured = [kind for kind in subject.kinds if kind in kinds and kind in PEER_KINDS]
    return found + [Series(subject.name, kind, name, Answer(cannot=why)) for kind in measured for name, why in missing.items()]


def _own() -> tuple[Contender, ...]:
    """The floors, and this program."""
    return (
        Contender(FLOOR, sys.executable, ("benchmark.floors", "zarr"), same_output=False),
        Contender("direct decode", sys.executable, ("benchmark.floors", "direct"), ("fit",)),
        Contender("zarr-python default", sys.executable, ("benchmark.floors", "default"), ("fit",)),
        Contender(OURS, sys.executable, ("benchmark.ours",)),
    )


def _say(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    main()
