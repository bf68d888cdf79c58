"""Which versions of this program and of its numerical libraries are at work. Not here: comparing them."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

LIBRARIES = ("numpy", "zarr", "dask", "numba")


def versions() -> dict[str, str]:
    """Versions by name, for a manifest's provenance."""
    found = {"python": platform.python_version(), "zarrnorm": _version("zarrnorm")}
    return {**found, **{name: _version(name) for name in LIBRARIES}}


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"
