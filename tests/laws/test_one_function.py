"""Law 2: what the batch job stored is, bit for bit, what the manifest makes of any subset, as any kind of array."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import xarray
import zarr
from numpy.typing import NDArray

from pipeline import Manifest
from pipeline.config import ClusterConfig, Config, LocalClusterConfig, parse_config
from pipeline.errors import NotInvertibleError
from pipeline.executor import SerialExecutor
from pipeline.progress import SilentReporter
from pipeline.run import run_config
from tests.inference.cases import CHAINS, DIMS, GENES

SHAPE = (23, 3, 5)
CHUNKS = (4, 2, 3)
OUTPUT_CHUNKS = {True: (6, 3, 5), False: (5, 1, 2)}


@cache
def _data(dtype: str) -> NDArray[Any]:
    return np.random.default_rng(11).gamma(1.5, 40.0, size=SHAPE).astype(dtype)


def _config(name: str, folder: Path, output: str, aligned: bool = True) -> Config:
    entries, dtype, output_dtype = CHAINS[name]
    group = zarr.open_group(folder / "source.zarr", mode="w")
    array = group.create_array("X", shape=SHAPE, dtype=dtype, chunks=CHUNKS, dimension_names=DIMS)
    array[...] = _data(dtype)
    genes = group.create_array("gene", shape=(len(GENES),), dtype=str, dimension_names=["gene"])
    genes[...] = np.array(GENES)
    ndim = 2 if name == "pca of y and genes" else 3
    document = {
        "source": {"store": str(folder / "source.zarr"), "array": "X"},
        "normalize": entries,
        "output": {"store": str(folder / output), "dtype": output_dtype, "chunks": OUTPUT_CHUNKS[aligned][:ndim]},
        "block_bytes": 300,
    }
    return parse_config(document, Config)


@pytest.fixture(params=list(CHAINS))
def ran(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[NDArray[Any], NDArray[Any], Manifest]:
    """(input, stored output, manifest as loaded) of a run of each chain."""
    config = _config(request.param, tmp_path, "out.zarr")
    run_config(config, SilentReporter())
    stored = np.asarray(zarr.open_group(tmp_path / "out.zarr", mode="r")["X"][...])
    return _data(CHAINS[request.param][1]), stored, Manifest.load(config.output.manifest)


def _same(one: Any, other: NDArray[Any]) -> bool:
    values = np.asarray(one)
    return values.dtype == other.dtype and values.shape == other.shape and values.tobytes() == other.tobytes()


def test_any_subset_as_any_array_equals_the_store(ran: tuple[NDArray[Any], NDArray[Any], Manifest]) -> None:
    data, stored, manifest = ran
    assert _same(manifest.transform(data), stored)
    labelled = xarray.DataArray(data, dims=DIMS, coords={"gene": GENES})
    for part in (slice(3, 4), slice(1, 20, 3), slice(22, None)):
        assert _same(manifest.transform(data[part]), stored[part])
        turned = manifest.transform(labelled[part].transpose(*reversed(DIMS)))
        assert _same(turned.transpose(*manifest.chain.output_dims), stored[part])
        lazy = dask.array.from_array(data, chunks=(3, 2, 2))[part]
        assert _same(manifest.transform(lazy).compute(scheduler="synchronous"), stored[part])
        assert _same(
            manifest.transform(labelled.copy(data=dask.array.from_array(data, chunks=5))[part]).compute(), stored[part]
        )
    assert _same(manifest.transform(data[7]), stored[7])


def test_the_inverse_gives_the_input_back_or_says_why_not(ran: tuple[NDArray[Any], NDArray[Any], Manifest]) -> None:
    data, stored, manifest = ran
    if not manifest.chain.invertible:
        with pytest.raises(NotInvertibleError, match="has no inverse"):
            manifest.inverse_transform(stored)
        return
    back = manifest.inverse_transform(stored)
    resolution = np.finfo(stored.dtype).eps * 8 * np.abs(data.astype(np.float64)).max()
    assert back.dtype == data.dtype
    if manifest.chain.output_dims != DIMS:  # of some components it is the projection
        np.testing.assert_allclose(manifest.transform(back), stored, rtol=0, atol=1e-5)
        return
    assert np.abs(back.astype(np.float64) - data.astype(np.float64)).max() <= (resolution if data.dtype.kind == "f" else 0)


@pytest.mark.parametrize("name", ["zscore", "unit_norm", "dtype_range then zscore global"])
@pytest.mark.parametrize("aligned", [True, False])
def test_every_executor_writes_the_same_store(
    name: str, aligned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clusters: dict[str, ClusterConfig] = {
        "threads.zarr": LocalClusterConfig(threads_per_worker=3),
        "processes.zarr": LocalClusterConfig(workers=2, processes=True),
    }
    for output, cluster in clusters.items():
        run_config(_config(name, tmp_path, output, aligned).model_copy(update={"cluster": cluster}), SilentReporter())
    monkeypatch.setattr("pipeline.run.connect", lambda *_: _Serial())
    run_config(_config(name, tmp_path, "serial.zarr", aligned), SilentReporter())
    reference = _files(tmp_path / "serial.zarr")
    assert sum("/c/" in name for name in reference) >= 4
    assert _files(tmp_path / "threads.zarr") == reference
    assert _files(tmp_path / "processes.zarr") == reference
    digests = {Manifest.load(tmp_path / f"{kind}.manifest").digest for kind in ("serial", "threads", "processes")}
    assert len(digests) == 1


class _Serial:
    """The serial loop in place of a cluster."""

    def __enter__(self) -> SerialExecutor:
        return SerialExecutor()

    def __exit__(self, *_: object) -> None:
        """Nothing was started."""


def _files(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()}
