"""Index boxes and how an array is tiled with them.

A block is the unit of reading and of a write. Not here: what is read or written.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import overload

DEFAULT_BLOCK_BYTES = 128 * 2**20
MULTIPLES_TRIED = 16


@dataclass(frozen=True, slots=True)
class Block:
    """A half-open box of indices, one slice a dim.

    Parameters
    ----------
    start, stop : tuple of int
        First index and one past the last, for every dim.

    Examples
    --------
    >>> block = Block((0, 4), (2, 8))
    >>> block.shape, block.size
    ((2, 4), 8)
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(stop - start for start, stop in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        return tuple(slice(start, stop) for start, stop in zip(self.start, self.stop, strict=True))

    def shifted(self, offset: Iterable[int]) -> Block:
        """The box moved by `offset` along each dim."""
        moved = tuple(offset)
        return Block(
            tuple(first + by for first, by in zip(self.start, moved, strict=True)),
            tuple(last + by for last, by in zip(self.stop, moved, strict=True)),
        )

    def __str__(self) -> str:
        inside = ", ".join(f"{start}:{stop}" for start, stop in zip(self.start, self.stop, strict=True))
        return f"[{inside}]"


@dataclass(frozen=True)
class Tiling(Sequence[Block]):
    """Boxes that are every combination of one span along each dim, in C order, without an object for each of them.

    A million boxes take no more memory than the spans along each dim, which of a regular tiling are ranges.

    Parameters
    ----------
    starts, stops : tuple of sequences of int
        For each dim the first index of every span, and one past its last, in order.
    shape : tuple of int
        That of the array: no span reaches beyond it, whatever its stop.

    Examples
    --------
    >>> boxes = Tiling.regular((5, 2), (3, 2))
    >>> len(boxes), boxes.largest, boxes.size
    (2, (3, 2), 10)
    >>> [str(block) for block in boxes]
    ['[0:3, 0:2]', '[3:5, 0:2]']
    """

    starts: tuple[Sequence[int], ...]
    stops: tuple[Sequence[int], ...]
    shape: tuple[int, ...]

    @classmethod
    def regular(cls, shape: tuple[int, ...], step: tuple[int, ...]) -> Tiling:
        """What `tile` yields."""
        sizes = list(zip(shape, step, strict=True))
        stops = tuple(range(width, size + width, width) for size, width in sizes)
        return cls(tuple(range(0, size, width) for size, width in sizes), stops, shape)

    def __len__(self) -> int:
        return math.prod(map(len, self.starts))

    @overload
    def __getitem__(self, index: int) -> Block: ...

    @overload
    def __getitem__(self, index: slice) -> list[Block]: ...

    def __getitem__(self, index: int | slice) -> Block | list[Block]:
        if isinstance(index, slice):
            return [self[each] for each in range(len(self))[index]]
        rest = range(len(self))[index]
        places: list[int] = []
        for starts in reversed(self.starts):
            rest, place = divmod(rest, len(starts))
            places.append(place)
        spans = [self._span(axis, place) for axis, place in enumerate(reversed(places))]
        return Block(tuple(start for start, _ in spans), tuple(stop for _, stop in spans))

    @property
    def largest(self) -> tuple[int, ...]:
        """The size of the longest span along each dim, which is the shape of the largest box; 0 where there is none."""
        return tuple(self._extent(axis)[0] for axis in range(len(self.shape)))

    @property
    def size(self) -> int:
        """How many elements are in the boxes, all together."""
        return math.prod(self._extent(axis)[1] for axis in range(len(self.shape)))

    def keep(self, axis: int, places: Sequence[int]) -> Tiling:
        """The boxes of the spans at `places`, which ascend, along `axis`."""
        starts, stops = (_picked(cuts[axis], places) for cuts in (self.starts, self.stops))
        return replace(self, starts=_replaced(self.starts, axis, starts), stops=_replaced(self.stops, axis, stops))

    def _span(self, axis: int, place: int) -> tuple[int, int]:
        return self.starts[axis][place], min(self.stops[axis][place], self.shape[axis])

    def _extent(self, axis: int) -> tuple[int, int]:
        """How long the longest span along `axis` is, and how long they are together."""
        starts = self.starts[axis]
        if starts and isinstance(starts, range):  # they follow on each other, and all but the last are as long as the first
            first, last = self._span(axis, 0), self._span(axis, -1)
            return first[1] - first[0], last[1] - first[0]
        spans = (self._span(axis, place) for place in range(len(starts)))
        widths = [stop - start for start, stop in spans]
        return max(widths, default=0), sum(widths)


def _picked(cuts: Sequence[int], places: Sequence[int]) -> Sequence[int]:
    """`cuts` at `places`: a part of a range stays one where that is possible, whatever it holds."""
    if len(places) and places[-1] - places[0] == len(places) - 1:
        return cuts[places[0] : places[-1] + 1]
    return tuple(cuts[place] for place in places)


def _replaced(cuts: tuple[Sequence[int], ...], axis: int, new: Sequence[int]) -> tuple[Sequence[int], ...]:
    return (*cuts[:axis], new, *cuts[axis + 1 :])


def tile(shape: tuple[int, ...], step: tuple[int, ...]) -> Iterator[Block]:
    """Boxes of `step` that tile `shape` exactly, in C order; those at the upper edges are cut.

    Parameters
    ----------
    shape : tuple of int
        Size of the array along each dim; a size of 0 gives no box.
    step : tuple of int
        Size of a box along each dim, at least 1.

    Examples
    --------
    >>> [str(block) for block in tile((5, 2), (3, 2))]
    ['[0:3, 0:2]', '[3:5, 0:2]']
    """
    starts = (range(0, size, width) for size, width in zip(shape, step, strict=True))
    for start in product(*starts):
        stop = tuple(min(first + width, size) for first, width, size in zip(start, step, shape, strict=True))
        yield Block(start, stop)


def tile_count(shape: tuple[int, ...], step: tuple[int, ...]) -> int:
    """How many boxes `tile` yields."""
    return math.prod(-(-size // width) for size, width in zip(shape, step, strict=True))


def block_step(
    shape: tuple[int, ...],
    unit: tuple[int, ...],
    itemsize: int,
    block_bytes: int = DEFAULT_BLOCK_BYTES,
    whole: frozenset[int] = frozenset(),
    last: frozenset[int] = frozenset(),
) -> tuple[int, ...]:
    """The box size, in whole units, that comes closest to `block_bytes` without passing it.

    Trailing dims grow first, so that a block is a run of storage and holds as many features as it can; but the axes `last`
    after all others. One unit is the least a block can be, even where that is more than `block_bytes`.

    Parameters
    ----------
    shape : tuple of int
        Size of the array along each dim.
    unit : tuple of int
        What must not be cut: a stored chunk, or a shard where there are shards.
    itemsize : int
        Bytes of one decoded element.
    block_bytes : int
        Decoded bytes that a block should take.
    whole : frozenset of int
        Axes along which a block must hold everything, for steps that look at whole vectors.
    last : frozenset of int
        Axes along which a block is to be short.

    Returns
    -------
    tuple of int

    Examples
    --------
    >>> block_step((60000, 28, 28), (100, 28, 28), itemsize=1, block_bytes=10**6)
    (1200, 28, 28)
    >>> block_step((9000, 2000), (100, 500), 4, 10**6), block_step((9000, 2000), (100, 500), 4, 10**6, last=frozenset({1}))
    ((100, 2000), (500, 500))
    """
    step = [size if axis in whole else min(width, size) for axis, (size, width) in enumerate(zip(shape, unit, strict=True))]
    step = [max(1, width) for width in step]
    for axis in sorted(range(len(shape)), key=lambda axis: (axis in last, -axis)):
        slice_bytes = math.prod(step) // step[axis] * itemsize
        fitting = block_bytes // slice_bytes
        if fitting < shape[axis]:
            step[axis] *= max(1, fitting // step[axis])
            break
        step[axis] = max(1, shape[axis])
    return tuple(step)


def step_of_fewest_reads(
    shape: tuple[int, ...],
    stored: tuple[int, ...],
    unit: tuple[int, ...],
    size_at_most: int,
    whole: frozenset[int] = frozenset(),
) -> tuple[int, ...]:
    """The box size, in whole `unit`s and of at most so many elements, whose boxes touch the units of another grid least often.

    Parameters
    ----------
    shape : tuple of int
        Size of the array along each dim.
    stored : tuple of int
        The units that are fetched by every box that touches them.
    unit : tuple of int
        What a box must not cut. One is the least that a box can be, even where that is more than `size_at_most`.
    size_at_most : int
    whole : frozenset of int
        Axes along which a box must hold everything.

    Examples
    --------
    >>> step_of_fewest_reads((64, 4096, 4096), (1, 512, 512), (16, 300, 300), 2**25)
    (16, 900, 2100)
    """
    widths = [
        [max(1, size)] if axis in whole else _widths(size, read, write)
        for axis, (size, read, write) in enumerate(zip(shape, stored, unit, strict=True))
    ]
    touches = [
        {width: _touches(size, read, width) for width in along} for size, read, along in zip(shape, stored, widths, strict=True)
    ]
    fitting = (step for step in product(*widths) if math.prod(step) <= size_at_most)
    least = tuple(along[0] for along in widths)

    def cost(step: tuple[int, ...]) -> tuple[int, int]:
        return math.prod(each[width] for each, width in zip(touches, step, strict=True)), math.prod(step)

    return min(fitting, key=cost, default=least)


def _widths(size: int, stored: int, unit: int) -> list[int]:
    """Widths in whole `unit`s, ascending, of which one may cut the fewest of the units `stored`."""
    if unit % stored == 0:
        return [max(1, min(unit, size))]
    both = math.lcm(stored, unit)
    few = (unit * count for count in range(1, MULTIPLES_TRIED))
    more = (width << shift for width in (unit, both) for shift in range(size.bit_length()))
    return sorted({max(1, min(width, size)) for width in (*few, *more)})


def _touches(size: int, stored: int, width: int) -> int:
    """How often units of `stored` are touched along an axis cut into boxes of `width`: once more for each cut inside of one."""
    cuts = max(0, -(-size // width) - 1)
    return -(-size // stored) + cuts - cuts // (stored // math.gcd(width, stored))


def is_aligned(block: Block, unit: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether `block` covers whole units of the grid `unit`, those at the upper edges of `shape` as far as they reach.

    Examples
    --------
    >>> is_aligned(Block((3,), (5,)), unit=(3,), shape=(5,)), is_aligned(Block((0,), (5,)), unit=(3,), shape=(6,))
    (True, False)
    """
    return all(
        start % width == 0 and 0 <= start <= stop <= size and (stop % width == 0 or stop == size)
        for start, stop, width, size in zip(block.start, block.stop, unit, shape, strict=True)
    )


def overlapping(block: Block, unit: tuple[int, ...]) -> Iterator[Block]:
    """The parts of `block` in each unit of the grid `unit` that it touches, in C order.

    Examples
    --------
    >>> [str(part) for part in overlapping(Block((2,), (7,)), unit=(3,))]
    ['[2:3]', '[3:6]', '[6:7]']
    """
    edges = (
        range(start // width * width, stop, width) for start, stop, width in zip(block.start, block.stop, unit, strict=True)
    )
    for corner in product(*edges):
        start = tuple(max(first, edge) for first, edge in zip(block.start, corner, strict=True))
        stop = tuple(min(last, edge + width) for last, edge, width in zip(block.stop, corner, unit, strict=True))
        yield Block(start, stop)


def axes_of(dims: Sequence[str], names: Container[str]) -> tuple[int, ...]:
    """The axes of those of `dims` that are among `names`, ascending.

    Examples
    --------
    >>> axes_of(("sample", "y", "x"), {"x", "sample"})
    (0, 2)
    """
    return tuple(axis for axis, dim in enumerate(dims) if dim in names)


def group_by_axes(blocks: Tiling, axes: tuple[int, ...]) -> dict[Block, Tiling]:
    """The blocks that cover the same indices along `axes`, keyed by the box of those indices.

    Examples
    --------
    >>> groups = group_by_axes(Tiling.regular((4, 2), (2, 1)), axes=(1,))
    >>> {str(box): len(blocks) for box, blocks in groups.items()}
    {'[0:1]': 2, '[1:2]': 2}
    """
    groups: dict[Block, Tiling] = {}
    for places in product(*(range(len(blocks.starts[axis])) for axis in axes)) if len(blocks) else ():
        group = blocks
        for axis, place in zip(axes, places, strict=True):
            group = group.keep(axis, (place,))
        first = group[0]
        groups[Block(tuple(first.start[axis] for axis in axes), tuple(first.stop[axis] for axis in axes))] = group
    return groups
