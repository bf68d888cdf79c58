"""A NumPy, xarray or Dask array as a source.

Not here: stores, and the libraries themselves; each array brings its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.source.lazy import LazySource
from pipeline.source.memory import MemorySource
from pipeline.source.source import Source


def wrap_array(data: Any, dims: Sequence[str] | None = None, sample_dim: str | None = None) -> Source:
    """A source over `data`.

    Parameters
    ----------
    data : ndarray, dask.array.Array or xarray.DataArray
        An xarray array brings its dims and one-dimensional coordinates.
    dims : sequence of str, optional
        Names of the axes. Without them a NumPy or Dask array has `sample` first, then `dim_1`, `dim_2`, …
    sample_dim : str, optional
        The first dim by default.

    Raises
    ------
    SourceError
        Where dims do not fit the array, or its dtype is not a real number.
    """
    coordinates: dict[str, tuple[str, NDArray[Any]]] = {}
    if hasattr(data, "dims") and hasattr(data, "coords"):
        dims = _agreeing(dims, tuple(map(str, data.dims)))
        coordinates = _coordinates(data)
        data = data.data
    named = tuple(dims) if dims is not None else default_dims(data.ndim)
    _check(data, named)
    sample = sample_dim or named[0]
    if sample not in named:
        raise SourceError("no such dim", where="sample_dim", found=sample, expected=", ".join(named))
    if hasattr(data, "dask"):
        return LazySource(data, named, sample, coordinates)
    return MemorySource(np.asarray(data), named, sample, coordinates)


def default_dims(ndim: int) -> tuple[str, ...]:
    """Names for the axes of an array that has none.

    Examples
    --------
    >>> default_dims(3)
    ('sample', 'dim_1', 'dim_2')
    """
    return ("sample", *(f"dim_{axis}" for axis in range(1, ndim)))[:ndim]


def _agreeing(wanted: Sequence[str] | None, stored: tuple[str, ...]) -> tuple[str, ...]:
    if wanted is not None and tuple(wanted) != stored:
        raise SourceError("dims contradict those of the array", found=", ".join(wanted), expected=", ".join(stored))
    return stored


def _coordinates(data: Any) -> dict[str, tuple[str, NDArray[Any]]]:
    named: Mapping[Any, Any] = data.coords
    return {str(name): (str(values.dims[0]), np.asarray(values)) for name, values in named.items() if values.ndim == 1}


def _check(data: Any, dims: tuple[str, ...]) -> None:
    if data.ndim == 0 or len(dims) != data.ndim or len(set(dims)) != len(dims):
        raise SourceError(
            "dims do not fit the array", found=", ".join(dims) or "none", expected=f"{data.ndim} distinct names, at least one"
        )
    if np.dtype(data.dtype).kind not in "biuf":
        raise SourceError("the array does not hold real numbers", found=str(data.dtype), expected="bool, integers or floats")
    if hasattr(data, "dask") and any(np.isnan(size) for size in data.shape):
        raise SourceError(
            "the Dask array has unknown chunk sizes", found=str(data.shape), remedy="call compute_chunk_sizes() on it first"
        )
