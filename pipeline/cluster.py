"""A Dask cluster as an executor: in this process, in processes of this machine, or at an address.

Not here: what the tasks do. This is the only module of the batch job that knows Dask.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

import distributed
from dask.delayed import delayed
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster
from distributed.comm.core import CommClosedError

from pipeline.block import Block
from pipeline.config import AddressClusterConfig, ClusterConfig, LocalClusterConfig
from pipeline.errors import ClusterError
from pipeline.executor import Advance, BlockTask, decoded_bytes, run_block
from pipeline.source.lazy import LazySource

Result = TypeVar("Result")

MERGE_FAN_IN = 8
CONNECT_TIMEOUT = "10s"


@dataclass(frozen=True)
class DaskExecutor:
    """Runs tasks as one Dask graph on the cluster of `client`: a leaf for each block, then a tree of merges."""

    client: Client

    def map_merge(
        self,
        task: BlockTask[Result],
        merge: Callable[[Sequence[Result]], Result],
        groups: Sequence[Sequence[Block]],
        advance: Advance,
    ) -> list[Result]:
        topic = f"zarrnorm-{uuid4().hex}"
        shared = delayed(task, traverse=False)
        roots = [_tree([_leaf(shared, task, block, topic) for block in blocks], merge) for blocks in groups]
        self.client.subscribe_topic(topic, lambda event: advance(event[1]))
        try:
            futures = self.client.compute(roots, optimize_graph=False)
            return list(self.client.gather(futures))
        except distributed.KilledWorker as error:
            raise ClusterError(
                "workers died while they ran the same task",
                where=self.client.scheduler_info()["address"],
                found=str(error).split(". ")[0],
                remedy="lower block_bytes or threads_per_worker, or give the workers more memory; `zarrnorm plan` predicts it",
            ) from error
        except (distributed.CancelledError, CommClosedError) as error:
            raise ClusterError(
                "the cluster went away during the run", found=str(error), remedy="start it and run again"
            ) from error
        finally:
            if self.client.status == "running":
                self.client.unsubscribe_topic(topic)


def _leaf(shared: Any, task: BlockTask[Any], block: Block, topic: str) -> Any:
    done = _Done(topic, decoded_bytes(block, task.source.dtype))
    if isinstance(task.source, LazySource):
        return delayed(_run, pure=False)(shared, block, task.source.lazy[block.slices], done)
    return delayed(_read_and_run, pure=False)(shared, block, done)


def _tree(nodes: list[Any], merge: Callable[[Sequence[Any]], Any]) -> Any:
    while len(nodes) > 1:
        heaps = [nodes[first : first + MERGE_FAN_IN] for first in range(0, len(nodes), MERGE_FAN_IN)]
        nodes = [delayed(merge, pure=False)(heap) if len(heap) > 1 else heap[0] for heap in heaps]
    return nodes[0]


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


def _run(task: BlockTask[Result], block: Block, values: Any, done: _Done) -> Result:
    result = task(block, values)
    done.tell()
    return result


@contextmanager
def connect(config: ClusterConfig) -> Iterator[DaskExecutor]:
    """An executor on the cluster that `config` describes; what was started for it ends with the context.

    Raises
    ------
    ClusterError
        Where no scheduler answers at the address.
    """
    if isinstance(config, AddressClusterConfig):
        with _client_at(config.address) as client:
            yield DaskExecutor(client)
        return
    with _local_cluster(config) as cluster, Client(cluster) as client:
        yield DaskExecutor(client)


def threads_per_worker(config: ClusterConfig) -> int:
    """How many tasks a worker runs at once; 1 is supposed of a cluster that is only known by its address."""
    if isinstance(config, AddressClusterConfig):
        return 1
    return config.threads_per_worker or max(1, CPU_COUNT // config.workers)


def _local_cluster(config: LocalClusterConfig) -> LocalCluster:
    return LocalCluster(
        n_workers=config.workers,
        threads_per_worker=threads_per_worker(config),
        processes=config.processes,
        memory_limit="auto" if config.processes else 0,
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.ERROR,
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
