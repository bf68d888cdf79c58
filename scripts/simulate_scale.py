"""What a run of so many blocks costs beside its reading: the scheduler's time and memory, the graph, the client, the merges.

A scheduler and workers of Dask run in processes of their own on this machine, on a source that is read in constant time.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distributed import Client, Worker
from generated_source import DIMS, GeneratedSource, StateTask

from pipeline import executor
from pipeline.block import Block, Tiling
from pipeline.cluster import DaskExecutor
from pipeline.gather import merge_groups
from pipeline.room import Room

STATES = {"none": (), "moments": ("moments",), "quantiles": ("moments", "float_histogram")}
BLOCK_BYTES = 128 * 2**20
STARTED_SECONDS = 60.0
STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Case:
    """One simulated pass.

    Parameters
    ----------
    blocks : int
    tasks_at_most : int
        How many tasks the blocks are spread over; those that merge come on top.
    workers, threads : int
        How many processes with so many threads each.
    state : str
        What each block results in, a key of `STATES`.
    features : int
    """

    blocks: int
    tasks_at_most: int
    workers: int
    threads: int
    state: str
    features: int


@dataclass(frozen=True)
class Figures:
    """What was measured in one pass: seconds of processors, bytes resident at their peak; of the graph, those that were sent.

    A state is what a block, or several merged, result in: its bytes pickled, and how many went from one worker to another.
    """

    blocks: int
    tasks: int
    seconds: float
    graph_bytes: int
    client_seconds: float
    client_bytes: int
    scheduler_seconds: float
    scheduler_bytes: int
    scheduler_idle_bytes: int
    worker_seconds: float
    worker_bytes: int
    state_bytes: int
    states_moved: int


def main() -> None:
    """Simulate as the command line says, each pass in a process of its own, and print a table."""
    arguments = _arguments()
    if arguments.case:
        print(json.dumps(asdict(simulate(Case(**json.loads(arguments.case))))))
        return
    rows = []
    for blocks in arguments.blocks:
        case = Case(blocks, arguments.tasks, arguments.workers, arguments.threads, arguments.state, arguments.features)
        command = [sys.executable, __file__, "--case", json.dumps(asdict(case))]
        rows.append(Figures(**json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)))
        print(*([_heading()] if len(rows) == 1 else []), _row(rows[-1]), sep="\n", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def simulate(case: Case) -> Figures:
    """One pass, measured; this process is the client."""
    executor.BLOCK_TASKS = case.tasks_at_most
    rows = BLOCK_BYTES // (4 * case.features)
    source = GeneratedSource((case.blocks * rows, case.features), DIMS)
    task = StateTask(source, STATES[case.state], rows)
    blocks = Tiling.regular(source.shape, (rows, case.features))
    with _cluster(case.workers, case.threads) as client:
        state_bytes = max(client.run(_warm, task, blocks[0]).values())
        idle, before = client.run_on_scheduler(_usage), client.run(_worker_usage)
        begun, sent, used = time.perf_counter(), client.scheduler_comm.byte_count, time.process_time()
        graphs = _graph_sizes(client)
        done = _Done()
        DaskExecutor(client).map_merge(task, merge_groups, [blocks], done)
        seconds = time.perf_counter() - begun
        after, workers = client.run_on_scheduler(_usage), client.run(_worker_usage)
        if done.nbytes != blocks.size * source.dtype.itemsize:
            raise RuntimeError(f"{done.nbytes} bytes were done, of {blocks.size * source.dtype.itemsize}")
        return Figures(
            blocks=len(blocks),
            tasks=sum(graphs),
            seconds=seconds,
            graph_bytes=client.scheduler_comm.byte_count - sent,
            client_seconds=time.process_time() - used,
            client_bytes=_peak_bytes(),
            scheduler_seconds=after["seconds"] - idle["seconds"],
            scheduler_bytes=after["bytes"],
            scheduler_idle_bytes=idle["bytes"],
            worker_seconds=sum(workers[each]["seconds"] - before[each]["seconds"] for each in workers),
            worker_bytes=max(usage["bytes"] for usage in workers.values()),
            state_bytes=state_bytes,
            states_moved=int(sum(workers[each]["moved"] - before[each]["moved"] for each in workers)),
        )


@contextmanager
def _cluster(workers: int, threads: int) -> Iterator[Any]:
    """A scheduler and workers, each a process, on the loopback; they end with the context."""
    scripts = Path(__file__).resolve().parent
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(scripts), str(scripts.parent)]),
        "DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH": "100000",  # every transfer is counted
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scheduler.json"
        common = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file)]
        commands = [["scheduler", "--port", "0", *common]]
        commands += [["worker", "--nthreads", str(threads), "--no-nanny", "--memory-limit", "0", *common]] * workers
        processes = []
        try:
            for command in commands:
                processes.append(_started([sys.executable, "-m", "dask", *command], environment, folder))
                _wait_for(file)
            with Client(scheduler_file=str(file)) as client:
                client.wait_for_workers(workers, timeout=STARTED_SECONDS)
                yield client
        finally:
            for process in processes:
                process.kill()
            for process in processes:
                process.wait()


def _started(command: list[str], environment: dict[str, str], folder: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _wait_for(file: Path) -> None:
    until = time.monotonic() + STARTED_SECONDS
    while not file.exists():
        if time.monotonic() > until:
            raise TimeoutError("the scheduler did not start")
        time.sleep(0.05)


class _Done:
    """Counts the bytes that are done."""

    def __init__(self) -> None:
        self.nbytes = 0

    def __call__(self, nbytes: int) -> None:
        self.nbytes += nbytes


def _graph_sizes(client: Any) -> list[int]:
    """How many tasks each graph has that `client` computes from now on."""
    sizes: list[int] = []
    get = client.get

    def counting(graph: Any, *given: Any, **options: Any) -> Any:
        sizes.append(len(graph))
        return get(graph, *given, **options)

    client.get = counting
    return sizes


def _warm(task: StateTask, block: Block) -> int:
    """Compile and summarize once, so that the pass is measured alone; the bytes of a state."""
    state = task(block, task.source.read(block), Room())
    merge_groups([state, state])
    return len(pickle.dumps(state))


def _usage() -> dict[str, float]:
    return {"seconds": time.process_time(), "bytes": _peak_bytes()}


def _worker_usage(dask_worker: Worker) -> dict[str, float]:
    return {**_usage(), "moved": sum(len(each["keys"]) for each in dask_worker.transfer_incoming_log)}


def _peak_bytes() -> int:
    """The most memory that this process has had resident."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _heading() -> str:
    above = (
        "",
        "",
        "",
        "graph",
        "client",
        "client",
        "scheduler",
        "each task",
        "scheduler",
        "each task",
        "workers",
        "state",
        "states",
    )
    below = ("blocks", "tasks", "seconds", "kB", "s", "MB", "s", "ms", "MB", "kB", "s", "MB", "moved")
    return "\n".join("".join(f"{name:>11}" for name in names) for names in (above, below))


def _row(row: Figures) -> str:
    grown = row.scheduler_bytes - row.scheduler_idle_bytes
    shown = (
        f"{row.blocks:,}",
        f"{row.tasks:,}",
        f"{row.seconds:.1f}",
        f"{row.graph_bytes / 1e3:,.0f}",
        f"{row.client_seconds:.1f}",
        f"{row.client_bytes / 1e6:,.0f}",
        f"{row.scheduler_seconds:.1f}",
        f"{row.scheduler_seconds / row.tasks * 1e3:.2f}",
        f"{row.scheduler_bytes / 1e6:,.0f}",
        f"{grown / row.tasks / 1e3:.1f}",
        f"{row.worker_seconds:.1f}",
        f"{row.state_bytes / 1e6:.2f}",
        f"{row.states_moved:,}",
    )
    return "".join(f"{each:>11}" for each in shown)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="simulate-scale", description=__doc__)
    parser.add_argument(
        "--blocks", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="how many, one pass for each"
    )
    parser.add_argument(
        "--tasks",
        type=int,
        default=executor.BLOCK_TASKS,
        help="over how many tasks they are spread; as many as blocks: one each",
    )
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--threads", type=int, default=1, help="threads of each of them")
    parser.add_argument("--state", choices=STATES, default="none", help="what each block results in")
    parser.add_argument("--features", type=int, default=2000, help="of that state")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments: argparse.Namespace = parser.parse_args()
    return arguments


if __name__ == "__main__":
    main()
