"""What it takes before there is work: importing, planning a million chunks, a manifest in a cold process, compiling.

Each is measured in a process of its own. Not here: the work (`measure.py`).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import zarr

from benchmark.contender import ROOT, SCRIPTS
from benchmark.targets import GIB
from pipeline import fit

PROCESSES = 5
CHUNKS = 1_000_000
IMAGE = (28, 28)

IMPORT = """
from time import perf_counter
before = perf_counter()
import pipeline
print(perf_counter() - before)
"""
PLAN = """
import json, sys
from time import perf_counter
before = perf_counter()
from benchmark.driver import peak_bytes
from pipeline.config import Config, parse_config
from pipeline.run import plan_config
planned = plan_config(parse_config(json.loads(sys.argv[1]), Config))
found = {"seconds": perf_counter() - before, "peak_bytes": peak_bytes()}
found["tasks"] = sum(phase.tasks for phase in planned.phases)
found["bytes"] = planned.bytes_read + planned.bytes_written
print(json.dumps(found))
"""
TRANSFORM = """
import sys
import numpy as np
from pipeline import Manifest
print(float(Manifest.load(sys.argv[1]).transform(np.full((28, 28), 7, np.uint8)).sum()))
"""
WARM = """
import sys
from time import perf_counter
import numpy as np
from pipeline import Manifest
manifest, image, seconds = Manifest.load(sys.argv[1]), np.full((28, 28), 7, np.uint8), []
for _ in range(2000):
    before = perf_counter()
    manifest.transform(image)
    seconds.append(perf_counter() - before)
print(1e6 * float(np.median(seconds[1000:])))
"""
FIRST_RUN = """
import sys
from time import perf_counter
import numpy as np
from pipeline import fit
values = np.random.default_rng(1).random((100, 20), np.float32)
before = perf_counter()
fit(values, dims=["cell", "gene"], normalize=[{"zscore": {"per": ["gene"]}}])
fit(values, dims=["cell", "gene"], normalize=[{"robust": {"per": ["gene"]}}])
fit((values * 255).astype(np.uint8), dims=["cell", "gene"], normalize=[{"zscore": {"per": ["gene"]}}])
print(perf_counter() - before)
"""


def measure_start(folder: Path) -> dict[str, float]:
    """Import, a manifest in a cold process and a warm one, and first runs with and without compiled code at hand."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        manifest = Path(scratch) / "digits.manifest"
        images = np.random.default_rng(3).integers(0, 256, (100, *IMAGE)).astype(np.uint8)
        fit(images, dims=["sample", "y", "x"], normalize=[{"minmax": {"per": []}}]).save(manifest)
        cold = []
        for _ in range(PROCESSES):
            before = perf_counter()
            _python(TRANSFORM, str(manifest))
            cold.append(perf_counter() - before)
        return {
            "start/import/seconds": statistics.median(float(_python(IMPORT)) for _ in range(PROCESSES)),
            "start/cold/seconds": statistics.median(cold),
            "start/warm/microseconds": float(_python(WARM, str(manifest))),
            "start/compiled/seconds": float(_python(FIRST_RUN, cache=scratch)),
            "start/cached/seconds": float(_python(FIRST_RUN, cache=scratch)),
        }


def measure_plan(folder: Path) -> dict[str, float]:
    """Planning a store of a million chunks of which only the metadata exists: many small ones, and many of a megabyte."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, float] = {}
    for name, chunk in (("million", (1, *IMAGE)), ("terabyte", (1, 1000, 1000))):
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            zarr.create_array(
                f"{scratch}/in.zarr",
                shape=(CHUNKS, *chunk[1:]),
                chunks=chunk,
                dtype=np.uint8,
                dimension_names=("sample", "y", "x"),
            )
            document = {
                "source": {"store": f"{scratch}/in.zarr", "missing_chunks": "fill"},
                "normalize": [{"zscore": {"per": []}}],
                "output": {"store": f"{scratch}/out.zarr"},
            }
            measured = json.loads(_python(PLAN, json.dumps(document)))
        found |= {
            f"plan/{name}/seconds": measured["seconds"],
            f"plan/{name}/peak_gib": measured["peak_bytes"] / GIB,
            f"plan/{name}/tasks": measured["tasks"],
            f"plan/{name}/bytes": measured["bytes"],
        }
    return found


def _python(code: str, *arguments: str, cache: str | None = None) -> str:
    """What a fresh Python prints; its compiled code is kept in the folder `cache` where that is given."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(SCRIPTS)))}
    if cache is not None:
        environment["NUMBA_CACHE_DIR"] = cache
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
