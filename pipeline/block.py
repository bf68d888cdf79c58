"""Index boxes and how an array is tiled with them.

A block is the unit of reading, of a task and of a write. Not here: what is read or written.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

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
) -> tuple[int, ...]:
    """The box size, in whole units, that comes closest to `block_bytes` without passing it.

    Trailing dims grow first, so that a block is a run of storage and holds as many features as it can. One unit
    is the least a block can be, even where that is more than `block_bytes`.

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

    Returns
    -------
    tuple of int

    Examples
    --------
    >>> block_step((60000, 28, 28), (100, 28, 28), itemsize=1, block_bytes=10**6)
    (1200, 28, 28)
    """
    step = [size if axis in whole else min(width, size) for axis, (size, width) in enumerate(zip(shape, unit, strict=True))]
    step = [max(1, width) for width in step]
    for axis in reversed(range(len(shape))):
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


def group_by_axes(blocks: Iterable[Block], axes: tuple[int, ...]) -> dict[Block, list[Block]]:
    """The blocks that cover the same indices along `axes`, keyed by the box of those indices.

    Examples
    --------
    >>> groups = group_by_axes(tile((4, 2), (2, 1)), axes=(1,))
    >>> {str(box): len(blocks) for box, blocks in groups.items()}
    {'[0:1]': 2, '[1:2]': 2}
    """
    groups: dict[Block, list[Block]] = {}
    for block in blocks:
        box = Block(tuple(block.start[axis] for axis in axes), tuple(block.stop[axis] for axis in axes))
        groups.setdefault(box, []).append(block)
    return groups
