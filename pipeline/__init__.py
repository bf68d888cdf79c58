"""One pass over a chunked Zarr store to its global statistics, then normalized chunks and a manifest to apply to new data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.api import fit
    from pipeline.inference import Manifest, ManifestCollection

__all__ = ["Manifest", "ManifestCollection", "fit"]


def __getattr__(name: str) -> Any:
    """Import what is asked for only then, so that a service which loads a manifest never imports Dask or Zarr."""
    if name == "fit":
        from pipeline.api import fit

        return fit
    if name == "Manifest":
        from pipeline.inference import Manifest

        return Manifest
    if name == "ManifestCollection":
        from pipeline.inference import ManifestCollection

        return ManifestCollection
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
