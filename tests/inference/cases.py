"""One manifest for every step there is, and some chains, with the data they were fitted on and the output as it is stored."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.inference import Manifest
from pipeline.normalize import STEPS
from tests.manifest.fitting import Entries, fit_record

DIMS = ("cell", "y", "gene")
GENES = ["TP53", "MYC", "Größe", "", "ACTB"]

CHAINS: dict[str, tuple[Entries, str, str]] = {
    "minmax": ([{"minmax": {"per": ["gene"], "range": [-0.5, 0.5]}}], "float32", "float32"),
    "zscore": ([{"zscore": {"per": ["gene"], "gamma": [1, 2, 3, 4, 5], "beta": 0.5}}], "float64", "float64"),
    "maxabs": ([{"maxabs": {"per": ["gene", "y"]}}], "int16", "float32"),
    "dtype_range": (["dtype_range"], "uint8", "float32"),
    "unit_norm": ([{"unit_norm": {"dims": ["gene"]}}], "float32", "float64"),
    "log1p": (["log1p"], "float32", "float64"),
    "affine": ([{"affine": {"scale": 0.3, "shift": -2}}], "uint16", "float64"),
    "clip": ([{"clip": {"min": 2, "max": 5}}], "float32", "float32"),
    "nodata": ([{"nodata": {"values": 40}}], "int16", "float32"),
    "robust": ([{"robust": {"per": ["gene"], "scale": "mad"}}], "float32", "float32"),
    "clip_percentiles": ([{"clip_percentiles": {"per": ["gene"], "lower": 5, "upper": 95}}], "uint16", "float32"),
    "quantile": ([{"quantile": {"per": ["gene", "y"], "output": "normal"}}], "float64", "float64"),
    "power": ([{"power": {"per": ["gene"]}}], "float64", "float32"),
    "arcsinh": ([{"arcsinh": {"cofactor": 5}}], "float64", "float32"),
    "anscombe": (["anscombe"], "uint16", "float32"),
    "fillna": ([{"fillna": {"value": -1}}], "int16", "float32"),
    "library_size": ([{"library_size": {"dims": ["gene"]}}], "float32", "float64"),
    "pearson_residuals": (["pearson_residuals"], "uint16", "float32"),
    "sample_zscore": ([{"sample_zscore": {"dims": ["y"]}}], "uint8", "float32"),
    "sample_minmax": (["sample_minmax"], "float32", "float32"),
    "whiten": ([{"whiten": {"dims": ["gene"], "method": "zca-cor"}}], "float64", "float64"),
    "select": ([{"select": {"dim": "gene", "k": 5}}], "float32", "float32"),
    "log1p then zscore per gene": (["log1p", {"zscore": {"per": ["gene"]}}], "float32", "float64"),
    "zscore per gene then unit_norm": ([{"zscore": {"per": ["gene"]}}, {"unit_norm": {"norm": "l1"}}], "float64", "float64"),
    "dtype_range then zscore global": (["dtype_range", {"zscore": {"per": []}}], "uint8", "float32"),
    "pca of genes then minmax": (
        [{"whiten": {"dims": ["gene"], "method": "pca", "components": 3}}, {"minmax": {"per": ["component"]}}],
        "float64",
        "float64",
    ),
    "pca of y and genes": ([{"whiten": {"method": "pca", "components": 4}}], "float32", "float64"),
    "zscore per pixel": ([{"zscore": {"per": ["y"]}}], "float64", "float32"),
}
assert {entries[0] if isinstance(entries[0], str) else next(iter(entries[0])) for entries, *_ in CHAINS.values()} == set(STEPS)


@dataclass(frozen=True)
class Case:
    """A manifest with its labels along `gene`, the data of shape (cell 23, y 3, gene 5), and its output."""

    name: str
    manifest: Manifest
    data: NDArray[Any]
    output: NDArray[Any]

    @property
    def fitted_genes(self) -> bool:
        return "gene" in self.manifest.sizes

    @property
    def keeps_genes(self) -> bool:
        return "gene" in self.manifest.chain.output_dims

    @property
    def projects(self) -> bool:
        """Whether the inverse is a projection."""
        return any(getattr(step.step, "components", None) for step in self.manifest.chain.steps)

    @property
    def whole_genes(self) -> bool:
        return "gene" in self.manifest.chain.whole_dims


@cache
def make_case(name: str) -> Case:
    entries, dtype, output_dtype = CHAINS[name]
    data = np.random.default_rng(11).gamma(1.5, 40.0, size=(23, 3, 5)).astype(dtype)
    manifest = fit_record(entries, data, DIMS, {"gene": GENES}, output_dtype=output_dtype, kind=Manifest)
    return Case(name, manifest, data, manifest.chain(data))
