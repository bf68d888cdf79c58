"""A NumPy array as a source. Not here: stores, and arrays of other libraries (`wrap.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.block import Block
from pipeline.errors import SourceError

LABEL_KINDS = "OUSTiuf"


@dataclass(frozen=True, eq=False)
class MemorySource:
    """An array in memory, with named dims and coordinates.

    Parameters
    ----------
    values : ndarray
        Of real numbers; never changed.
    dims : tuple of str
        One name for each of its axes.
    sample_dim : str, optional
        The dim along which there are more and more observations; the first by default.
    coordinates : mapping of str to (str, ndarray)
        For each name the dim it runs along and its values.

    Raises
    ------
    SourceError
        Where dims or coordinates do not fit, or the values are not real numbers.

    Examples
    --------
    >>> genes = ("gene", np.array(["a", "b", "c"]))
    >>> source = MemorySource(np.arange(6).reshape(2, 3), ("cell", "gene"), coordinates={"gene": genes})
    >>> source.read(Block((0, 1), (2, 3)))
    array([[1, 2],
           [4, 5]])
    >>> source.labels("gene")
    array(['a', 'b', 'c'], dtype='<U1')
    """

    values: NDArray[Any]
    dims: tuple[str, ...]
    sample_dim: str = ""
    coordinates: Mapping[str, tuple[str, NDArray[Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.values.dtype.kind not in "biuf":
            raise SourceError(
                "the array does not hold real numbers", found=str(self.values.dtype), expected="bool, integers or floats"
            )
        if self.values.ndim == 0 or len(self.dims) != self.values.ndim or len(set(self.dims)) != len(self.dims):
            raise SourceError(
                "dims do not fit the array",
                found=", ".join(self.dims) or "none",
                expected=f"at least one and different names for shape {self.values.shape}",
            )
        object.__setattr__(self, "sample_dim", self.sample_dim or self.dims[0])
        if self.sample_dim not in self.dims:
            raise SourceError("no such dim", where="sample_dim", found=self.sample_dim, expected=", ".join(self.dims))
        for name, (dim, values) in self.coordinates.items():
            if dim not in self.dims or np.shape(values) != (self._size(dim),):
                raise SourceError(
                    "the coordinate fits no dim of the array",
                    where=name,
                    found=f"shape {np.shape(values)} along {dim}",
                    expected=", ".join(f"{each} {self._size(each)}" for each in self.dims),
                )

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values.dtype.newbyteorder("=")

    @property
    def read_unit(self) -> tuple[int, ...]:
        """Any element can be had by itself."""
        return (1,) * self.values.ndim

    def labels(self, dim: str) -> NDArray[Any] | None:
        along, values = self.coordinates.get(dim, (None, None))
        return values if along == dim and values is not None and values.dtype.kind in LABEL_KINDS else None

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
        """A read-only view of the values of `block`; a copy only where their byte order is not native."""
        values = self.values[block.slices]
        values = values.astype(self.dtype, copy=False) if not values.dtype.isnative else values.view()
        values.flags.writeable = False
        return values

    def provenance(self) -> dict[str, Any]:
        """That there is no store; JSON types."""
        return {
            "kind": "memory",
            "store": None,
            "array": None,
            "dims": list(self.dims),
            "shape": list(self.shape),
            "dtype": self.dtype.name,
            "chunks": None,
            "fingerprint": None,
        }

    def _size(self, dim: str) -> int:
        return int(self.values.shape[self.dims.index(dim)])
