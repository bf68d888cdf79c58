"""Which coordinates can label a dim, one rule for every source: text, integers and floats can.

Not here: where coordinates come from, and the form in which a manifest keeps labels (`pipeline.manifest.labels`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SourceError

LABEL_KINDS = "OSTUiuf"


def usable_labels(values: NDArray[Any]) -> NDArray[Any] | None:
    """`values` where they can label a dim, text of every kind as `str`; None for bool, dates, durations and other objects.

    Objects of which some could be labels are returned as well: who keeps them says which one could not.

    Examples
    --------
    >>> usable_labels(np.array([b"a", b"b"]))
    array(['a', 'b'], dtype='<U1')
    >>> usable_labels(np.array(["2020-01-01"], dtype="M8[D]")) is None
    True
    """
    if values.dtype.kind not in LABEL_KINDS or not values.size:
        return None
    if values.dtype.kind == "O" and not any(_is_label(item) for item in values.tolist()):
        return None
    return as_text(values)


def as_text(values: NDArray[Any]) -> NDArray[Any]:
    """Strings of every kind as fixed-width text; anything else as it is."""
    if values.dtype.kind not in "OST":
        return values
    items = [item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in values.tolist()]
    return np.array(items, dtype=np.str_) if items and all(isinstance(item, str) for item in items) else values


def stands_for_another(attributes: Mapping[str, Any]) -> bool:
    """Whether stored numbers are not the coordinate itself but encode it: dates, durations, bool and packed values.

    Examples
    --------
    >>> stands_for_another({"units": "days since 2020-01-01"}), stands_for_another({"units": "nm"})
    (True, False)
    """
    dated = " since " in str(attributes.get("units", ""))
    retyped = str(attributes.get("dtype", "")).startswith(("timedelta", "bool"))
    return dated or retyped or "scale_factor" in attributes or "add_offset" in attributes


def no_such_coordinate(name: str, names: Iterable[str], where: str) -> SourceError:
    """The error for a coordinate that is none of `names`."""
    known = list(names)
    close = get_close_matches(name, known, 1)
    return SourceError(
        "no such coordinate",
        where=where,
        found=name,
        expected=", ".join(known) or "a one-dimensional coordinate of the array; there is none",
        remedy=f"use {close[0]!r}" if close else None,
    )


def _is_label(item: object) -> bool:
    return isinstance(item, str | bytes | int | float | np.integer | np.floating) and not isinstance(item, bool)
