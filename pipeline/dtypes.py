"""The types of the values that are read, computed from and written: real numbers of at most 64 bits, and bool.

Not here: NumPy, so that a configuration names them without it.
"""

from __future__ import annotations

from typing import Literal, Protocol, get_args

IntegerName = Literal["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FloatName = Literal["float16", "float32", "float64"]
DtypeName = Literal[IntegerName, FloatName]
DTYPES: tuple[str, ...] = get_args(DtypeName)


class Named(Protocol):
    """What is asked of a `numpy.dtype` here."""

    @property
    def name(self) -> str: ...


def is_supported(dtype: Named) -> bool:
    """Whether values of `dtype` can be read and written, in any byte order."""
    return dtype.name in DTYPES
