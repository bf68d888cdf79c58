"""Named arrays as one safetensors file, and back, with every size checked before anything is allocated.

Not here: what the arrays mean.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.dtypes import is_supported
from pipeline.errors import ManifestError
from pipeline.manifest.schema import ArrayEntry

Arrays = Mapping[str, NDArray[Any]]
_HEADER_COUNT_BYTES = 8
_REMEDY = "copy the manifest again or fit again"


def canonical(values: NDArray[Any]) -> NDArray[Any]:
    """`values` C-contiguous, in this machine's byte order."""
    values = np.asarray(values)
    return np.require(values, dtype=values.dtype.newbyteorder("="), requirements="C").reshape(values.shape)


def describe(values: NDArray[Any]) -> ArrayEntry:
    """Type and shape of `values`; raises ManifestError for a type that a manifest does not hold."""
    if not is_supported(values.dtype):
        raise ManifestError("a manifest holds real numbers of up to 64 bits", found=f"dtype {values.dtype}")
    return ArrayEntry.model_construct(dtype=values.dtype.name, shape=list(values.shape))


def encode(arrays: Arrays) -> bytes:
    """`arrays` as the content of a safetensors file; equal arrays give equal bytes."""
    from safetensors.numpy import save

    return save({name: canonical(arrays[name]) for name in sorted(arrays)})


def decode(path: Path, declared: Mapping[str, ArrayEntry], size_bytes: int, sha256: str) -> dict[str, NDArray[Any]]:
    """The arrays of the file at `path`, which must be exactly the declared ones.

    Parameters
    ----------
    path : Path
        A safetensors file.
    declared : mapping of str to ArrayEntry
        Every array that it must hold, and no other.
    size_bytes : int
        Size of the file.
    sha256 : str
        Hexadecimal digest of the file.

    Raises
    ------
    ManifestError
        Where the file is missing, cut short, altered, longer, or holds something else.
    """
    _check_sizes(path, declared, size_bytes)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ManifestError("the manifest's arrays cannot be read", where=str(path), found=error.strerror) from None
    if len(content) != size_bytes or hashlib.sha256(content).hexdigest() != sha256:
        raise ManifestError("the manifest's arrays were altered after they were written", where=str(path), remedy=_REMEDY)
    _check_header(path, content, declared)
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(content)
    except SafetensorError as error:
        raise ManifestError("the manifest's arrays are no safetensors file", where=str(path), found=error) from None
    for values in arrays.values():
        values.flags.writeable = False
    return arrays


def _check_sizes(path: Path, declared: Mapping[str, ArrayEntry], size_bytes: int) -> None:
    try:
        found = path.stat().st_size
    except OSError as error:
        raise ManifestError(
            "the manifest's arrays are missing", where=str(path), found=error.strerror, remedy=_REMEDY
        ) from None
    if found != size_bytes:
        raise ManifestError(
            "the manifest's arrays are cut short or altered",
            where=str(path),
            found=f"{found} bytes",
            expected=f"{size_bytes} bytes",
            remedy=_REMEDY,
        )
    needed = sum(_array_bytes(entry.dtype, entry.shape) for entry in declared.values())
    if needed + _HEADER_COUNT_BYTES > found:
        raise ManifestError(
            "the manifest declares more than its arrays file holds",
            where=str(path),
            found=f"{found} bytes",
            expected=f"at least {needed + _HEADER_COUNT_BYTES} bytes",
        )


def _check_header(path: Path, content: bytes, declared: Mapping[str, ArrayEntry]) -> None:
    """That the header lists the declared arrays, of the declared sizes, and no byte more."""
    length = int.from_bytes(content[:_HEADER_COUNT_BYTES], "little")
    try:
        header = json.loads(content[_HEADER_COUNT_BYTES : _HEADER_COUNT_BYTES + length])
        found = {name: (entry["dtype"], entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        raise ManifestError("the manifest's arrays are no safetensors file", where=str(path), remedy=_REMEDY) from None
    expected = {name: (_SAFETENSORS_DTYPES[entry.dtype], entry.shape) for name, entry in declared.items()}
    if found != expected:
        names = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        raise ManifestError(
            "the arrays file does not hold what the manifest declares",
            where=f"{path}: {names[0]}",
            found=found.get(names[0], "nothing"),
            expected=expected.get(names[0], "nothing"),
        )


def _array_bytes(dtype: str, shape: list[int]) -> int:
    return math.prod(shape) * np.dtype(dtype).itemsize


_SAFETENSORS_DTYPES = {
    "bool": "BOOL",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "uint8": "U8",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
}
