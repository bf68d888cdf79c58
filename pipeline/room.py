"""Memory that one thread uses again and again. Not here: what is put there."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Room:
    """Memory for arrays of which each is needed only until the next is made.

    Memory that is new to a process is handed out page by page, which can take longer than to decode a chunk into it.

    Examples
    --------
    >>> room = Room()
    >>> first = room.array((2, 3), np.float32)
    >>> np.shares_memory(first, room.array((5,), np.uint8))
    True
    """

    def __init__(self) -> None:
        self._memory: NDArray[np.uint8] = np.empty(0, np.uint8)

    @property
    def size(self) -> int:
        """Bytes that have been needed at once so far."""
        return self._memory.size

    def array(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """A C-contiguous array, not filled, in the place of the last one."""
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        if nbytes > self._memory.size:
            self._memory = np.empty(nbytes, np.uint8)
        return self._memory[:nbytes].view(dtype).reshape(shape)


def array_in(room: Room | None, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array that is not filled, in `room`, or of its own where that is None."""
    return np.empty(shape, dtype) if room is None else room.array(shape, dtype)
