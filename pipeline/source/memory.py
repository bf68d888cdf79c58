"""A NumPy array as a source. Not here: stores, and arrays of other libraries (`wrap.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from pipeline.block import Block
from pipeline.room import Room
from pipeline.source.array_source import ArraySource


@dataclass(frozen=True, eq=False)
class MemorySource(ArraySource):
    """An array in memory, with named dims and coordinates; see `ArraySource` for the parameters.

    Examples
    --------
    >>> import numpy as np
    >>> genes = ("gene", np.array(["a", "b", "c"]))
    >>> source = MemorySource(np.arange(6).reshape(2, 3), ("cell", "gene"), coordinates={"gene": genes})
    >>> source.read(Block((0, 1), (2, 3)))
    array([[1, 2],
           [4, 5]])
    >>> source.labels("gene")
    array(['a', 'b', 'c'], dtype='<U1')
    """

    kind: ClassVar[str] = "memory"

    @property
    def read_unit(self) -> tuple[int, ...]:
        """Any element can be had by itself."""
        return (1,) * len(self.shape)

    def read(self, block: Block, room: Room | None = None) -> NDArray[Any]:
        """A read-only view of the values of `block`; a copy only where their byte order is not native."""
        values: NDArray[Any] = self.values[block.slices]
        values = values.astype(self.dtype, copy=False) if not values.dtype.isnative else values.view()
        values.flags.writeable = False
        return values
