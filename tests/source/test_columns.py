"""Columns of an AnnData as labels of samples: categorical, nullable and plain ones, for `where` and `by`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from pipeline import Manifest, fit
from pipeline.config import ApplyConfig, Config, parse_config
from pipeline.errors import InputMismatchError, SourceError
from pipeline.progress import SilentReporter
from pipeline.run import apply_manifest, run_config
from pipeline.source.open import open_source
from pipeline.source.zarr_source import ZarrSource
from tests.source.stores import write_quietly

CELLS, GENES = 12, 3
VALUES = np.random.default_rng(5).gamma(2.0, 3.0, (CELLS, GENES)).astype(np.float32) + 1
CODES = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2], np.int8)
WITH_GAPS = np.where(np.arange(CELLS) % 4 == 3, -1, CODES).astype(np.int8)
BATCHES = np.array(["b1", "b2", "é"])[CODES]
ZSCORE: Any = [{"zscore": {"per": ["gene"]}}]


def _encoded(group: zarr.Group, name: str, kind: str, **parts: NDArray[Any]) -> zarr.Group:
    """A group of arrays, as AnnData writes a column of this kind; an all-false mask is not stored, as Zarr leaves it out."""
    column = group.create_group(name, attributes={"encoding-type": kind, "encoding-version": "0.2.0"})
    for part, values in parts.items():
        if part == "mask" and not values.any():
            column.create_array(part, shape=values.shape, dtype=values.dtype, chunks=values.shape)
        else:
            write_quietly(column, part, values)
    return column


@pytest.fixture(params=[2, 3])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An AnnData, laid out as version 0.12 of that package does it."""
    root = zarr.open_group(
        tmp_path / "in.zarr",
        mode="w",
        zarr_format=request.param,
        attributes={"encoding-type": "anndata", "encoding-version": "0.1.0"},
    )
    for name, factor in (("X", 1), ("layers/counts", 2)):
        array = root.create_array(name, shape=VALUES.shape, dtype="f4", chunks=(5, 2))
        array[...] = VALUES * factor
    obs = root.create_group("obs", attributes={"encoding-type": "dataframe", "_index": "_index"})
    write_quietly(obs, "_index", np.array([f"c{cell}" for cell in range(CELLS)]))
    var = root.create_group("var", attributes={"encoding-type": "dataframe", "_index": "symbol"})
    write_quietly(var, "symbol", np.array([f"g{gene}" for gene in range(VALUES.shape[1])]))
    write_quietly(obs, "split", np.where(np.arange(CELLS) < 8, "train", "test"))
    _encoded(obs, "batch", "categorical", categories=np.array(["b1", "b2", "é"]), codes=CODES)
    _encoded(obs, "dose", "categorical", categories=np.array([0.5, 1.5, 4.0]), codes=WITH_GAPS)
    gaps = _encoded(obs, "donor", "categorical", codes=WITH_GAPS)
    _encoded(gaps, "categories", "nullable-string-array", values=np.array(["x", "y", "z"]), mask=np.zeros(3, bool))
    _encoded(obs, "count", "nullable-integer", values=CODES.astype(np.int64) * 10, mask=np.arange(CELLS) == 1)
    _encoded(obs, "empty", "categorical", categories=np.array([], float), codes=np.full(CELLS, -1, np.int8))
    _encoded(obs, "wrong", "categorical", categories=np.array([1.0, 2.0]), codes=CODES)
    _encoded(obs, "other", "awkward-array", values=CODES)
    return tmp_path / "in.zarr"


def _source(path: Path, array: str = "X") -> ZarrSource:
    return open_source(path, array, ("cell", "gene"))


def _labels(path: Path, name: str) -> list[Any]:
    dim, labels = _source(path).coordinate(name)
    assert dim == "cell"
    return labels.tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("array", ["X", "layers/counts"])
@pytest.mark.parametrize("name", ["batch", "obs/batch"])
def test_a_categorical_column_has_the_values_of_its_categories(path: Path, array: str, name: str) -> None:
    dim, labels = _source(path, array).coordinate(name)
    assert (dim, labels.dtype.kind, labels.tolist()) == ("cell", "U", BATCHES.tolist())


def test_what_is_missing_is_none_or_nan(path: Path) -> None:
    expected = [None if code < 0 else "xyz"[code] for code in WITH_GAPS.tolist()]
    assert _labels(path, "donor") == expected
    np.testing.assert_array_equal(_labels(path, "dose"), [np.nan if code < 0 else [0.5, 1.5, 4.0][code] for code in WITH_GAPS])
    assert _labels(path, "count") == [None if cell == 1 else int(code) * 10 for cell, code in enumerate(CODES)]
    assert _labels(path, "empty") == [None] * CELLS


def test_codes_that_are_no_categories_are_refused(path: Path) -> None:
    with pytest.raises(SourceError, match="codes that are no categories") as caught:
        _source(path).coordinate("wrong")
    assert (caught.value.found, caught.value.expected) == ("codes of dtype int8, up to 2", "whole numbers below 2")


@pytest.mark.parametrize(("name", "nearest"), [("bach", "batch"), ("other", None)])
def test_a_column_that_is_none_names_those_there_are(path: Path, name: str, nearest: str | None) -> None:
    with pytest.raises(SourceError, match="no such coordinate") as caught:
        _source(path).coordinate(name)
    assert "batch" in str(caught.value.expected) and "_index" not in str(caught.value.expected)
    assert nearest is None or caught.value.remedy == f"use {nearest!r}"


@pytest.mark.parametrize("array", ["X", "layers/counts"])
def test_the_indexes_of_an_anndata_label_its_matrices(path: Path, array: str) -> None:
    source = _source(path, array)
    for dim, letter, size in (("cell", "c", CELLS), ("gene", "g", VALUES.shape[1])):
        labels = source.labels(dim)
        assert labels is not None and labels.tolist() == [f"{letter}{at}" for at in range(size)]
    root = zarr.open_group(path)
    root.create_array("obsm/X", data=VALUES, chunks=(5, 2))
    assert open_source(path, "obsm/X", ("cell", "gene")).labels("gene") is None
    del root["var/symbol"]
    assert _source(path, array).labels("gene") is None


def test_genes_of_an_anndata_are_matched_by_name(path: Path) -> None:
    manifest = fit(path, "X", dims=["cell", "gene"], normalize=ZSCORE)
    assert manifest.labels["gene"].tolist() == [f"g{gene}" for gene in range(VALUES.shape[1])]


def test_only_an_anndata_has_columns_of_obs(tmp_path: Path) -> None:
    root = zarr.open_group(tmp_path / "in.zarr", mode="w")
    root.create_array("deep/down/X", shape=(4, 2), dtype="f4", chunks=(2, 2))
    write_quietly(root.create_group("obs"), "split", np.array(list("abab")))
    write_quietly(root, "plate", np.array([1, 1, 2, 2]))
    source = _source(tmp_path / "in.zarr", "deep/down/X")
    with pytest.raises(SourceError, match="no such coordinate"):
        source.coordinate("split")
    assert source.coordinate("obs/split")[1].tolist() == list("abab")
    assert source.coordinate("plate")[1].tolist() == [1, 1, 2, 2]


def test_fit_by_and_where(path: Path) -> None:
    manifest = fit(
        path, "X", dims=["cell", "gene"], normalize=ZSCORE, by="batch", where={"split": "train", "obs/donor": ["x", "y"]}
    )
    rows = (np.arange(CELLS) < 8) & np.isin(WITH_GAPS, [0, 1])
    assert manifest.provenance["fitted_on"]["samples"] == rows.sum()
    assert manifest.groups is not None and manifest.groups.labels.tolist() == ["b1", "b2"]
    for chain, batch in zip(manifest.groups.chains, ("b1", "b2"), strict=True):
        np.testing.assert_allclose(chain.steps[0].parameters["mean"], VALUES[rows & (batch == BATCHES)].mean(axis=0), rtol=1e-6)
    assert fit(path, "X", dims=["cell", "gene"], normalize=ZSCORE, where={"dose": 1.5}).provenance["fitted_on"]["samples"] == 3
    with pytest.raises(SourceError, match="no sample has this label") as caught:
        fit(path, "X", dims=["cell", "gene"], normalize=ZSCORE, where={"donor": "None"})
    assert caught.value.expected == "labels such as x, y, z"


@pytest.mark.parametrize("column", ["donor", "count"])
def test_samples_without_a_label_do_not_group(path: Path, column: str) -> None:
    with pytest.raises(SourceError, match="samples without a label") as caught:
        fit(path, "X", dims=["cell", "gene"], normalize=ZSCORE, by=column)
    assert caught.value.found == f"{3 if column == 'donor' else 1} NaN or None"
    wanted = ["x", "y", "z"] if column == "donor" else [0, 10, 20]
    options: Any = {"by": column, "where": {column: wanted}, "dims": ["cell", "gene"]}
    manifest = fit(path, "X", normalize=ZSCORE, unseen="nan", **options)
    assert manifest.groups is not None and manifest.groups.labels.tolist() == wanted
    labels = _labels(path, column)
    output = manifest.transform(VALUES, by=np.array(labels, object))
    np.testing.assert_array_equal(np.isnan(output).all(axis=1), [label is None for label in labels])
    with pytest.raises(InputMismatchError, match="a label that was not fitted"):
        fit(path, "X", normalize=ZSCORE, **options).transform(VALUES, by=labels)


def test_a_run_and_an_apply_by_a_categorical_column(path: Path) -> None:
    folder = path.parent
    document = {
        "source": {"store": str(path), "array": "X", "dims": ["cell", "gene"]},
        "fit": {"by": "batch"},
        "normalize": ZSCORE,
        "output": {"store": str(folder / "out.zarr")},
    }
    result = run_config(parse_config(document, Config), SilentReporter())
    written: Any = zarr.open_group(folder / "out.zarr", mode="r")
    np.testing.assert_array_equal(written["X"][...], result.manifest.transform(VALUES, by=BATCHES))
    np.testing.assert_array_equal(written["obs/batch/codes"][...], CODES)
    again = {"source": document["source"], "output": {"store": str(folder / "again.zarr")}}
    apply_manifest(Manifest.load(result.manifest_path), parse_config(again, ApplyConfig), SilentReporter())
    np.testing.assert_array_equal(zarr.open_group(folder / "again.zarr", mode="r")["X"][...], written["X"][...])
