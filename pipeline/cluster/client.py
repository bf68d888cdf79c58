"""A Dask scheduler and its workers, known by a client, as an executor.

Not here: which cluster that is (`connection.py`), and what the tasks do.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pickle import PickleBuffer
from time import monotonic, sleep
from typing import Any, TypeVar
from uuid import uuid4

import distributed
from dask.highlevelgraph import HighLevelGraph
from distributed import Client, Future, Worker
from distributed.comm.core import CommClosedError
from distributed.protocol.pickle import dumps

from pipeline.block import Block, Tiling
from pipeline.cluster.graph import Progress, Reading, Work
from pipeline.errors import ClusterError, some_of
from pipeline.executor import Advance, BlockTask
from pipeline.source.held import HeldSource
from pipeline.source.source import Source

Result = TypeVar("Result")

CONNECT_SECONDS = 10.0
WORK_BYTES_IN_GRAPH = 1 << 20
TELL_SECONDS = 2.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.05
PROGRAM = "pipeline.cluster.client:DaskExecutor"
DONE_STATES = frozenset({"memory", "error", "released", "forgotten"})


@dataclass
class _Run:
    """Tasks that succeed or fail together: what their keys begin with, and the futures of their results."""

    name: str
    futures: list[Future[Any]] = field(default_factory=list)


@dataclass(frozen=True)
class DaskExecutor:
    """Runs tasks as one Dask graph on the cluster of `client`: a leaf for each run of blocks, then a tree of merges.

    Parameters
    ----------
    client : distributed.Client
    memory_bytes : int, optional
        What each worker may take, where that is not what the workers themselves say.
    """

    client: Client
    memory_bytes: int | None = None

    def map_merge(
        self,
        task: BlockTask[Result],
        merge: Callable[[Sequence[Result]], Result],
        groups: Sequence[Sequence[Block]],
        advance: Advance,
    ) -> list[Result]:
        with self._running(advance) as run:
            work = Work(run.name, task, merge, groups, partial(_Progress, run.name))
            self._compute(run, *work.graph(self._shared(work), sum(self.client.nthreads().values())))
            return list(self.client.gather(run.futures))

    def hold(self, source: Source, step: tuple[int, ...], advance: Advance) -> HeldSource:
        with self._running(advance) as run:
            reading = Reading(run.name, source, Tiling.regular(source.shape, step), partial(_Progress, run.name))
            self._compute(run, *reading.graph(self._shared(reading)))
            return HeldSource(source, step, dict(zip(reading.boxes, run.futures, strict=True)))

    @contextmanager
    def _running(self, advance: Advance) -> Iterator[_Run]:
        """A run whose tasks are all at an end when the context is left by an error, which is raised as what it means."""
        run = _Run(f"zarrnorm-{uuid4().hex}")
        self.client.subscribe_topic(run.name, lambda event: _advance_each(advance, event[1]))
        try:
            yield run
        except BaseException as error:
            raised = _translated(error, self.client)
            self._stop(run.name, run.futures, raised)
            if raised is error:
                raise
            raise raised from error
        finally:
            if self.client.status == "running":
                self.client.unsubscribe_topic(run.name)

    def _compute(self, run: _Run, graph: HighLevelGraph, keys: list[str]) -> None:
        """Compute `keys` of `graph` into the futures of `run`; raises what the first of them met."""
        run.futures = self.client.get(graph, keys, sync=False)
        for future in distributed.as_completed(run.futures):
            if future.status != "finished":
                future.result()  # raises; gather would leave exceptions behind that asyncio reports

    def _shared(self, work: Work | Reading) -> Any:
        """`work` as every node of the graph can refer to it.

        A small one is a node itself, where the scheduler still has it when workers die. A large one, such as of an array in
        memory, goes to the workers ahead of the graph.
        """
        if _pickled_bytes(work) <= WORK_BYTES_IN_GRAPH:
            return f"work-{work.run}"
        try:
            return self.client.scatter(work, broadcast=True, hash=False)
        except TimeoutError as error:
            raise no_worker(self.client) from error

    def _stop(self, run: str, futures: list[Future[Any]], error: BaseException) -> None:
        """Cancel what is left of `run` and wait until no worker works on it: it would write into what comes next.

        Raises
        ------
        ClusterError
            Where workers still do after `STOP_SECONDS`.
        """
        if self.client.status != "running":
            return
        self.client.cancel(futures, force=True)
        until = monotonic() + STOP_SECONDS
        while busy := self._busy(run):
            if monotonic() > until:
                raise ClusterError(
                    "the run failed, and workers still work on it",
                    where=", ".join(sorted(busy)),
                    found=f"{type(error).__name__}: {error}",
                    remedy="restart these workers before the next run on this output",
                ) from error
            sleep(POLL_SECONDS)

    def _busy(self, run: str) -> list[str]:
        """Addresses of the workers that work on `run`, or are about to."""
        try:
            counts: dict[str, Any] = self.client.run(_count_tasks, run, on_error="return", callback_timeout=STOP_SECONDS)
        except TimeoutError:
            return ["a worker that does not answer"]
        except OSError:
            return []  # the scheduler went away
        return [address for address, count in counts.items() if isinstance(count, int) and count]


def _translated(error: BaseException, client: Client) -> BaseException:
    """What Dask raised as a ClusterError; anything else, as what a task raised, as it is."""
    if isinstance(error, distributed.KilledWorker):
        return ClusterError(
            "workers died while they ran the same task",
            where=client.scheduler_info()["address"],
            found=str(error).split(". ")[0],
            remedy="lower block_bytes or threads_per_worker, or give the workers more memory; `zarrnorm plan` predicts it",
        )
    if isinstance(error, distributed.CancelledError | CommClosedError):
        return ClusterError("the cluster went away during the run", found=str(error), remedy="start it and run again")
    return error


def _count_tasks(run: str, dask_worker: Worker) -> int:
    """How many tasks of `run` the worker works on, a cancelled one whose thread has not ended included, or will."""
    with dask_worker.active_threads_lock:
        active = {str(key) for key in dask_worker.active_threads.values() if run in str(key)}
    known = {str(key) for key, state in dask_worker.state.tasks.items() if run in str(key) and state.state not in DONE_STATES}
    return len(active | known)


def _pickled_bytes(work: Work | Reading) -> int:
    """Bytes that `work` takes in a message; its arrays are counted where they are."""
    buffers: list[PickleBuffer] = []
    pickled = dumps(work, buffer_callback=buffers.append)
    return len(pickled) + sum(buffer.raw().nbytes for buffer in buffers)


def _advance_each(advance: Advance, blocks_bytes: Iterable[int]) -> None:
    for nbytes in blocks_bytes:
        advance(nbytes)


class _Progress(Progress):
    """Tells the client which blocks a task has done, through the scheduler's event log; seldom, since the scheduler is one.

    Parameters
    ----------
    topic : str
        Of the log.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._worker = distributed.get_worker()
        self._key = self._worker.get_current_task()
        self._untold: list[int] = []
        self._told = monotonic()

    def add(self, nbytes: int) -> None:
        """A block of so many decoded bytes is done."""
        self._untold.append(nbytes)
        if monotonic() - self._told >= TELL_SECONDS:
            self.tell()

    def tell(self) -> None:
        """Send what was not told yet."""
        self._worker.log_event(self._topic, self._untold)
        self._untold, self._told = [], monotonic()

    def until_cancelled(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """`blocks`, as long as somebody waits for the task's result.

        Raises
        ------
        distributed.Reschedule
            Where nobody does: what a cancelled task raises is dropped, and one that is wanted again begins anew.
        """
        for block in blocks:
            known = self._worker.state.tasks.get(self._key)
            if known is not None and known.state == "cancelled":
                raise distributed.Reschedule
            yield block


def active_client() -> Client | None:
    """The client on which Dask would compute now; None where there is none."""
    try:
        client: Client = distributed.default_client()
    except ValueError:
        return None
    return client


def executor_on(client: Client) -> DaskExecutor:
    """An executor on the cluster of `client`, which others look after.

    Raises
    ------
    ClusterError
        Where its scheduler or a worker cannot import this program: such a worker ends at its first task, and the client waits.
    """
    answers = dict(client.run(pkgutil.resolve_name, PROGRAM, on_error="return"))
    try:
        client.run_on_scheduler(pkgutil.resolve_name, PROGRAM)
    except (ImportError, AttributeError) as error:
        answers["the scheduler"] = error
    lacking = {where: answer for where, answer in answers.items() if isinstance(answer, ImportError | AttributeError)}
    if lacking:
        named = sorted(lacking)
        raise ClusterError(
            "a part of the cluster cannot import this program",
            where=some_of(named),
            found=str(lacking[named[0]]),
            expected="zarrnorm in the environment of the scheduler and of every worker",
            remedy="install it there as well, then start them again",
        )
    return DaskExecutor(client)


def require_worker(client: Client) -> None:
    """Raise where no worker comes within the time for connecting: a run would wait for one in silence."""
    try:
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except TimeoutError as error:
        raise no_worker(client) from error


def no_worker(client: Client) -> ClusterError:
    """The error for a cluster on which nothing runs."""
    address = client.scheduler_info()["address"]
    return ClusterError(
        "the cluster has no worker",
        where=address,
        expected="one at least",
        remedy=f"start one, `dask worker {address}`; of an adaptive cluster keep one at least",
    )
