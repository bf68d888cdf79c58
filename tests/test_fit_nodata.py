"""A fit of data with values that stand for missing ones: no statistic counts them, in as few reads as without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from pipeline.api import fit
from pipeline.config import Config, parse_config
from pipeline.inference import Manifest
from pipeline.progress import SilentReporter
from pipeline.run import run_config

NODATA = {"uint8": 255, "int16": -9999, "int32": -9999, "float32": -9999.1, "float64": -9999.1}
CHAIN = [{"zscore": {"per": ["band"]}}, {"minmax": {"per": ["band"], "range": [-1, 1]}}]


def _data(dtype: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Values of which some are missing, and where they are not."""
    generator = np.random.default_rng(4)
    values = generator.integers(1, 200, (30, 6, 3)).astype(dtype)
    present = generator.random(values.shape) > 0.2
    return np.where(present, values, np.array(NODATA[dtype]).astype(dtype)), present


@pytest.mark.parametrize("dtype", NODATA)
def test_the_fit_is_that_of_nan(dtype: str) -> None:
    values, present = _data(dtype)
    expected = fit(np.where(present, values, np.nan), dims=["sample", "x", "band"], normalize=CHAIN, dtype="float64")

    entries = [{"nodata": {"values": NODATA[dtype]}}, *CHAIN]
    manifest = fit(values, dims=["sample", "x", "band"], normalize=entries, dtype="float64")

    np.testing.assert_array_equal(manifest.transform(values), expected.transform(np.where(present, values, np.nan)))
    assert len(manifest.statistics) == 2
    statistics = manifest.statistics[0].statistics
    np.testing.assert_array_equal(statistics.nan, (~present).sum(axis=(0, 1)))
    np.testing.assert_array_equal(statistics.nobs, present.sum(axis=(0, 1)))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_what_is_written_is_what_the_manifest_does(dtype: str, tmp_path: Path) -> None:
    values, present = _data(dtype)
    group = zarr.open_group(tmp_path / "in.zarr", mode="w")
    array = group.create_array("X", shape=values.shape, dtype=dtype, chunks=(7, 6, 2), dimension_names=("sample", "x", "band"))
    array[...] = values
    config = parse_config(
        {
            "source": {"store": str(tmp_path / "in.zarr"), "array": "X"},
            "normalize": [{"nodata": {"values": NODATA[dtype]}}, *CHAIN],
            "output": {"store": str(tmp_path / "out.zarr"), "manifest": str(tmp_path / "out.manifest")},
        },
        Config,
    )

    run_config(config, SilentReporter())

    written = zarr.open_array(tmp_path / "out.zarr" / "X", mode="r")[...]
    manifest = Manifest.load(tmp_path / "out.manifest")
    np.testing.assert_array_equal(written, manifest.transform(values))
    np.testing.assert_array_equal(np.isnan(written), ~present)
    if dtype == "uint8":
        np.testing.assert_array_equal(manifest.inverse_transform(written), values)
