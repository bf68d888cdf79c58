"""What kind of array was given, told without importing the library it is of; and the refusal of what would lose its mask.

Not here: dims, sizes and labels.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from pipeline.errors import PipelineError


def is_dask(values: Any) -> bool:
    """Whether `values` is a Dask array; imports nothing."""
    dask_array = sys.modules.get("dask.array")
    return dask_array is not None and isinstance(values, dask_array.Array)


def is_xarray(values: Any) -> bool:
    """Whether `values` is an xarray.DataArray; imports nothing."""
    xarray = sys.modules.get("xarray")
    return xarray is not None and isinstance(values, xarray.DataArray)


def is_dataset(values: Any) -> bool:
    """Whether `values` is an xarray.Dataset; imports nothing."""
    xarray = sys.modules.get("xarray")
    return xarray is not None and isinstance(values, xarray.Dataset)


def is_table(values: Any) -> bool:
    """Whether `values` is something of pandas, whose labels an array would not have."""
    return type(values).__module__.partition(".")[0] == "pandas"


def as_array(values: Any, refusal: type[PipelineError]) -> Any:
    """`values` as a plain NumPy array, or as the Dask array that it is.

    Parameters
    ----------
    values : array_like or dask.array.Array
    refusal : type
        Which error is raised.

    Raises
    ------
    PipelineError
        Of the type `refusal`, where a mask or dims would be lost, or no array can be made.
    """
    check_plain(values, refusal)
    if type(values) is np.ndarray or is_dask(values):
        return values
    package = type(values).__module__.partition(".")[0]
    if package in ("xarray", "dask"):
        raise refusal(f"a {package} {type(values).__name__} is no array", expected="xarray.DataArray or dask.array.Array")
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise refusal("no array can be made of the values", found=error) from None


def check_plain(values: Any, refusal: type[PipelineError]) -> None:
    """Raise `refusal` for a masked array of NumPy or Dask, and for Dask blocks that are no NumPy arrays."""
    lazy = is_dask(values)
    held = values._meta if lazy else values
    if isinstance(held, np.ma.MaskedArray):
        filled = "dask.array.ma.filled(values, numpy.nan)" if lazy else "values.filled(numpy.nan)"
        raise refusal(
            "masked arrays are not taken, their mask would be ignored",
            found=type(held).__name__,
            expected="an array in which NaN marks what is missing",
            remedy=f"{filled}, on floating values",
        )
    if lazy and not isinstance(held, np.ndarray):
        raise refusal(
            "the blocks are no plain NumPy arrays", found=type(held).__name__, remedy="values.map_blocks(numpy.asarray)"
        )
