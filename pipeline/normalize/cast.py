"""From float64 to the type that is stored, refusing what that type cannot hold.

Not here: changing values so that they fit (`clip`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipeline.errors import DataError


def default_output_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """The type that is stored where none was asked for, of about the precision of the source's `dtype`.

    float64 and float32 stay; float16, bool and integers of at most 16 bits become float32; larger integers float64.

    Examples
    --------
    >>> default_output_dtype("uint8"), default_output_dtype("int32")
    (dtype('float32'), dtype('float64'))
    """
    given = np.dtype(dtype)
    small = given.itemsize <= (4 if given.kind == "f" else 2)
    return np.dtype(np.float32 if small else np.float64)


def cast_into(values: NDArray[np.float64], output: NDArray[Any], remedy: str | None = None) -> None:
    """Write `values` into `output`, in the type of `output`.

    Floats are rounded to the nearest, ties to even; infinities and NaN stay. Integers are rounded to the nearest, ties to even.

    Parameters
    ----------
    values : ndarray of float64
    output : ndarray
        Of the same shape and a real dtype.
    remedy : str, optional
        Said instead of what is said of an output.

    Raises
    ------
    DataError
        Where a finite value overflows a float type, or a value is NaN or out of range for an integer type.
    """
    if output.dtype.kind == "f":
        _cast_to_float(values, output, remedy)
    else:
        _cast_to_integer(values, output, remedy)


def _cast_to_float(values: NDArray[np.float64], output: NDArray[Any], remedy: str | None) -> None:
    try:
        with np.errstate(over="raise", under="ignore", invalid="ignore"):
            np.copyto(output, values, casting="same_kind")
    except FloatingPointError:
        limit = float(np.finfo(output.dtype).max)
        outside = np.abs(values[np.isfinite(values)]) > limit
        raise DataError(
            f"finite values overflow {output.dtype}",
            found=f"{int(outside.sum())} of {values.size} values, the largest {_largest(values)}",
            expected=f"magnitudes up to {limit:.6g}",
            remedy=remedy or "use output dtype float64, or put a clip step last",
        ) from None


def _cast_to_integer(values: NDArray[np.float64], output: NDArray[Any], remedy: str | None) -> None:
    if not values.size:
        return
    low, high = (0, 1) if output.dtype.kind == "b" else (np.iinfo(output.dtype).min, np.iinfo(output.dtype).max)
    rounded = np.rint(values)
    if not (rounded.min() >= low and rounded.max() <= float(high)):  # NaN makes both comparisons false
        missing = np.isnan(values)
        outside = ~missing & ~((rounded >= low) & (rounded <= float(high)))
        raise DataError(
            f"values that {output.dtype} cannot hold",
            found=f"{int(missing.sum())} NaN and {int(outside.sum())} out of range, of {values.size} values",
            expected=f"numbers from {low} to {high}",
            remedy=remedy or f"put `clip: {{min: {low}, max: {high}}}` last, or use output dtype float32 or float64",
        )
    top = rounded == float(high) if float(high) > high else None
    if top is not None and top.any():  # the float64 nearest to the largest 64-bit integer lies just above it
        np.copyto(output, np.where(top, 0.0, rounded), casting="unsafe")
        np.copyto(output, high, where=top, casting="unsafe")
    else:
        np.copyto(output, rounded, casting="unsafe")


def _largest(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite[np.abs(finite).argmax()])
