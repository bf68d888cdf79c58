"""Names and numbers that users write: their types, and errors that give the nearest valid name.

Not here: what any option means.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import AfterValidator, BeforeValidator

from pipeline.errors import ConfigError, PipelineError

Error = TypeVar("Error", bound=PipelineError)


def unknown_name(what: str, found: object, known: Iterable[str], where: str) -> ConfigError:
    """The error for a name that is none of `known`, with the nearest one as remedy.

    Examples
    --------
    >>> print(unknown_name("unknown option", "rnage", ["range", "per"], "normalize.0.minmax.rnage"))
    unknown option: normalize.0.minmax.rnage
      found:    rnage
      expected: per, range
      remedy:   use 'range'
    """
    names = sorted(known)
    nearest = get_close_matches(str(found), names, n=1)
    remedy = f"use {nearest[0]!r}" if nearest else None
    return ConfigError(what, where=where, found=found, expected=", ".join(names) or "nothing", remedy=remedy)


def located(error: Error, index: int, where: str = "normalize") -> Error:
    """`error` with the place of its step in the configuration put before the place it names."""
    error.where = f"{where}.{index}" if error.where is None else f"{where}.{index}.{error.where}"
    return error


def _plain(value: Any) -> Any:
    """NumPy numbers and arrays as Python ones, −0.0 as 0.0; true and false are no numbers."""
    value = value.tolist() if isinstance(value, np.generic | np.ndarray) else value
    if isinstance(value, bool):
        raise ValueError("a number, not true or false")
    return value + 0.0 if isinstance(value, float) else value


def _increasing(ends: tuple[float, float]) -> tuple[float, float]:
    low, high = ends
    if not low < high:
        raise ValueError("two numbers, the first below the second")
    if not np.isfinite(high - low):
        raise ValueError("two numbers whose difference is a float64")
    return low, high


Number = Annotated[float, BeforeValidator(_plain)]
Count = Annotated[int, BeforeValidator(_plain)]
Numbers = Annotated[tuple[Number, ...], BeforeValidator(_plain)]
Range = Annotated[tuple[Number, Number], BeforeValidator(_plain), AfterValidator(_increasing)]
Dims = tuple[str, ...]
