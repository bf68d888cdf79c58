"""MNIST against its exact statistics, through the command line; skipped where the archives are not beside the repository."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.cli import main

ROOT = Path(__file__).resolve().parent.parent
MNIST = ROOT.parent / "shared" / "data" / "mnist"

pytestmark = pytest.mark.skipif(not MNIST.is_dir(), reason="the MNIST archives are not in ../shared/data/mnist")

DIVIDED_BY_255 = {
    "mean": 0.13066047627384286,
    "variance": 0.09493042081533115,
    "skewness": 2.151104099863991,
    "kurtosis": 2.9144234905841193,
}
UNIT_L2_NORM = {
    "max": 0.2790270547,
    "mean": 0.0137929654,
    "variance": 0.0010852643,
    "skewness": 2.2963953670,
    "kurtosis": 3.9849281706,
}


@pytest.fixture(scope="module", params=[2, 3], ids=["format 2", "format 3"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mnist") / "mnist.zarr"
    command = [sys.executable, ROOT / "scripts" / "mnist_to_zarr.py", MNIST, path, "--format", str(request.param)]
    subprocess.run(command, check=True, capture_output=True)
    return path


def _invoke(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def _statistics(store: Path, chain: str) -> dict[str, Any]:
    """Those that `zarrnorm fit` and `zarrnorm show --json` give of the training images after `chain`."""
    config = store.parent / "config.yaml"
    config.write_text(
        f"source: {{store: {store}, array: images}}\n"
        f"fit: {{where: {{split: train}}}}\n"
        f"normalize: {chain}\n"
        f"output: {{store: {store.parent}/out.zarr, overwrite: true}}\n"
    )
    _invoke("fit", str(config))
    shown: dict[str, Any] = json.loads(_invoke("show", str(store.parent / "out.manifest"), "--json"))
    statistics: dict[str, Any] = shown["statistics"]
    return statistics


@pytest.mark.parametrize("chain", ["[dtype_range]", "[dtype_range, {zscore: {per: []}}]"])
def test_after_dtype_range_the_exact_table_comes_out(store: Path, chain: str) -> None:
    statistics = _statistics(store, chain)
    assert {name: statistics[name] for name in ("nobs", "zeros", "min", "max")} == {
        "nobs": 47_040_000,
        "zeros": 38_045_844,
        "min": 0,
        "max": 1,
    }
    assert {name: statistics[name] for name in DIVIDED_BY_255} == pytest.approx(DIVIDED_BY_255, rel=1e-12, abs=0)


def test_after_unit_norm_the_second_row_comes_out(store: Path) -> None:
    statistics = _statistics(store, "[dtype_range, {unit_norm: {norm: l2}}]")
    assert statistics["min"] == 0
    assert {name: statistics[name] for name in UNIT_L2_NORM} == pytest.approx(UNIT_L2_NORM, rel=1e-9, abs=1e-10)
