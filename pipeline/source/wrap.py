"""A NumPy, xarray or Dask array as a source.

Not here: stores, and the libraries themselves; each array brings its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.source.kinds import as_array, is_dask, is_table, is_xarray
from pipeline.source.lazy import LazySource
from pipeline.source.memory import MemorySource

EXPECTED = "a path, a URL or a Zarr store, or an array of Zarr, NumPy, xarray or Dask"


def wrap_array(data: Any, dims: Sequence[str] | None = None, sample_dim: str | None = None) -> LazySource | MemorySource:
    """A source over `data`.

    Parameters
    ----------
    data : array_like, dask.array.Array or xarray.DataArray
        An xarray array brings its dims and one-dimensional coordinates.
    dims : sequence of str, optional
        Names of the axes. Without them a NumPy or Dask array has `sample` first, then `dim_1`, `dim_2`, …
    sample_dim : str, optional
        The first dim by default.

    Raises
    ------
    SourceError
        Where `data` is no array or a masked one, dims do not fit it, or its dtype is not a real number.
    """
    coordinates: dict[str, tuple[str, NDArray[Any]]] = {}
    if is_xarray(data):
        dims = _agreeing(dims, tuple(map(str, data.dims)))
        coordinates = _coordinates(data)
        data = data.data
    else:
        _check_kind(data)
    values = as_array(data, SourceError)
    named = tuple(dims) if dims is not None else default_dims(values.ndim)
    kind = LazySource if is_dask(values) else MemorySource
    return kind(values, named, sample_dim or "", coordinates)


def default_dims(ndim: int) -> tuple[str, ...]:
    """Names for the axes of an array that has none.

    Examples
    --------
    >>> default_dims(3)
    ('sample', 'dim_1', 'dim_2')
    """
    return ("sample", *(f"dim_{axis}" for axis in range(1, ndim)))[:ndim]


def _check_kind(data: Any) -> None:
    """That `data` is something of which an array is to be made."""
    name = f"{type(data).__module__.partition('.')[0]}.{type(data).__qualname__}"
    if is_table(data):
        raise SourceError(
            "a table is no array, its labels would be ignored",
            found=name,
            expected=EXPECTED,
            remedy="xarray.DataArray(table, dims=…) to keep its labels, table.to_numpy() to take the values as they are",
        )
    if name.startswith("zarr."):
        raise SourceError(
            f"a Zarr {type(data).__name__} is no array",
            found=name,
            expected=EXPECTED,
            remedy="give one of its arrays, or its store and the array's path",
        )
    if not isinstance(data, list | tuple | int | float) and not hasattr(data, "__array__"):
        raise SourceError("nothing that can be fitted on", found=name.removeprefix("builtins."), expected=EXPECTED)


def _agreeing(wanted: Sequence[str] | None, stored: tuple[str, ...]) -> tuple[str, ...]:
    if wanted is not None and tuple(wanted) != stored:
        raise SourceError("dims contradict those of the array", found=", ".join(wanted), expected=", ".join(stored))
    return stored


def _coordinates(data: Any) -> dict[str, tuple[str, NDArray[Any]]]:
    named: Mapping[Any, Any] = data.coords
    return {str(name): (str(values.dims[0]), np.asarray(values)) for name, values in named.items() if values.ndim == 1}
