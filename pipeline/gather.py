"""What a pass does with a block for its statistics: steps inside the read, then a summary of each group; and how they join.

Not here: what carries a pass out (`executor.py`, `cluster/`) and what is fitted from it (`fitting.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.block import Block, Tiling, axes_of, group_by_axes
from pipeline.errors import DataError
from pipeline.executor import Advance, Executor
from pipeline.normalize.chain import FittedChain
from pipeline.normalize.grouped import Codes, GroupedChain, rows_by_code
from pipeline.normalize.step import Indexer
from pipeline.room import Room
from pipeline.source.source import Source
from pipeline.statistics import SUMMARIES
from pipeline.statistics.summary import Summary
from pipeline.statistics.weighted import Weighted

NOT_COUNTED = -1
EVERYTHING = -1

Summaries: TypeAlias = Mapping[str, Summary | Weighted]
Grouped: TypeAlias = Mapping[int, Summaries]


@dataclass(frozen=True)
class Gather:
    """What one pass over a source does with a block: steps inside the read, then the summaries of each group of samples.

    A block gives one set of summaries for each group that has samples in it, by the group's code. Without groups all samples
    are in group 0.

    Parameters
    ----------
    source : Source
    prefix : FittedChain or GroupedChain
        The steps that the values go through before they are summarized, to float64; none leaves them as they are.
    summaries : tuple of str
        Which summaries, keys of `SUMMARIES`.
    per : tuple of str
        The dims that are kept, in the order in which the prefix leaves them.
    codes : ndarray of int32, shape (samples,), optional
        The group of each sample, `NOT_COUNTED` for one that is left out; where None, all are in group 0.
    overall : FittedChain, optional
        Where each group has a prefix of its own, that of all samples together: their summaries are kept beside those of the
        groups, as `EVERYTHING`.
    weights : ndarray of float64, shape (samples,), optional
        How much each sample that is counted weighs: the summaries are then `Weighted`.
    among : int
        How many features there are in all, of which a block may hold a part.
    """

    source: Source
    prefix: FittedChain | GroupedChain
    summaries: tuple[str, ...]
    per: tuple[str, ...]
    codes: Codes | None = None
    overall: FittedChain | None = None
    weights: NDArray[np.float64] | None = None
    among: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "among", prod(self.feature_shape))  # now: a worker's source may be without its shape

    @property
    def feature_axes(self) -> tuple[int, ...]:
        """The axes of the source along which blocks hold other features."""
        return axes_of(self.source.dims, self.per)

    @property
    def feature_shape(self) -> tuple[int, ...]:
        whole = Block((0,) * len(self.feature_axes), tuple(self.source.shape[axis] for axis in self.feature_axes))
        return self.box(whole).shape

    def box(self, box: Block) -> Block:
        """`box`, of the source's features, as the prefix leaves it: along a dim that this changes, blocks hold everything."""
        own = [self.source.dims[axis] for axis in self.feature_axes]
        starts, stops = (dict(zip(own, ends, strict=True)) for ends in (box.start, box.stop))
        left = self.prefix.output_sizes({**dict.fromkeys(self.source.dims, 0), **stops})
        return Block(tuple(starts.get(dim, 0) for dim in self.per), tuple(left[dim] for dim in self.per))

    def __call__(self, block: Block, values: NDArray[Any], room: Room) -> Grouped:
        axis = self.source.dims.index(self.source.sample_dim)
        codes = np.zeros(values.shape[axis], np.int32) if self.codes is None else self.codes[block.slices[axis]]
        counted = codes != NOT_COUNTED
        weights = None if self.weights is None else self.weights[block.slices[axis]][counted]
        part: dict[str, Indexer] = dict(zip(self.source.dims, block.slices, strict=True))
        if not counted.all():
            codes, values = codes[counted], values.compress(counted, axis=axis)
            part[self.source.sample_dim] = block.start[axis] + np.flatnonzero(counted)
        if not codes.size:
            return {}
        found: dict[int, Summaries] = {}
        if self.overall is not None:
            found[EVERYTHING] = self._summarized(self.overall.select(part)(values, room=room), weights)
        prefixed = self.prefix.select(part)(values, room=room) if self.prefix.steps else values
        for code, rows in rows_by_code(codes):
            own = None if weights is None else weights[rows]
            found[code] = self._summarized(prefixed[(*self._before_samples, rows)], own)
        return found

    @property
    def _before_samples(self) -> tuple[slice, ...]:
        """What picks everything along the axes before that of the samples, of what the prefix puts out."""
        return (slice(None),) * self.prefix.output_dims.index(self.source.sample_dim)

    def _summarized(self, values: NDArray[Any], weights: NDArray[np.float64] | None) -> Summaries:
        """The summaries of `values` that the prefix put out."""
        axes = axes_of(self.prefix.output_dims, self.per)
        if weights is None:
            return summarize(self.summaries, values, axes, self.among)
        different, places = np.unique(weights, return_inverse=True)
        parts = {
            float(different[place]): summarize(self.summaries, values[(*self._before_samples, rows)], axes, self.among)
            for place, rows in rows_by_code(places.astype(np.int32))
        }
        return {name: Weighted({weight: part[name] for weight, part in parts.items()}) for name in self.summaries}


def summarize(
    names: Iterable[str], values: NDArray[Any], feature_axes: tuple[int, ...], among: int | None = None
) -> Mapping[str, Summary]:
    """The summaries `names` of `values`, each with one set for each position along `feature_axes`, a part of so many."""
    shape = tuple(values.shape[axis] for axis in feature_axes)
    return {name: SUMMARIES[name].empty(shape, values.dtype, among).update(values, feature_axes) for name in names}


def merge_summaries(parts: Sequence[Summaries]) -> Summaries:
    """The summaries of all the values of `parts`."""
    return {name: reduce(_merge, [part[name] for part in parts]) for name in parts[0]}


def _merge(one: Any, other: Any) -> Any:
    """One summary of two of a kind, weighted or not."""
    return one.merge(other)


def merge_groups(parts: Sequence[Grouped]) -> Grouped:
    """The summaries of each group that occurs in any of `parts`."""
    codes = sorted({code for part in parts for code in part})
    return {code: merge_summaries([part[code] for part in parts if code in part]) for code in codes}


def with_everything(found: Grouped) -> Grouped:
    """The same with the summaries of all samples together: where they were not gathered, those of the groups merged."""
    return found if EVERYTHING in found else {EVERYTHING: merge_summaries(list(found.values())), **found}


def gather(task: Gather, blocks: Tiling, executor: Executor, advance: Advance) -> Grouped:
    """The summaries of everything in `blocks` that `task` counts, of each group and of all together.

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
    merged = executor.map_merge(task, merge_groups, list(groups.values()), advance)
    boxes = [task.box(box) for box in groups]
    return with_everything(join_groups(list(zip(boxes, merged, strict=True)), task.feature_shape))


def join_groups(parts: Sequence[tuple[Block, Grouped]], feature_shape: tuple[int, ...]) -> Grouped:
    """The summaries of all features of each group, from those of disjoint boxes of features."""
    return {code: join_summaries([(box, part[code]) for box, part in parts], feature_shape) for code in parts[0][1]}


def join_summaries(parts: Sequence[tuple[Block, Summaries]], feature_shape: tuple[int, ...]) -> Summaries:
    """The summaries of all features from those of disjoint boxes of them."""
    first: Mapping[str, Any] = parts[0][1]
    if len(parts) == 1:
        return first
    return {
        name: type(summary).join([(box, part[name]) for box, part in parts], feature_shape) for name, summary in first.items()
    }
