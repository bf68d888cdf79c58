"""A manifest applied to new data: NumPy, xarray and Dask arrays, by the very function that the batch job runs.

Not here: fitting, and any store. Dask and xarray are imported only when one of their arrays is given.
"""

from pipeline.inference.collection import ManifestCollection, load_manifest
from pipeline.inference.transformer import Manifest

__all__ = ["Manifest", "ManifestCollection", "load_manifest"]
