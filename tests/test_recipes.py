"""Recipes that people follow, against what pandas and scikit-learn make of the same data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import xarray
import zarr
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from pipeline import Manifest
from pipeline.config import Config, parse_config
from pipeline.progress import SilentReporter
from pipeline.run import plan_config, run_config
from tests.counting import counted_reads, stored_chunks

SAMPLES, GENES, KEPT = 240, 300, 50
SCALERS: dict[str, tuple[dict[str, Any], Any]] = {
    "zscore": ({"zscore": {"per": ["gene"]}}, StandardScaler),
    "minmax": ({"minmax": {"per": ["gene"], "range": [0, 1]}}, MinMaxScaler),
}


def _expression() -> pandas.DataFrame:
    """Log expression of genes that vary by different amounts, some values missing, one gene missing altogether."""
    generator = np.random.default_rng(2018)
    values = generator.normal(generator.uniform(0, 12, GENES), generator.gamma(2.0, 0.6, GENES), (SAMPLES, GENES)).clip(0)
    values[generator.random(values.shape) < 0.03] = np.nan
    values[:, 17] = np.nan
    names = [f"GENE{number}" for number in range(GENES)]
    return pandas.DataFrame(values, index=[f"S{number}" for number in range(SAMPLES)], columns=names)


def _most_variable(table: pandas.DataFrame) -> pandas.DataFrame:
    """The genes of largest mean absolute deviation, as Way and Greene's notebook has them, in the order of the table."""
    deviations = (table - table.mean()).abs().mean()
    return table[[name for name in table.columns if name in set(deviations.nlargest(KEPT).index)]]


def _configured(folder: Path, table: pandas.DataFrame, scaling: dict[str, Any]) -> Config:
    group = zarr.open_group(folder / "in.zarr", mode="w")
    array = group.create_array("X", shape=table.shape, dtype="float64", chunks=(32, 45), dimension_names=("sample", "gene"))
    array[...] = table.to_numpy()
    for dim, labels in (("gene", table.columns), ("sample", table.index)):
        names = group.create_array(dim, shape=(len(labels),), dtype=str, dimension_names=(dim,))
        names[...] = labels.to_numpy(str)
    select = {"dim": "gene", "k": KEPT, "by": "mean_absolute_deviation"}
    return parse_config(
        {
            "source": {"store": str(folder / "in.zarr"), "array": "X"},
            "normalize": [{"fillna": {"value": 0}}, {"select": select}, scaling],
            "output": {"store": str(folder / "out.zarr"), "dtype": "float64"},
            "cluster": {"kind": "local", "workers": 1, "processes": False},
            "block_bytes": 60_000,
        },
        Config,
    )


@pytest.mark.parametrize("scaling", list(SCALERS))
def test_rna_seq_autoencoder_of_way_and_greene(scaling: str, tmp_path: Path) -> None:
    table = _expression()
    entry, scaler = SCALERS[scaling]
    chosen = _most_variable(table.fillna(0.0))
    expected = scaler().fit_transform(chosen.to_numpy())
    config = _configured(tmp_path, table, entry)
    planned = plan_config(config)
    assert planned.to_json()["fit_passes"] == 2

    source = tmp_path / "in.zarr"
    with counted_reads(source, "X") as counts:
        result = run_config(config, SilentReporter())
    assert set(counts) == stored_chunks(source, "X")
    assert set(counts.values()) == {len(planned.phases)} == {3}

    written = xarray.open_zarr(tmp_path / "out.zarr", consolidated=False)
    assert written["gene"].to_numpy().tolist() == chosen.columns.tolist()
    assert written["sample"].to_numpy().tolist() == table.index.tolist()
    np.testing.assert_allclose(written["X"].to_numpy(), expected, rtol=1e-12, atol=1e-12)

    manifest = Manifest.load(result.manifest_path)
    assert manifest.output_labels["gene"].tolist() == chosen.columns.tolist()
    np.testing.assert_array_equal(manifest.transform(table.to_numpy()), written["X"].to_numpy())
    shuffled = xarray.DataArray(table, dims=["sample", "gene"]).isel(gene=np.random.default_rng(1).permutation(GENES))
    again = manifest.transform(shuffled).sel(gene=chosen.columns.tolist())
    np.testing.assert_array_equal(again.to_numpy(), written["X"].to_numpy())
