"""One BLAS thread a task, wherever the tasks run, and as many as before afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_info, threadpool_limits

from pipeline.block import Block, tile
from pipeline.cluster import connect
from pipeline.config import LocalClusterConfig
from pipeline.room import Room
from pipeline.source.memory import MemorySource
from pipeline.source.source import Source

SOURCE = MemorySource(np.arange(8.0).reshape(4, 2), ("cell", "gene"))


def _blas_threads() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


@dataclass(frozen=True)
class BlasThreads:
    """The most threads that a BLAS of the process has where the task runs."""

    source: Source = SOURCE

    def __call__(self, block: Block, values: NDArray[Any], room: Room) -> int:
        return max(_blas_threads(), default=1)


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_a_task_has_one_blas_thread(processes: bool) -> None:
    with threadpool_limits(2, user_api="blas"):
        before = _blas_threads()
        config = LocalClusterConfig(kind="local", workers=1, threads_per_worker=2, processes=processes)
        with connect(config) as executor:
            blocks = list(tile((4, 2), (1, 2)))
            assert executor.map_merge(BlasThreads(), max, [blocks], lambda nbytes: None) == [1]
        assert _blas_threads() == before
