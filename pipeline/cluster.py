"""A Dask cluster as an executor: in this process, in processes of this machine, or at an address.

Not here: what the tasks do. This is the only module of the batch job that knows Dask.
"""

from __future__ import annotations

import logging
import pkgutil
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pickle import PickleBuffer
from time import monotonic, sleep
from typing import Any, TypeVar
from uuid import uuid4

import distributed
from dask.delayed import delayed
from dask.highlevelgraph import HighLevelGraph
from dask.system import CPU_COUNT
from distributed import Client, Future, LocalCluster, Worker
from distributed.comm.core import CommClosedError
from distributed.protocol.pickle import dumps
from distributed.system import MEMORY_LIMIT
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pipeline.block import Block, Tiling
from pipeline.config import AddressClusterConfig, ClusterConfig, LocalClusterConfig
from pipeline.errors import ClusterError, some_of
from pipeline.executor import MERGE_FAN_IN, Advance, BlockTask, Executor, Workers, blocks_per_task, read_to_hold, run_blocks
from pipeline.room import Room
from pipeline.source.held import HeldSource, assemble
from pipeline.source.lazy import LazySource
from pipeline.source.source import Source

Result = TypeVar("Result")

CONNECT_SECONDS = 10.0
WORK_BYTES_IN_GRAPH = 1 << 20
TELL_SECONDS = 2.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.05
MACHINE_SHARED = "this machine's memory shared by its workers"
PROGRAM = "pipeline.cluster:DaskExecutor"
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
            self._compute(run, *self._graph(_Work(run.name, task, merge, groups)))
            return list(self.client.gather(run.futures))

    def hold(self, source: Source, step: tuple[int, ...], advance: Advance) -> HeldSource:
        with self._running(advance) as run:
            boxes = Tiling.regular(source.shape, step)
            layer: dict[Any, Any] = {}
            shared = self._share(_Reading(run.name, source, boxes), run.name, layer)
            keys = [f"read-{run.name}-{index}" for index in range(len(boxes))]
            layer.update({key: (_read_box, shared, index) for index, key in enumerate(keys)})
            self._compute(run, HighLevelGraph.from_collections(run.name, layer, ()), keys)
            return HeldSource(source, step, dict(zip(boxes, run.futures, strict=True)))

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

    def _graph(self, work: _Work) -> tuple[HighLevelGraph, list[str]]:
        """The graph of `work`, and the key of each group's result in it."""
        layer: dict[Any, Any] = {}
        shared, source = self._share(work, work.run, layer), work.task.source
        pieces: list[Any] = []
        threads = sum(self.client.nthreads().values())
        step = blocks_per_task(source, sum(map(len, work.groups)), work.groups[0][0].size, threads)
        roots = []
        for group, blocks in enumerate(work.groups):
            leaves = []
            for first in range(0, len(blocks), step):
                leaves.append(f"block-{work.run}-{group}-{first}")
                if isinstance(source, LazySource):
                    pieces.append(delayed(source.lazy[blocks[first].slices]))
                    layer[leaves[-1]] = (_run_piece, shared, group, first, pieces[-1].key)
                elif isinstance(source, HeldSource):
                    layer[leaves[-1]] = (_run_held, shared, group, first, source.parts(blocks[first]))
                else:
                    layer[leaves[-1]] = (_run_blocks, shared, group, first, min(first + step, len(blocks)))
            roots.append(_merge_tree(leaves, f"merge-{work.run}-{group}", shared, layer))
        return HighLevelGraph.from_collections(work.run, layer, pieces), roots

    def _share(self, work: _Work | _Reading, run: str, layer: dict[Any, Any]) -> Any:
        """`work` as every node of the graph can refer to it.

        A small one is a node itself, where the scheduler still has it when workers die. A large one, such as of an array in
        memory, goes to the workers ahead of the graph.
        """
        if _pickled_bytes(work) <= WORK_BYTES_IN_GRAPH:
            layer[f"work-{run}"] = work
            return f"work-{run}"
        try:
            return self.client.scatter(work, broadcast=True, hash=False)
        except TimeoutError as error:
            raise _no_worker(self.client) from error

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


@dataclass(frozen=True)
class _Work:
    """What all tasks of a run have in common. It travels to a worker once; a task is a few numbers beside it."""

    run: str
    task: BlockTask[Any]
    merge: Callable[[Sequence[Any]], Any]
    groups: Sequence[Sequence[Block]]


@dataclass(frozen=True)
class _Reading:
    """As `_Work`, of boxes that are only read."""

    run: str
    source: Source
    boxes: Tiling


def _pickled_bytes(work: _Work | _Reading) -> int:
    """Bytes that `work` takes in a message; its arrays are counted where they are."""
    buffers: list[PickleBuffer] = []
    pickled = dumps(work, buffer_callback=buffers.append)
    return len(pickled) + sum(buffer.raw().nbytes for buffer in buffers)


def _merge_tree(keys: list[str], name: str, shared: Any, layer: dict[Any, Any]) -> str:
    """The key of what the results `keys` are merged to, by nodes that are added to `layer`."""
    level = 0
    while len(keys) > 1:
        merged = []
        for first in range(0, len(keys), MERGE_FAN_IN):
            heap = keys[first : first + MERGE_FAN_IN]
            if len(heap) > 1:
                merged.append(f"{name}-{level}-{first}")
                layer[merged[-1]] = (_merge, shared, heap)
            else:
                merged.append(heap[0])
        keys, level = merged, level + 1
    return keys[0]


def _merge(work: _Work, results: Sequence[Any]) -> Any:
    return work.merge(results)


def _run_blocks(work: _Work, group: int, first: int, stop: int) -> Any:
    """The merged result of some blocks of a group, which are worked on as the serial loop does."""
    progress = _Progress(work.run)
    blocks = (work.groups[group][index] for index in range(first, stop))
    result = run_blocks(work.task, work.merge, progress.until_cancelled(blocks), progress.add)
    progress.tell()
    return result


def _run_piece(work: _Work, group: int, index: int, values: Any) -> Any:
    """The result of a block of a Dask array, whose values are those of a task of its own."""
    progress = _Progress(work.run)
    result = work.task(work.groups[group][index], values, Room())
    progress.add(values.nbytes)
    progress.tell()
    return result


def _run_held(work: _Work, group: int, index: int, held: Sequence[NDArray[Any]]) -> Any:
    """The result of a block of a source whose boxes are `held`."""
    block, source = work.groups[group][index], work.task.source
    assert isinstance(source, HeldSource)
    return _run_piece(work, group, index, assemble(block, list(zip(source.boxes(block), held, strict=True))))


def _read_box(reading: _Reading, index: int) -> NDArray[Any]:
    progress = _Progress(reading.run)
    values = read_to_hold(reading.source, reading.boxes[index])
    progress.add(values.nbytes)
    progress.tell()
    return values


def _advance_each(advance: Advance, blocks_bytes: Iterable[int]) -> None:
    for nbytes in blocks_bytes:
        advance(nbytes)


class _Progress:
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


class _InterruptsIgnored(distributed.WorkerPlugin):
    """Ctrl-C reaches every process of a terminal; the client alone answers it, and ends the workers."""

    def setup(self, worker: Worker) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def connect(config: ClusterConfig, debug: bool = False) -> Iterator[DaskExecutor]:
    """An executor on the cluster that `config` describes; what was started for it ends with the context.

    Parameters
    ----------
    config : LocalClusterConfig or AddressClusterConfig
    debug : bool
        Let a cluster that is started here log to standard error. What fails in a task is raised in any case.

    Raises
    ------
    ClusterError
        Where no scheduler answers at the address, or one without workers, or a part of the cluster cannot import this program.
    """
    if isinstance(config, AddressClusterConfig):
        with _client_at(config.address) as client:
            _require_worker(client)
            yield executor_on(client)
        return
    with _one_thread_a_task(config), _local_cluster(config, debug) as cluster, Client(cluster) as client:
        if config.processes:
            client.register_plugin(_InterruptsIgnored())
        yield DaskExecutor(client, memory_per_worker(config))


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


def _require_worker(client: Client) -> None:
    """Raise where no worker comes within the time for connecting: a run would wait for one in silence."""
    try:
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except TimeoutError as error:
        raise _no_worker(client) from error


def _no_worker(client: Client) -> ClusterError:
    """The error for a cluster on which nothing runs."""
    address = client.scheduler_info()["address"]
    return ClusterError(
        "the cluster has no worker",
        where=address,
        expected="one at least",
        remedy=f"start one, `dask worker {address}`; of an adaptive cluster keep one at least",
    )


def _one_thread_a_task(config: LocalClusterConfig) -> AbstractContextManager[object]:
    """Where tasks run on threads of this process, a BLAS that starts none of its own: workers of their own do so by themselves.

    Two tasks with two BLAS threads each took 3 to 10 times as long on 2 cores for covariances and whitening.
    """
    return nullcontext() if config.processes else threadpool_limits(1, user_api="blas")


def memory_per_worker(config: ClusterConfig) -> int | None:
    """The memory that a worker may take: of a local one its share of the machine's; None where only an address is known."""
    return None if isinstance(config, AddressClusterConfig) else MEMORY_LIMIT // config.workers


def workers_of(executor: Executor) -> Workers:
    """What `executor` runs tasks on now; of workers that differ, as if all had the threads of the one that has most."""
    if not isinstance(executor, DaskExecutor):
        return Workers(1, 1, MEMORY_LIMIT, "this machine's memory")
    workers = list(executor.client.scheduler_info(n_workers=-1)["workers"].values())
    threads = max((worker["nthreads"] for worker in workers), default=1)
    if executor.memory_bytes is not None:
        return Workers(len(workers), threads, executor.memory_bytes, MACHINE_SHARED)
    limits = [worker["memory_limit"] for worker in workers if worker["memory_limit"]]
    return Workers(len(workers), threads, min(limits, default=None), "the memory limit of the smallest worker")


def workers_planned(config: ClusterConfig) -> Workers:
    """What tasks will run on; one worker is supposed of a cluster that is only known by its address."""
    count = 1 if isinstance(config, AddressClusterConfig) else config.workers
    return Workers(count, threads_per_worker(config), memory_per_worker(config), MACHINE_SHARED)


def threads_per_worker(config: ClusterConfig) -> int:
    """How many tasks a worker runs at once; 1 is supposed of a cluster that is only known by its address."""
    if isinstance(config, AddressClusterConfig):
        return 1
    return config.threads_per_worker or max(1, CPU_COUNT // config.workers)


def _local_cluster(config: LocalClusterConfig, debug: bool) -> LocalCluster:
    return LocalCluster(
        n_workers=config.workers,
        threads_per_worker=threads_per_worker(config),
        processes=config.processes,
        memory_limit="auto" if config.processes else 0,
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address="127.0.0.1:0",
        silence_logs=logging.WARNING if debug else logging.CRITICAL,
    )


def _client_at(address: str) -> Client:
    try:
        return Client(address, timeout=CONNECT_SECONDS)
    except (OSError, TimeoutError, ValueError) as error:
        raise ClusterError(
            "no Dask scheduler answers",
            where=address,
            found=str(error),
            expected="the address of a running scheduler, as tcp://host:8786",
            remedy="start one with `dask scheduler`, or use `cluster: {kind: local}`",
        ) from error
