"""A digest that means something: equal for equal transformations, on every platform and in every process.

Not here: the digests that guard the files against damage (`schema.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def array_digest(values: NDArray[Any]) -> dict[str, Any]:
    """Type, shape and the sha256 of the values as little-endian bytes in C order.

    NaN counts as one value: which of its bit patterns a processor makes is no part of a transformation.
    """
    values = np.asarray(values)
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), values.dtype.type(np.nan), values)
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return {"dtype": values.dtype.name, "shape": list(values.shape), "sha256": hashlib.sha256(little.tobytes()).hexdigest()}


def arrays_digest(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """`array_digest` of each."""
    return {name: array_digest(values) for name, values in arrays.items()}


def content_digest(content: Mapping[str, Any]) -> str:
    """The hexadecimal sha256 of the canonical JSON of `content`: keys sorted, no spaces, ASCII.

    JSON quotes and nests, so two different contents have different texts; floats are written as Python's `repr`, the
    shortest text that reads back as the same float64.

    Examples
    --------
    >>> content_digest({"a": 1, "b": [0.5]}) == content_digest({"b": [0.5], "a": 1})
    True
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
