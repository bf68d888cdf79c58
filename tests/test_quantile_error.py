"""A manifest says how far off the quantiles are that its steps were fitted to, and they are no further off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
from click.testing import CliRunner

from pipeline import Manifest, fit
from pipeline.cli import main
from pipeline.manifest import QUANTILE_ERROR

ROBUST: dict[str, Any] = {"robust": {"per": ["gene"]}}


def _errors(values: Any, normalize: Any, **options: Any) -> Any:
    dims = {} if isinstance(values, xarray.DataArray) else {"dims": ["cell", "gene"]}
    return fit(values, normalize=normalize, **dims, **options).provenance.get(QUANTILE_ERROR)


def test_what_is_fitted_to_no_quantiles_says_nothing() -> None:
    assert _errors(np.arange(12.0).reshape(6, 2), ["log1p", {"zscore": {"per": ["gene"]}}]) is None
    assert _errors(np.arange(12, dtype="u1").reshape(6, 2), [{"zscore": {"per": ["gene"]}}]) is None


def test_few_values_are_exact() -> None:
    values = np.random.default_rng(0).standard_normal((900, 2))
    assert _errors(values, ["arcsinh", ROBUST]) == {"1.robust": 0.0}
    assert _errors((100 * values).astype("i2"), [ROBUST, {"clip_percentiles": {}}]) == {
        "0.robust": 0.0,
        "1.clip_percentiles": 0.0,
    }


@pytest.mark.parametrize("kind", ["normal", "lognormal", "cauchy", "near 1e8", "two modes"])
def test_the_error_is_a_bound_on_what_was_fitted(kind: str) -> None:
    rng = np.random.default_rng(3)
    values = {
        "normal": lambda: rng.standard_normal((150_000, 1)),
        "lognormal": lambda: np.exp(5 * rng.standard_normal((150_000, 1))),
        "cauchy": lambda: rng.standard_cauchy((150_000, 1)),
        "near 1e8": lambda: 1e8 + rng.standard_normal((150_000, 1)),
        "two modes": lambda: np.where(rng.random((150_000, 1)) < 0.6, 1e-6, 1e6) * rng.uniform(1, 2, (150_000, 1)),
    }[kind]()
    manifest = fit(values, dims=["cell", "gene"], normalize=[{"clip_percentiles": {"per": ["gene"], "lower": 10, "upper": 80}}])
    error = manifest.provenance[QUANTILE_ERROR]["0.clip_percentiles"]
    assert 0 < error <= 2.0**-8
    low, high = (float(manifest.chain.steps[0].parameters[name].item()) for name in ("low", "high"))
    expected = np.quantile(values, [0.1, 0.8])
    np.testing.assert_allclose([low, high], expected, rtol=error)


def test_the_worst_group_and_what_is_observed_count() -> None:
    rng = np.random.default_rng(0)
    values = np.exp(rng.standard_normal((140_000, 1)))
    values[:10_000] = np.round(values[:10_000])
    plate = np.where(np.arange(140_000) < 10_000, "a", "b")
    cells = xarray.DataArray(values, dims=["cell", "gene"], coords={"plate": ("cell", plate)})
    (error,) = _errors(cells, [{"robust": {}}], by="plate").values()
    assert 0 < error <= 2.0**-8
    (error,) = _errors(cells, [{"library_size": {"target": "median"}}]).values()
    assert 0 < error <= 2.0**-8
    assert _errors(np.round(values), [{"library_size": {"target": "median"}}]) == {"0.library_size": 0.0}


def test_it_is_shown_and_is_no_part_of_the_digest(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((150_000, 1))
    manifest = fit(values, dims=["cell", "gene"], normalize=[ROBUST])
    manifest.save(tmp_path / "m")
    assert Manifest.load(tmp_path / "m").provenance[QUANTILE_ERROR] == manifest.provenance[QUANTILE_ERROR]
    shown = CliRunner().invoke(main, ["show", str(tmp_path / "m")]).stdout
    assert "0.robust: within 0." in shown and "% of a value" in shown
    content = json.loads(CliRunner().invoke(main, ["show", str(tmp_path / "m"), "--json"]).stdout)
    assert content["provenance"][QUANTILE_ERROR] == manifest.provenance[QUANTILE_ERROR]
