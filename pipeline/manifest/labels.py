"""Labels along a dim (gene names, channel names, pixel positions) as plain values and as arrays that a file can hold.

Not here: how new data's labels are matched with them (`pipeline.inference`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ManifestError

LabelsKind: TypeAlias = Literal["strings", "integers", "floats"]


def as_labels(values: Any, dim: str) -> NDArray[Any]:
    """`values` in the one form in which labels are kept and compared.

    Parameters
    ----------
    values : array_like, shape (size,)
        Strings, bytes (UTF-8), integers or floats.
    dim : str
        The dim's name, for messages.

    Returns
    -------
    ndarray, shape (size,)
        Of dtype object holding `str`, of int64 (uint64 where that is too small), or of float64. Read-only.

    Raises
    ------
    ManifestError
        Where they are something else or not one-dimensional.

    Examples
    --------
    >>> as_labels(np.array(["TP53", "MYC"]), "gene")
    array(['TP53', 'MYC'], dtype=object)
    """
    array = _narrowed(np.asarray(values) if hasattr(values, "__array__") else np.array(values, dtype=object))
    if array.ndim != 1:
        raise ManifestError("labels must be one-dimensional", where=dim, found=f"shape {array.shape}")
    if array.dtype.kind in "iu":
        wide = array.dtype.kind == "u" and array.size > 0 and int(array.max()) > np.iinfo(np.int64).max
        return _frozen(array.astype(np.uint64 if wide else np.int64))
    if array.dtype.kind == "f":
        return _frozen(array.astype(np.float64))
    return _frozen(_as_strings(array, dim))


def labels_kind(labels: NDArray[Any]) -> LabelsKind:
    """Which kind `labels`, as `as_labels` returned them, are of."""
    if labels.dtype.kind in "iu":
        return "integers"
    return "floats" if labels.dtype.kind == "f" else "strings"


def encode_labels(labels: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """`labels` as numeric arrays: themselves, or for strings their UTF-8 bytes and where each of them ends."""
    if labels_kind(labels) != "strings":
        return {"values": labels}
    encoded = [label.encode("utf-8") for label in labels.tolist()]
    ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
    return {"utf8": np.frombuffer(b"".join(encoded), dtype=np.uint8), "ends": ends}


def decode_labels(arrays: Mapping[str, NDArray[Any]], kind: str, dim: str) -> NDArray[Any]:
    """The labels that `encode_labels` gave `arrays` for; raises ManifestError where those do not fit together."""
    try:
        labels = arrays["values"] if kind != "strings" else _decode_strings(arrays["utf8"], arrays["ends"])
        fits = len(arrays) == (1 if kind != "strings" else 2)
    except (KeyError, ValueError, TypeError):
        fits = False
    if not fits or labels.ndim != 1 or labels_kind(labels) != kind:
        raise ManifestError("labels that do not fit together", where=f"labels of {dim}", expected=kind)
    return as_labels(labels, dim)


def _decode_strings(utf8: NDArray[Any], ends: NDArray[Any]) -> NDArray[Any]:
    content, edges = utf8.tobytes(), [0, *ends.tolist()]
    if edges != sorted(edges) or edges[-1] != len(content):
        raise ValueError("ends that do not fit the text")
    return _objects([content[start:stop].decode("utf-8") for start, stop in pairwise(edges)])


def _narrowed(array: NDArray[Any]) -> NDArray[Any]:
    """An array of Python integers, or of Python floats, as one of that type; any other array as it is."""
    items = array.ravel().tolist() if array.dtype == object else []
    if not items:
        return array
    if all(isinstance(item, float) for item in items):
        return array.astype(np.float64)
    if all(isinstance(item, int | np.integer) and not isinstance(item, bool) for item in items):
        for dtype in (np.int64, np.uint64):
            if np.iinfo(dtype).min <= min(items) and max(items) <= np.iinfo(dtype).max:
                return array.astype(dtype)
    return array


def _as_strings(array: NDArray[Any], dim: str) -> NDArray[Any]:
    texts = [_as_text(label) for label in array.tolist()]
    for label, text in zip(array.tolist(), texts, strict=True):
        if text is None:
            raise ManifestError(
                "a label that is neither text nor a number",
                where=f"labels of {dim}",
                found=f"{label!r} ({type(label).__name__})",
                expected="strings, integers or floats, all of one kind",
                remedy="convert the coordinate to strings",
            )
    return _objects(texts)


def _as_text(label: object) -> str | None:
    try:
        if isinstance(label, bytes):
            return label.decode("utf-8")
        if isinstance(label, str):
            label.encode("utf-8")
            return str(label)
    except UnicodeError:
        pass
    return None


def _objects(texts: Sequence[str | None]) -> NDArray[Any]:
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array
