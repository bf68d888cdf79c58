"""A Dask cluster as an executor: in this process, in processes of this machine, or at an address.

Not here: what the tasks do. This is the only module of the batch job that knows Dask.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pickle import PickleBuffer
from time import monotonic, sleep
from typing import Any, TypeVar
from uuid import uuid4

import distributed
from dask.delayed import delayed
from dask.system import CPU_COUNT
from distributed import Client, Future, LocalCluster, Worker
from distributed.comm.core import CommClosedError
from distributed.protocol.pickle import dumps
from distributed.system import MEMORY_LIMIT
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pipeline.block import Block, tile
from pipeline.config import AddressClusterConfig, ClusterConfig, LocalClusterConfig
from pipeline.errors import ClusterError
from pipeline.executor import MERGE_FAN_IN, Advance, BlockTask, Executor, decoded_bytes, read_to_hold, run_block
from pipeline.source.held import HeldSource, assemble
from pipeline.source.lazy import LazySource
from pipeline.source.source import Source

Result = TypeVar("Result")

CONNECT_TIMEOUT = "10s"
TASK_BYTES_IN_GRAPH = 1 << 20
STOP_SECONDS = 30.0
POLL_SECONDS = 0.05
MACHINE_SHARED = "this machine's memory shared by its workers"
DONE_STATES = frozenset({"memory", "error", "released", "forgotten"})


@dataclass
class _Run:
    """Tasks that succeed or fail together: what their keys begin with, and the futures of their results."""

    name: str
    futures: list[Future[Any]] = field(default_factory=list)


@dataclass(frozen=True)
class DaskExecutor:
    """Runs tasks as one Dask graph on the cluster of `client`: a leaf for each block, then a tree of merges.

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
            shared = self._share(task)
            roots = [_tree([_leaf(shared, task, block, run.name) for block in blocks], merge, run.name) for blocks in groups]
            self._compute(run, roots)
            return list(self.client.gather(run.futures))

    def hold(self, source: Source, step: tuple[int, ...], advance: Advance) -> HeldSource:
        with self._running(advance) as run:
            shared = self._share(source)
            blocks = list(tile(source.shape, step))
            done = [_Done(run.name, decoded_bytes(block, source.dtype)) for block in blocks]
            reads = [_call("read", run.name, _read, shared, block, told) for block, told in zip(blocks, done, strict=True)]
            self._compute(run, reads)
            return HeldSource(source, step, dict(zip(blocks, run.futures, strict=True)))

    @contextmanager
    def _running(self, advance: Advance) -> Iterator[_Run]:
        """A run whose tasks are all at an end when the context is left by an error, which is raised as what it means."""
        run = _Run(f"zarrnorm-{uuid4().hex}")
        self.client.subscribe_topic(run.name, lambda event: advance(event[1]))
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

    def _compute(self, run: _Run, roots: list[Any]) -> None:
        """Compute `roots` into the futures of `run`; raises what the first of them met."""
        run.futures = self.client.compute(roots, optimize_graph=False)
        for future in distributed.as_completed(run.futures):
            if future.status != "finished":
                future.result()  # raises; gather would leave exceptions behind that asyncio reports

    def _share(self, task: BlockTask[Any] | Source) -> Any:
        """`task` as every leaf of a graph can refer to it.

        A small one is part of the graph, where the scheduler still has it when workers die. A large one, such as an array in
        memory, goes to the workers ahead of the graph.
        """
        if _pickled_bytes(task) <= TASK_BYTES_IN_GRAPH:
            return delayed(task, traverse=False)
        try:
            return self.client.scatter(task, broadcast=True, hash=False)
        except TimeoutError as error:
            raise ClusterError(
                "the cluster has no worker", where=self.client.scheduler_info()["address"], remedy="start one and run again"
            ) from error

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


def _pickled_bytes(task: BlockTask[Any] | Source) -> int:
    """Bytes that `task` takes in a message; its arrays are counted where they are."""
    buffers: list[PickleBuffer] = []
    pickled = dumps(task, buffer_callback=buffers.append)
    return len(pickled) + sum(buffer.raw().nbytes for buffer in buffers)


def _leaf(shared: Any, task: BlockTask[Any], block: Block, run: str) -> Any:
    done = _Done(run, decoded_bytes(block, task.source.dtype))
    if isinstance(task.source, LazySource):
        return _call("block", run, _run, shared, block, task.source.lazy[block.slices], done)
    if isinstance(task.source, HeldSource):
        boxes, held = zip(*task.source.parts(block), strict=True)
        return _call("block", run, _assemble_and_run, shared, block, boxes, list(held), done)
    return _call("block", run, _read_and_run, shared, block, done)


def _tree(nodes: list[Any], merge: Callable[[Sequence[Any]], Any], run: str) -> Any:
    while len(nodes) > 1:
        heaps = [nodes[first : first + MERGE_FAN_IN] for first in range(0, len(nodes), MERGE_FAN_IN)]
        nodes = [_call("merge", run, merge, heap) if len(heap) > 1 else heap[0] for heap in heaps]
    return nodes[0]


def _call(name: str, run: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """A node of the graph, whose key tells that it is one of `run`."""
    return delayed(function, pure=False)(*arguments, dask_key_name=f"{name}-{run}-{uuid4().hex}")


@dataclass(frozen=True)
class _Done:
    """Tells the client that a block is done, through the scheduler's event log."""

    topic: str
    decoded_bytes: int

    def tell(self) -> None:
        distributed.get_worker().log_event(self.topic, self.decoded_bytes)


def _read_and_run(task: BlockTask[Result], block: Block, done: _Done) -> Result:
    result = run_block(task, block)
    done.tell()
    return result


def _assemble_and_run(
    task: BlockTask[Result], block: Block, boxes: Sequence[Block], held: Sequence[Any], done: _Done
) -> Result:
    return _run(task, block, assemble(block, list(zip(boxes, held, strict=True))), done)


def _read(source: Source, block: Block, done: _Done) -> NDArray[Any]:
    values = read_to_hold(source, block)
    done.tell()
    return values


def _run(task: BlockTask[Result], block: Block, values: Any, done: _Done) -> Result:
    result = task(block, values)
    done.tell()
    return result


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
        Where no scheduler answers at the address.
    """
    if isinstance(config, AddressClusterConfig):
        with _client_at(config.address) as client:
            yield DaskExecutor(client)
        return
    with _one_thread_a_task(config), _local_cluster(config, debug) as cluster, Client(cluster) as client:
        if config.processes:
            client.register_plugin(_InterruptsIgnored())
        yield DaskExecutor(client, memory_per_worker(config))


def _one_thread_a_task(config: LocalClusterConfig) -> AbstractContextManager[object]:
    """Where tasks run on threads of this process, a BLAS that starts none of its own: workers of their own do so by themselves.

    Two tasks with two BLAS threads each took 3 to 10 times as long on 2 cores for covariances and whitening.
    """
    return nullcontext() if config.processes else threadpool_limits(1, user_api="blas")


def memory_per_worker(config: ClusterConfig) -> int | None:
    """The memory that a worker may take: of a local one its share of the machine's; None where only an address is known."""
    return None if isinstance(config, AddressClusterConfig) else MEMORY_LIMIT // config.workers


def room_of(executor: Executor) -> tuple[int, int | None, str]:
    """How many threads a worker of `executor` has, what memory (None where none is known), and how that comes about."""
    if not isinstance(executor, DaskExecutor):
        return 1, MEMORY_LIMIT, "this machine's memory"
    workers = list(executor.client.scheduler_info(n_workers=-1)["workers"].values())
    threads = max((worker["nthreads"] for worker in workers), default=1)
    if executor.memory_bytes is not None:
        return threads, executor.memory_bytes, MACHINE_SHARED
    limits = [worker["memory_limit"] for worker in workers if worker["memory_limit"]]
    return threads, min(limits, default=None), "the memory limit of the smallest worker"


def worker_count(config: ClusterConfig) -> int:
    """How many workers share the work; 1 is supposed of a cluster that is only known by its address."""
    return 1 if isinstance(config, AddressClusterConfig) else config.workers


def workers_of(executor: Executor) -> int:
    """How many workers `executor` has now."""
    return len(executor.client.scheduler_info(n_workers=-1)["workers"]) if isinstance(executor, DaskExecutor) else 1


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
        return Client(address, timeout=CONNECT_TIMEOUT)
    except (OSError, TimeoutError, ValueError) as error:
        raise ClusterError(
            "no Dask scheduler answers",
            where=address,
            found=str(error),
            expected="the address of a running scheduler, as tcp://host:8786",
            remedy="start one with `dask scheduler`, or use `cluster: {kind: local}`",
        ) from error
