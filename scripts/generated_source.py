"""An array of any size that takes no room and no time to read, and a task whose result is a state of realistic size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.block import Block
from pipeline.gather import Grouped, summarize
from pipeline.room import Room

DIMS = ("cell", "gene")


@dataclass(frozen=True)
class GeneratedSource:
    """Ones, each block of which is read in constant time: a view of a single value.

    Parameters
    ----------
    shape : tuple of int
        Cells and genes.
    """

    shape: tuple[int, ...]
    dims: tuple[str, ...] = DIMS
    sample_dim: str = DIMS[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    @property
    def read_unit(self) -> tuple[int, ...]:
        return (1, *self.shape[1:])

    def labels(self, dim: str) -> NDArray[Any] | None:
        return None

    def coordinate(self, name: str) -> tuple[str, NDArray[Any]]:
        raise KeyError(name)

    def check(self) -> None:
        """Nothing is stored, so nothing can be missing."""

    @property
    def block_bytes(self) -> None:
        """Nothing is decoded."""

    def read(self, block: Block, room: Room | None = None) -> NDArray[Any]:
        return np.broadcast_to(np.float32(1), block.shape)

    def provenance(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class StateTask:
    """Gives the same summaries for every block, as if they were those of its values; an empty mapping of none.

    Parameters
    ----------
    source : GeneratedSource
    summaries : tuple of str
        Keys of `SUMMARIES`.
    rows : int
        Of how many cells they are, drawn from a normal distribution.
    """

    source: GeneratedSource
    summaries: tuple[str, ...]
    rows: int

    def __call__(self, block: Block, values: NDArray[Any], room: Room) -> Grouped:
        return {0: _state(self.summaries, self.rows, self.source.shape[1])} if self.summaries else {}


@cache
def _state(names: tuple[str, ...], rows: int, features: int) -> Mapping[str, Any]:
    values = np.random.default_rng(0).standard_normal((rows, features), dtype=np.float32)
    return summarize(names, values, feature_axes=(1,))
