"""The executor that a configuration describes, what it starts for that, and what tasks run on there.

Not here: how tasks are run (`client.py`, `threads.py`).
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import distributed
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster, Worker
from distributed.system import MEMORY_LIMIT
from threadpoolctl import threadpool_limits

from pipeline.cluster.client import CONNECT_SECONDS, DaskExecutor, executor_on, require_worker
from pipeline.cluster.threads import ThreadsExecutor
from pipeline.config import AddressClusterConfig, ClusterConfig
from pipeline.errors import ClusterError
from pipeline.executor import Executor, Workers

MACHINE = "this machine's memory"
MACHINE_SHARED = "this machine's memory shared by its workers"


class _InterruptsIgnored(distributed.WorkerPlugin):
    """Ctrl-C reaches every process of a terminal; the client alone answers it, and ends the workers."""

    def setup(self, worker: Worker) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def connect(config: ClusterConfig, debug: bool = False) -> Iterator[DaskExecutor | ThreadsExecutor]:
    """An executor on what `config` describes; what was started for it ends with the context.

    Parameters
    ----------
    config : LocalClusterConfig or AddressClusterConfig
    debug : bool
        Let processes that are started here log to standard error. What fails in a task is raised in any case.

    Raises
    ------
    ClusterError
        Where no scheduler answers at the address, or one without workers, or a part of the cluster cannot import this program.
    """
    if isinstance(config, AddressClusterConfig):
        with _client_at(config.address) as client:
            require_worker(client)
            yield executor_on(client)
        return
    workers = workers_planned(config)
    if config.processes:
        with _local_cluster(workers, debug) as cluster, Client(cluster) as client:
            client.register_plugin(_InterruptsIgnored())
            yield DaskExecutor(client, workers.memory_bytes)
        return
    # With two BLAS threads each, two tasks took 3 to 10 times as long on 2 cores for covariances and whitening. Processes
    # that are started for tasks see to that by themselves.
    with threadpool_limits(1, user_api="blas"):
        yield ThreadsExecutor(workers.threads)


def workers_planned(config: ClusterConfig) -> Workers:
    """What tasks will run on; one worker of one thread is supposed of a cluster that is only known by its address.

    Workers without processes of their own are threads of this one.
    """
    if isinstance(config, AddressClusterConfig):
        return Workers()
    threads = config.threads_per_worker or max(1, CPU_COUNT // config.workers)
    if config.processes:
        return Workers(config.workers, threads, MEMORY_LIMIT // config.workers, MACHINE_SHARED)
    return Workers(1, config.workers * threads, MEMORY_LIMIT, MACHINE, scheduled=False)


def workers_of(executor: Executor) -> Workers:
    """What `executor` runs tasks on now; of workers that differ, as if all had the threads of the one that has most."""
    if not isinstance(executor, DaskExecutor):
        threads = executor.threads if isinstance(executor, ThreadsExecutor) else 1
        return Workers(1, threads, MEMORY_LIMIT, MACHINE, scheduled=False)
    workers = list(executor.client.scheduler_info(n_workers=-1)["workers"].values())
    threads = max((worker["nthreads"] for worker in workers), default=1)
    if executor.memory_bytes is not None:
        return Workers(len(workers), threads, executor.memory_bytes, MACHINE_SHARED)
    limits = [worker["memory_limit"] for worker in workers if worker["memory_limit"]]
    return Workers(len(workers), threads, min(limits, default=None), "the memory limit of the smallest worker")


def _local_cluster(workers: Workers, debug: bool) -> LocalCluster:
    return LocalCluster(
        n_workers=workers.count,
        threads_per_worker=workers.threads,
        processes=True,
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
