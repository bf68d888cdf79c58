"""A service that serves one model loads no Dask, no Zarr, no compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from pipeline import Manifest
from tests.manifest.fitting import fit_record

HEAVY = {"numba", "llvmlite", "dask", "distributed", "zarr", "xarray", "scipy", "pandas", "click", "rich", "yaml"}
CODE = """
import sys
import numpy
from pipeline import Manifest
manifest = Manifest.load(sys.argv[1])
y = manifest.transform(numpy.ones((2, 4)))
manifest.inverse_transform(y)
manifest.transform(numpy.ones(4))
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_loading_and_transforming_imports_nothing_heavy(tmp_path):
    data = np.arange(12.0).reshape(3, 4)
    manifest = fit_record(
        ["log1p", {"zscore": {"per": ["gene"]}}], data, ("cell", "gene"), {"gene": list("abcd")}, kind=Manifest
    )
    manifest.save(tmp_path / "m")
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path / "m")],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    imported = set(ran.stdout.split())
    assert {"numpy", "pipeline", "safetensors"} <= imported
    assert not imported & HEAVY
