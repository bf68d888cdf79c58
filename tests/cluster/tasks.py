"""Tasks that tests of executors run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.block import Block, tile
from pipeline.errors import DataError
from pipeline.room import Room
from pipeline.source.memory import MemorySource
from pipeline.source.source import Source

VALUES = np.arange(60.0).reshape(20, 3)
SOURCE = MemorySource(VALUES, ("cell", "gene"))
ONE_BY_ONE = [list(tile((20, 3), (1, 3)))]


@dataclass(frozen=True)
class Total:
    """The sum of each block."""

    source: Source = SOURCE

    def __call__(self, block: Block, values: NDArray[Any], room: Room) -> float:
        return float(values.sum())


@dataclass(frozen=True)
class Slow:
    """Leaves a file for each block that it began and one for each that it ended; the first block fails in between."""

    folder: Path
    seconds: float
    source: Source = SOURCE

    def __call__(self, block: Block, values: NDArray[Any], room: Room) -> float:
        first = block.start[0]
        (self.folder / f"began-{first}").touch()
        if first == 0:
            wait_for(self.folder, "began-*", 2)
            raise DataError("the first block fails")
        time.sleep(self.seconds)
        (self.folder / f"ended-{first}").touch()
        return 0.0


def wait_for(folder: Path, pattern: str, count: int) -> None:
    until = time.monotonic() + 20
    while len(list(folder.glob(pattern))) < count and time.monotonic() < until:
        time.sleep(0.01)


def assert_nothing_goes_on(folder: Path) -> None:
    began = {path.name.partition("-")[2] for path in folder.glob("began-*")}
    ended = {path.name.partition("-")[2] for path in folder.glob("ended-*")}
    assert len(began) >= 2
    assert ended == began - {"0"}
    time.sleep(0.5)
    assert len(list(folder.iterdir())) == len(began) + len(ended)
