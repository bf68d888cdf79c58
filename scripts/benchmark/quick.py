"""The quick form: counts on tiny stores, which hold on any machine at any load. Never seconds.

Chunks are read as often as planned and by nothing else, tasks follow bytes and not chunks, everything is written once, and the
memory that a pass allocates is a few blocks.
"""

from __future__ import annotations

import math
import tempfile
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from benchmark import stores
from benchmark.blocks import open_input
from benchmark.driver import Clock
from benchmark.floors import copy, read
from benchmark.ours import apply, configuration, fit, planned, run
from benchmark.start import measure_plan
from benchmark.task import Task
from pipeline.block import DEFAULT_BLOCK_BYTES
from pipeline.plan import Plan
from pipeline.progress import SilentReporter
from pipeline.run import run_config
from tests.counting import counted_reads, stored_chunks

CELLS = 4_000
EXPRESSION_CHUNK = (50, 400)  # small beside a block: how many chunks are decoded at one time is not for this to say
IMAGES = 160
DIGITS = 4_000
BLOCK_BYTES = 8 * 2**20
TASKS_PER_BLOCK = 1.2
TASKS_BESIDE = 50


@dataclass(frozen=True)
class Tiny:
    """A store of a few megabytes.

    Parameters
    ----------
    held : mapping of str to float
        How many blocks a task may hold at one time: a little above what it does, so that one array more fails.
    """

    name: str
    store: Path
    array: str
    dims: tuple[str, ...]
    per: tuple[str, ...]
    held: Mapping[str, float]

    def task(self, kind: str, output: Path) -> Task:
        blank = Task(kind, str(self.store), self.array, self.dims, self.per, 1, BLOCK_BYTES, (), (), str(output))
        phases = planned(blank).phases
        return replace(blank, fit_block=phases[0].block_shape, apply_block=phases[-1].block_shape)


class _Counting(SilentReporter):
    """Counts the blocks that are done."""

    def __init__(self) -> None:
        self.blocks = 0

    def advance(self, nbytes: int, blocks: int = 1) -> None:
        self.blocks += blocks


def check(say: Callable[[str], None]) -> None:
    """Check every count; an AssertionError says which does not hold."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for tiny in _tiny_stores(folder):
            _check_store(tiny, folder / tiny.name, say)
        _check_tasks(folder, say)


def _tiny_stores(folder: Path) -> list[Tiny]:
    stores.write_expression(folder / "expression.zarr", CELLS, EXPRESSION_CHUNK)
    stores.write_photographs(folder / "photographs.zarr", IMAGES, per_chunk=1)
    for sharded in (False, True):
        stores.write_digits(folder / f"digits-{sharded}.zarr", DIGITS, folder / "no-mnist", sharded)
    images = ("sample", "y", "x")
    expression, photographs = {"fit": 2.5, "apply": 1.7, "run": 1.7}, {"fit": 2.2, "apply": 3.0, "run": 3.0}
    digits, sharded_digits = {"fit": 1.8, "apply": 1.8, "run": 1.8}, {"fit": 3.1, "apply": 2.5, "run": 2.6}
    return [
        Tiny("expression", folder / "expression.zarr", stores.EXPRESSION, ("cell", "gene"), ("gene",), expression),
        Tiny("photographs", folder / "photographs.zarr", stores.PHOTOGRAPHS, (*images, "channel"), ("channel",), photographs),
        Tiny("digits", folder / "digits-False.zarr", stores.DIGITS, images, (), digits),
        Tiny("digits-sharded", folder / "digits-True.zarr", stores.DIGITS, images, (), sharded_digits),
    ]


def _check_store(tiny: Tiny, folder: Path, say: Callable[[str], None]) -> None:
    """Reads, blocks, output and memory of one store."""
    folder.mkdir()
    task = replace(tiny.task("run", folder / "ours.zarr"), statistics=str(folder / "ours.npz"))
    plan = planned(task)
    reads = {"fit": len(plan.passes), "apply": 1, "run": len(plan.phases)}
    for kind, work in (("run", run), ("fit", fit), ("apply", apply)):
        expect(f"{tiny.name}: reads of each chunk by {kind}", _reads(tiny, work, replace(task, kind=kind)), {reads[kind]})
    _check_output(tiny, task, plan)
    for kind, work in (("fit", fit), ("apply", apply), ("run", run)):
        held = _blocks_held(work, replace(task, kind=kind))
        say(f"{tiny.name}: {kind} reads each chunk {reads[kind]} ×, holds {held:.2f} blocks")
        expect_at_most(f"{tiny.name}: blocks held by {kind}", held, tiny.held[kind])
    counting = _Counting()
    run_config(configuration(task), counting)
    expect(f"{tiny.name}: blocks done", counting.blocks, sum(phase.blocks for phase in plan.phases))
    floor = replace(task, output=str(folder / "floor.zarr"), template=task.output)
    expect(f"{tiny.name}: reads of each chunk by the floor", _reads(tiny, read, floor), {1})
    expect(f"{tiny.name}: reads of each chunk by the copy", _reads(tiny, copy, floor), {1})
    expect(
        f"{tiny.name}: chunks written by the copy",
        stored_chunks(Path(floor.output), tiny.array),
        stored_chunks(Path(task.output), tiny.array),
    )


def _reads(tiny: Tiny, work: Callable[[Task, Clock], Any], task: Task) -> set[int]:
    """How often chunks were read; every one of them must have been."""
    with counted_reads(tiny.store, tiny.array) as counts:
        work(task, Clock())
    expect(f"{tiny.name}: chunks read", set(counts), stored_chunks(tiny.store, tiny.array))
    return set(counts.values())


def _check_output(tiny: Tiny, task: Task, plan: Plan) -> None:
    source, output = open_input(task), zarr.open_array(task.output, path=task.array, mode="r")
    expect(f"{tiny.name}: bytes of the output", output.nbytes, source.size * np.dtype(np.float32).itemsize)
    expect(f"{tiny.name}: bytes planned to be written", plan.bytes_written, output.nbytes)
    expect(f"{tiny.name}: bytes planned to be read", plan.bytes_read, len(plan.phases) * source.nbytes)
    keys = {key.removeprefix(task.array) for key in stored_chunks(tiny.store, tiny.array)}
    written = {key.removeprefix(task.array) for key in stored_chunks(Path(task.output), tiny.array)}
    expect(f"{tiny.name}: chunks written", written, keys)


def _blocks_held(work: Callable[[Task, Clock], Any], task: Task) -> float:
    """The peak of what is allocated during a task on one thread, in blocks as read and, where there is output, as written."""
    elements = math.prod(task.fit_block if task.kind == "fit" else task.apply_block)
    itemsize = open_input(task).dtype.itemsize + (0 if task.kind == "fit" else np.dtype(np.float32).itemsize)
    tracemalloc.start()
    try:
        work(task, Clock())
        return tracemalloc.get_traced_memory()[1] / (elements * itemsize)
    finally:
        tracemalloc.stop()


def _check_tasks(folder: Path, say: Callable[[str], None]) -> None:
    """A million chunks take as many tasks as their bytes do."""
    found = measure_plan(folder)
    for name in ("million", "terabyte"):
        tasks = found[f"plan/{name}/tasks"]
        blocks = found[f"plan/{name}/bytes"] / DEFAULT_BLOCK_BYTES
        say(f"plan: {name}: {tasks:,.0f} tasks for {blocks:,.0f} blocks of bytes read and written")
        expect_at_most(f"tasks of a {name}", tasks, TASKS_BESIDE + TASKS_PER_BLOCK * blocks)


def expect(what: str, found: object, wanted: object) -> None:
    """Raise AssertionError where what was found is not what was wanted."""
    if found != wanted:
        raise AssertionError(f"{what}: {found}, not {wanted}")


def expect_at_most(what: str, found: float, bound: float) -> None:
    """Raise AssertionError where what was found is more than the bound."""
    if not found <= bound:
        raise AssertionError(f"{what}: {found:.2f}, more than {bound:g}")
