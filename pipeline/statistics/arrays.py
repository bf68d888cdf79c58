"""Arrays that come back from storage, checked before they are believed.

Not here: reading the storage (`pipeline/manifest.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipeline.errors import ManifestError


def take(
    arrays: Mapping[str, NDArray[Any]],
    name: str,
    dtypes: DTypeLike | tuple[DTypeLike, ...],
    shape: tuple[int, ...] | None = None,
) -> NDArray[Any]:
    """The array `name`, which must have one of `dtypes` and, where it is given, `shape`.

    Raises
    ------
    ManifestError
        Where the array is missing or is something else.
    """
    if name not in arrays:
        raise ManifestError("array missing", where=name, found=", ".join(sorted(arrays)), expected=name)
    array = np.asarray(arrays[name])
    allowed = [np.dtype(dtype) for dtype in (dtypes if isinstance(dtypes, tuple) else (dtypes,))]
    if array.dtype not in allowed:
        raise ManifestError("array of the wrong dtype", where=name, found=array.dtype, expected=", ".join(map(str, allowed)))
    if shape is not None and array.shape != shape:
        raise ManifestError("array of the wrong shape", where=name, found=array.shape, expected=shape)
    return array
