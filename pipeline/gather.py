"""What a pass does with a block for its statistics: steps inside the read, then a summary; and how summaries join.

Not here: what carries a pass out (`executor.py`, `cluster.py`) and what is fitted from it (`fitting.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.block import Block, group_by_axes
from pipeline.errors import DataError
from pipeline.executor import Advance, Executor
from pipeline.normalize.chain import FittedChain
from pipeline.source.source import Source
from pipeline.statistics import SUMMARIES
from pipeline.statistics.summary import Summary


@dataclass(frozen=True)
class Gather:
    """What one pass over a source does with a block: steps inside the read, then a summary.

    Parameters
    ----------
    source : Source
    prefix : FittedChain
        The steps that the values go through before they are summarized, to float64; none leaves them as they are.
    summary : str
        Which summary, a key of `SUMMARIES`.
    per : tuple of str
        The dims that are kept.
    selected : ndarray of bool, optional
        Which positions along the sample dim count; all of them where None.
    """

    source: Source
    prefix: FittedChain
    summary: str
    per: tuple[str, ...]
    selected: NDArray[np.bool_] | None = None

    @property
    def feature_axes(self) -> tuple[int, ...]:
        return tuple(axis for axis, dim in enumerate(self.source.dims) if dim in self.per)

    @property
    def feature_shape(self) -> tuple[int, ...]:
        return tuple(self.source.shape[axis] for axis in self.feature_axes)

    def __call__(self, block: Block, values: NDArray[Any]) -> Summary:
        values = self._keep_selected(block, values)
        if self.prefix.steps:
            part = dict(zip(self.source.dims, block.slices, strict=True))
            values = self.prefix.select(part)(values)
        return summarize(self.summary, values, self.feature_axes)

    def _keep_selected(self, block: Block, values: NDArray[Any]) -> NDArray[Any]:
        if self.selected is None:
            return values
        axis = self.source.dims.index(self.source.sample_dim)
        kept = self.selected[block.slices[axis]]
        return values if kept.all() else values.compress(kept, axis=axis)


def summarize(name: str, values: NDArray[Any], feature_axes: tuple[int, ...]) -> Summary:
    """The summary `name` of `values`, one for each position along `feature_axes`."""
    shape = tuple(values.shape[axis] for axis in feature_axes)
    return SUMMARIES[name].empty(shape, values.dtype).update(values, feature_axes)


def merge_summaries(summaries: Sequence[Summary]) -> Summary:
    """The summary of all the values of `summaries`."""
    return reduce(lambda one, other: one.merge(other), summaries)


def gather(task: Gather, blocks: Iterable[Block], executor: Executor, advance: Advance) -> Summary:
    """The summary of everything in `blocks` that `task` selects.

    Blocks that hold the same features are merged with each other; the results are then joined along the features.

    Raises
    ------
    ChunkError
        Where a stored chunk cannot be read.
    DataError
        Where no block has a selected value.
    """
    groups = group_by_axes(blocks, task.feature_axes)
    if not groups:
        raise DataError(
            "there is nothing to fit on",
            found=f"an array of shape {task.source.shape}",
            expected="at least one value",
        )
    merged = executor.map_merge(task, merge_summaries, list(groups.values()), advance)
    return join_summaries(list(zip(groups, merged, strict=True)), task.feature_shape)


def join_summaries(parts: Sequence[tuple[Block, Summary]], feature_shape: tuple[int, ...]) -> Summary:
    """One summary from those of disjoint boxes of features."""
    return parts[0][1] if len(parts) == 1 else type(parts[0][1]).join(parts, feature_shape)
