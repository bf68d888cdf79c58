"""What every sink is: an array written block by block that can be opened only once all of it is there.

Not here: any particular sink.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.block import Block


class Sink(Protocol):
    """One array of an output that is being written.

    Picklable and small: a sink travels to a worker as a description and opens its store there. Any worker may write any
    block, at any time, more than once.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def write_unit(self) -> tuple[int, ...]:
        """The shape that is stored as one object, a shard or a chunk: what no two tasks may share."""
        ...

    def write(self, block: Block, values: NDArray[Any]) -> None:
        """Store `values` as those of `block`; raises WriteError where that is not possible or would share an object."""
        ...

    def commit(self) -> None:
        """Make the output one that opens; raises WriteError where a part of it was not written."""
        ...

    def abandon(self) -> None:
        """Give the output up, unless it is committed: nothing more is written to it, and the next run may have it."""
        ...
