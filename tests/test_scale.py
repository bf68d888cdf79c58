"""What a store takes before anything is read depends on its bytes and not on how finely it is chunked: counted, not timed."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
import zarr
from distributed import Client
from distributed.protocol.pickle import dumps
from numpy.typing import NDArray

from pipeline.block import Block, Tiling
from pipeline.cluster import connect
from pipeline.config import Config, LocalClusterConfig, parse_config
from pipeline.room import Room
from pipeline.run import plan_config
from pipeline.source.open import open_source
from pipeline.source.source import Source
from scripts.generated_store import GeneratedStore

MILLION = 1_000_000
MIB = 2**20
STORES = {
    "small": ((10 * MILLION, 20), (10, 20), ("cell", "gene")),
    "square": ((10_000, 20_000), (10, 20), ("cell", "gene")),
    "images": ((MILLION, 64, 64, 3), (1, 64, 64, 3), ("sample", "y", "x", "channel")),
    "large": ((16_384 * MILLION, 2048), (16_384, 2048), ("cell", "gene")),
}


def _peak_bytes(work: Callable[[], Any]) -> int:
    """The most that `work` had allocated at a time."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _configured(folder: Path, shape: tuple[int, ...], chunks: tuple[int, ...], dims: tuple[str, ...]) -> Config:
    """A configuration for an array of which no chunk is stored."""
    zarr.create_array(folder / "x.zarr", shape=shape, chunks=chunks, dtype="f4", dimension_names=dims)
    document = {
        "source": {"store": str(folder / "x.zarr"), "missing_chunks": "fill"},
        "normalize": ["log1p", {"zscore": {"per": [dims[-1]]}}],
        "output": {"store": str(folder / "out.zarr")},
        "cluster": {"kind": "local", "threads_per_worker": 2},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(document))
    return parse_config(document, Config)


@pytest.mark.parametrize("name", STORES)
def test_a_million_chunks_are_planned_in_a_few_thousand_tasks_and_little_memory(name: str, tmp_path: Path) -> None:
    shape, chunks, dims = STORES[name]
    config = _configured(tmp_path, shape, chunks, dims)
    plan_config(config)  # what is imported and cached on the way is no part of it
    assert _peak_bytes(lambda: plan_config(config)) < 8 * MIB
    planned = plan_config(config)
    assert planned.to_json()["blocks"] <= 2 * max(17, 1.1 * np.prod(shape) * 4 / (32 * MIB))
    assert all(phase.tasks <= 5000 for phase in planned.phases)
    assert name != "large" or [phase.blocks for phase in planned.phases] == [MILLION, MILLION]


def test_the_keys_of_a_store_are_listed_in_parts() -> None:
    """200,000 of them, which would take 20 MB at once, are compared in a fraction of that."""
    source = open_source(GeneratedStore((200_000, 8), (1, 8), "uint8", ("cell", "gene")))
    assert source.grid.size == 200_000
    assert _peak_bytes(source.check) < 4 * MIB
    assert source.provenance()["fingerprint"] is not None


@dataclass(frozen=True)
class Vast:
    """An array of ones of any size that takes no room."""

    shape: tuple[int, ...]
    dims: tuple[str, ...] = ("cell", "gene")
    sample_dim: str = "cell"

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype("float32")

    def read(self, block: Block, room: Room | None = None) -> NDArray[Any]:
        return np.broadcast_to(np.float32(1), block.shape)


@dataclass(frozen=True)
class Sizes:
    """How many values there are."""

    source: Source

    def __call__(self, block: Block, values: NDArray[Any], room: Room) -> int:
        return values.size


class SeenError(Exception):
    """Ends a run before it begins."""


def test_the_graph_of_a_million_blocks_is_no_larger_than_that_of_some_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[Any] = []

    def get(self: Client, graph: Any, keys: Any, **options: Any) -> Any:
        graphs.append(dict(graph))
        raise SeenError

    monkeypatch.setattr(Client, "get", get)
    source: Any = Vast((MILLION * 8, 2000))
    with connect(LocalClusterConfig(threads_per_worker=2, processes=True)) as executor, pytest.raises(SeenError):
        executor.map_merge(Sizes(source), sum, [Tiling.regular(source.shape, (8, 2000))], lambda _: None)
    assert len(graphs[0]) <= 5000
    assert len(dumps(graphs[0])) <= MIB


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_many_thousand_blocks_are_all_done(processes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.executor.BLOCK_TASKS", 100)  # which only processes have
    source: Any = Vast((20_000, 4))
    told = [0]
    with connect(LocalClusterConfig(threads_per_worker=2, processes=processes)) as executor:

        def advance(nbytes: int) -> None:
            told[0] += nbytes

        groups = [Tiling.regular(source.shape, (1, 4)), Tiling.regular((5000, 4), (1, 2))]
        assert executor.map_merge(Sizes(source), sum, groups, advance) == [80_000, 20_000]
    assert told[0] == 4 * 100_000
