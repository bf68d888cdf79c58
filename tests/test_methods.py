"""Methods through `fit`, from a chunked store, in the reads that the plan says; their formulas are tested where they live."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from scipy import stats
from sklearn import preprocessing

from pipeline import Manifest, fit
from pipeline.job import as_source, make_job
from pipeline.plan import plan_passes
from tests.counting import counted_reads

DIMS = ("cell", "gene")


def _values(dtype: str, shape: tuple[int, ...] = (600, 6)) -> NDArray[Any]:
    return np.random.default_rng(3).gamma(2.0, 20.0, size=shape).astype(dtype)


def _store(path: Path, values: NDArray[Any]) -> Path:
    array = zarr.create_array(path, name="X", shape=values.shape, chunks=(70, 4), dtype=values.dtype, dimension_names=DIMS)
    array[...] = values
    return path


def _fit(path: Path, normalize: list[Any], reads: int, **options: Any) -> Manifest:
    """The manifest of a fit from the store at `path`, which reads each chunk `reads` times and is planned to."""
    job = make_job(as_source(path, "X", missing_chunks="fill"), normalize)
    assert len(plan_passes(job.steps, job.source)) == reads
    with counted_reads(path, "X") as counts:
        manifest = fit(path, "X", normalize=normalize, block_bytes=2000, missing_chunks="fill", **options)
    assert set(counts.values()) == {reads}
    return manifest


@pytest.mark.parametrize(
    ("dtype", "normalize", "reads"),
    [
        ("float32", [{"library_size": {"target": 1e4}}, "log1p", {"zscore": {"per": ["gene"]}}], 1),
        ("uint8", [{"clip_percentiles": {"per": ["gene"]}}, {"zscore": {"per": ["gene"]}}], 1),
        ("uint16", [{"clip_percentiles": {"per": []}}, {"zscore": {"per": []}}], 1),
        ("float32", [{"zscore": {"per": ["gene"]}}, {"affine": {"scale": 2, "shift": 1}}, {"minmax": {"per": ["gene"]}}], 1),
        ("float32", [{"robust": {"per": ["gene"]}}, {"minmax": {"per": []}}], 1),
        ("float32", [{"clip_percentiles": {"per": ["gene"]}}, {"zscore": {"per": ["gene"]}}], 2),
        ("float32", [{"whiten": {"dims": ["gene"]}}], 1),
        ("float32", [{"pearson_residuals": {"dims": ["gene"]}}], 1),
    ],
)
def test_reads_are_the_fewest(dtype: str, normalize: list[Any], reads: int, tmp_path: Path) -> None:
    values = _values(dtype)
    manifest = _fit(_store(tmp_path / "x.zarr", values), normalize, reads)
    assert np.isfinite(manifest.transform(values)).all()


def test_robust_and_quantile_equal_scikit_learn_on_few_values(tmp_path: Path) -> None:
    values = _values("int32").astype("float64")
    path = _store(tmp_path / "x.zarr", values)
    robust = _fit(path, [{"robust": {"per": ["gene"]}}], 1).transform(values)
    np.testing.assert_allclose(robust, preprocessing.RobustScaler().fit_transform(values), rtol=1e-12, atol=1e-12)
    uniform = _fit(path, [{"quantile": {"per": ["gene"], "n_quantiles": 100}}], 1).transform(values)
    oracle = preprocessing.QuantileTransformer(n_quantiles=100, subsample=None).fit_transform(values)
    np.testing.assert_allclose(uniform, oracle, rtol=1e-9, atol=1e-9)


def test_quantile_gaussianizes_new_data(tmp_path: Path) -> None:
    values, new = _values("float32", (6000, 2)), _values("float32", (9000, 2))[6000:]
    manifest = _fit(_store(tmp_path / "x.zarr", values), [{"quantile": {"per": ["gene"], "output": "normal"}}], 1)
    transformed = manifest.transform(new)
    # The critical distance of two samples of 6000 and 3000 at 0.1 %.
    assert max(stats.kstest(column, "norm").statistic for column in transformed.T) < 1.95 * np.sqrt(1 / 6000 + 1 / 3000)
    assert (np.diff(manifest.transform(np.sort(new, axis=0)), axis=0) >= 0).all()
    inside = (new >= values.min(axis=0)) & (new <= values.max(axis=0))
    assert inside.mean() > 0.99
    np.testing.assert_allclose(manifest.inverse_transform(transformed)[inside], new[inside], rtol=2e-2)


def test_power_equals_scikit_learn(tmp_path: Path) -> None:
    values = _values("int32").astype("float64") + 1
    manifest = _fit(_store(tmp_path / "x.zarr", values), [{"power": {"per": ["gene"], "method": "box-cox"}}], 1)
    oracle = preprocessing.PowerTransformer(method="box-cox").fit_transform(values)
    np.testing.assert_allclose(manifest.transform(values), oracle, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["pca", "zca", "zca-cor"])
def test_whitening_at_a_large_mean_gives_identity_covariance(method: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(4)
    values = 1e8 + generator.standard_normal((900, 5)) @ generator.standard_normal((5, 5))
    manifest = _fit(_store(tmp_path / "x.zarr", values), [{"whiten": {"dims": ["gene"], "method": method, "epsilon": 0}}], 1)
    whitened = manifest.transform(values)
    np.testing.assert_allclose(np.cov(whitened.T, ddof=1), np.eye(5), atol=2e-6)
    np.testing.assert_allclose(manifest.inverse_transform(whitened), values, rtol=0, atol=1e-6)
