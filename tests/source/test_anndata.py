"""Columns of an AnnData that the package itself wrote, where it is installed; `test_columns.py` lays the same out by hand."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import fit
from pipeline.source.open import open_source

anndata: Any = pytest.importorskip("anndata", reason="it writes what is read")
pandas: Any = pytest.importorskip("pandas")

BATCHES = np.array(["b1", "b2", "b3"] * 10)
DONORS = [None, "x", "y"] * 10


@pytest.fixture(params=[2, 3])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    obs = pandas.DataFrame(
        {
            "batch": pandas.Categorical(BATCHES),
            "donor": pandas.Categorical(DONORS),
            "dose": pandas.Categorical(np.arange(30) % 4 / 2),
            "treated": pandas.array([True, None, False] * 10, dtype="boolean"),
        },
        index=[f"c{cell}" for cell in range(30)],
    )
    values = np.random.default_rng(0).gamma(2.0, 2.0, (30, 6)).astype(np.float32)
    with (
        warnings.catch_warnings(),
        anndata.settings.override(zarr_write_format=request.param, allow_write_nullable_strings=True),
    ):
        warnings.simplefilter("ignore")
        anndata.AnnData(values, obs=obs, layers={"counts": values * 2}).write_zarr(tmp_path / "in.zarr")
    return tmp_path / "in.zarr"


@pytest.mark.parametrize("array", ["X", "layers/counts"])
def test_columns_are_read_as_they_were_written(path: Path, array: str) -> None:
    source = open_source(path, array, ("cell", "gene"))
    assert source.coordinate("batch")[1].tolist() == BATCHES.tolist()
    assert source.coordinate("donor")[1].tolist() == DONORS
    assert source.coordinate("obs/dose")[1].tolist() == (np.arange(30) % 4 / 2).tolist()
    assert source.coordinate("treated")[1].tolist() == [True, None, False] * 10
    manifest = fit(
        path, array, dims=["cell", "gene"], normalize=["maxabs"], by="batch", where={"donor": ["x", "y"], "treated": False}
    )
    assert manifest.groups is not None and manifest.groups.labels.tolist() == ["b3"]
