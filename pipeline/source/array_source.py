"""What an array in memory and a lazy one have in common as sources: dims, coordinates, labels, where they come from.

Not here: how values are had (`memory.py`, `lazy.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.dtypes import is_supported
from pipeline.errors import SourceError
from pipeline.source.labels import no_such_coordinate, usable_labels


@dataclass(frozen=True, eq=False)
class ArraySource:
    """An array with named dims and coordinates.

    Parameters
    ----------
    values : array
        Of real numbers of up to 64 bits; never changed.
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
    """

    kind: ClassVar[str]

    values: Any
    dims: tuple[str, ...]
    sample_dim: str = ""
    coordinates: Mapping[str, tuple[str, NDArray[Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not is_supported(self.values.dtype):
            raise SourceError(
                "the array does not hold real numbers of up to 64 bits",
                found=str(self.values.dtype),
                expected="bool, integers or floats",
            )
        if not self.shape or len(self.dims) != len(self.shape) or len(set(self.dims)) != len(self.dims):
            raise SourceError(
                "dims do not fit the array",
                found=", ".join(self.dims) or "none",
                expected=f"at least one and different names for shape {self.shape}",
            )
        object.__setattr__(self, "sample_dim", self.sample_dim or self.dims[0])
        if self.sample_dim not in self.dims:
            raise SourceError("no such dim", where="sample_dim", found=self.sample_dim, expected=", ".join(self.dims))
        sizes = dict(zip(self.dims, self.shape, strict=True))
        for name, (dim, values) in self.coordinates.items():
            if np.shape(values) != (sizes.get(dim),):
                raise SourceError(
                    "the coordinate fits no dim of the array",
                    where=name,
                    found=f"shape {np.shape(values)} along {dim}",
                    expected=", ".join(f"{each} {size}" for each, size in sizes.items()),
                )

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = np.dtype(self.values.dtype)
        return dtype.newbyteorder("=")

    @property
    def block_bytes(self) -> None:
        """Nothing is decoded."""

    @property
    def stored_chunks(self) -> list[int] | None:
        """The shape of the chunks, for the provenance, where there are chunks."""
        return None

    def labels(self, dim: str) -> NDArray[Any] | None:
        """The strings, integers or floats of the coordinate named like `dim`, None where there is none."""
        along, values = self.coordinates.get(dim, (None, None))
        return usable_labels(values) if along == dim and values is not None else None

    def coordinate(self, name: str) -> tuple[str, NDArray[Any]]:
        """The dim and the values of the coordinate `name`; raises SourceError where there is none."""
        if name not in self.coordinates:
            raise no_such_coordinate(name, self.coordinates, name)
        return self.coordinates[name]

    def check(self) -> None:
        """Nothing is stored, so nothing can be missing."""

    def provenance(self) -> dict[str, Any]:
        """That there is no store; JSON types."""
        return {
            "kind": self.kind,
            "store": None,
            "array": None,
            "dims": list(self.dims),
            "shape": list(self.shape),
            "dtype": self.dtype.name,
            "chunks": self.stored_chunks,
            "fingerprint": None,
        }
