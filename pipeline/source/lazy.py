"""A Dask array as a source, its chunks as the blocks. Not here: Dask itself; the array brings what is called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, pairwise, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.block import Block
from pipeline.errors import SourceError


@dataclass(frozen=True, eq=False)
class LazySource:
    """A Dask array with named dims and coordinates.

    Parameters
    ----------
    lazy : dask.array.Array
        With known chunk sizes.
    dims : tuple of str
        One name for each of its axes.
    sample_dim : str
        The dim along which there are more and more observations.
    coordinates : mapping of str to (str, ndarray)
        For each name the dim it runs along and its values.
    """

    lazy: Any
    dims: tuple[str, ...]
    sample_dim: str
    coordinates: Mapping[str, tuple[str, NDArray[Any]]] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        """Without the graph: on a worker the values come as a dependency of the task, never through `read`."""
        return {**self.__dict__, "lazy": None}

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.lazy.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = np.dtype(self.lazy.dtype)
        return dtype

    @property
    def read_unit(self) -> tuple[int, ...]:
        return tuple(max((1, *sizes)) for sizes in self.lazy.chunks)

    def blocks(self, whole: frozenset[int]) -> Iterator[Block]:
        """The array's chunks as boxes, joined along the axes `whole`."""
        edges = [
            (0, size) if axis in whole else tuple(accumulate(sizes, initial=0))
            for axis, (sizes, size) in enumerate(zip(self.lazy.chunks, self.shape, strict=True))
        ]
        for spans in product(*(tuple(pairwise(edge)) for edge in edges)):
            block = Block(tuple(start for start, _ in spans), tuple(stop for _, stop in spans))
            if block.size:
                yield block

    def labels(self, dim: str) -> NDArray[Any] | None:
        along, values = self.coordinates.get(dim, (None, None))
        return values if along == dim else None

    def coordinate(self, name: str) -> tuple[str, NDArray[Any]]:
        if name not in self.coordinates:
            raise SourceError(
                "no such coordinate",
                where=name,
                found=name,
                expected=", ".join(self.coordinates) or "an array with coordinates",
            )
        return self.coordinates[name]

    def check(self) -> None:
        """Nothing is stored, so nothing can be missing."""

    def read(self, block: Block) -> NDArray[Any]:
        return np.asarray(self.lazy[block.slices].compute(scheduler="synchronous"))

    def provenance(self) -> dict[str, Any]:
        return {"kind": "dask", "shape": list(self.shape), "dtype": self.dtype.str}
