"""What a configuration may say, and what is said where it is wrong."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config import AddressClusterConfig, ApplyConfig, Config, LocalClusterConfig, load_config, parse_config
from pipeline.document import override
from pipeline.errors import ConfigError

MINIMAL = {"source": {"store": "in.zarr"}, "normalize": ["log1p"], "output": {"store": "out.zarr"}}


def _with(*assignments: str) -> Config:
    return parse_config(override(MINIMAL, assignments), Config)


def _refused(*assignments: str) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        _with(*assignments)
    return error.value


def test_defaults() -> None:
    config = _with()

    assert config.fit.nan == "skip"
    assert config.fit.where is None
    assert config.source.missing_chunks == "error"
    assert config.cluster == LocalClusterConfig(workers=1, threads_per_worker=None, processes=False)
    assert config.block_bytes == 128 * 2**20
    assert not config.output.overwrite


@pytest.mark.parametrize(
    ("store", "manifest"),
    [
        ("out/a.zarr", "out/a.manifest"),
        ("out/a.zarr/", "out/a.manifest"),
        ("out/v1.2", "out/v1.2.manifest"),
        ("s3://bucket/a.zarr", "s3://bucket/a.manifest"),
    ],
)
def test_the_manifest_goes_beside_the_store(store: str, manifest: str) -> None:
    assert _with(f"output.store={store}").output.manifest == manifest


def test_everything_that_can_be_said() -> None:
    config = _with(
        "source={store: in.zarr, array: X, dims: [cell, gene], sample_dim: cell, missing_chunks: fill}",
        "fit={where: {split: [train, other], plate: 3}, nan: propagate, describe: true}",
        "normalize=[log1p, {minmax: }, {zscore: {per: [gene]}}]",
        "output={store: o.zarr, manifest: m, dtype: float32, chunks: [10, 5], shards: [100, 5], overwrite: true}",
        "output.compressors={name: zstd, configuration: {level: 3}}",
        "cluster={kind: address, address: 'tcp://host:8786'}",
        "block_bytes=64MiB",
    )

    assert config.source.dims == ("cell", "gene")
    assert config.fit.where == {"split": ("train", "other"), "plate": (3,)}
    assert config.normalize == ({"log1p": {}}, {"minmax": {}}, {"zscore": {"per": ["gene"]}})
    assert config.output.compressors == ({"name": "zstd", "configuration": {"level": 3}},)
    assert config.cluster == AddressClusterConfig(address="tcp://host:8786")
    assert config.block_bytes == 64 * 2**20


def test_a_section_that_says_nothing_is_absent() -> None:
    assert _with("fit=", "cluster=") == _with()


def test_a_configuration_is_immutable_and_travels() -> None:
    config = _with()

    with pytest.raises(ValueError, match="frozen"):
        config.source.store = "other.zarr"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize(
    ("assignment", "where", "remedy"),
    [
        ("sorce={store: x}", "sorce", "did you mean 'source'?"),
        ("fit.nam=skip", "fit.nam", "did you mean 'nan'?"),
        ("cluster.worker=2", "cluster.worker", "did you mean 'workers'?"),
        ("cluster={kind: address, address: x, adress: y}", "cluster.adress", "did you mean 'address'?"),
        ("output.zzz=1", "output.zzz", "remove it"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_valid_name(assignment: str, where: str, remedy: str) -> None:
    error = _refused(assignment)

    assert (error.what, error.where, error.remedy) == ("unknown key", where, remedy)
    assert error.found == where.rpartition(".")[2]


@pytest.mark.parametrize(
    ("assignment", "where", "found"),
    [
        ("source=3", "source", "3"),
        ("source.store=3", "source.store", "3"),
        ("source.store=''", "source.store", "''"),
        ("source.dims=x", "source.dims", "'x'"),
        ("source.dims=[]", "source.dims", "[]"),
        ("source.dims=[a, 1]", "source.dims.1", "1"),
        ("source.missing_chunks=ignore", "source.missing_chunks", "'ignore'"),
        ("fit.nan=skp", "fit.nan", "'skp'"),
        ("fit.where=train", "fit.where", "'train'"),
        ("fit.where={1: 2}", "fit.where.1", "1"),
        ("fit.describe=yes", "fit.describe", "'yes'"),
        ("normalize=minmax", "normalize", "'minmax'"),
        ("normalize=[]", "normalize", "[]"),
        ("output.dtype=flot32", "output.dtype", "'flot32'"),
        ("output.chunks=[0, 1]", "output.chunks.0", "0"),
        ("output.chunks=[1.5]", "output.chunks.0", "1.5"),
        ("output.overwrite=1", "output.overwrite", "1"),
        ("cluster=local", "cluster", "'local'"),
        ("cluster.kind=locl", "cluster.kind", "'locl'"),
        ("cluster.workers='2'", "cluster.workers", "'2'"),
        ("cluster.workers=0", "cluster.workers", "0"),
        ("cluster={kind: address, address: 3}", "cluster.address", "3"),
        ("block_bytes=12 apples", "block_bytes", "'12 apples'"),
        ("block_bytes=0", "block_bytes", "0"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path_and_what_was_expected(assignment: str, where: str, found: str) -> None:
    error = _refused(assignment)

    assert (error.what, error.where, error.found) == ("wrong value", where, found)
    assert error.expected


@pytest.mark.parametrize(
    ("assignment", "where"),
    [("source={}", "source.store"), ("normalize=", "normalize"), ("cluster={kind: address}", "cluster.address")],
)
def test_a_missing_value_is_named(assignment: str, where: str) -> None:
    error = _refused(assignment)

    assert (error.what, error.where) == ("missing value", where)


@pytest.mark.parametrize(
    ("assignment", "what"),
    [
        ("normalize=[3]", "not a step"),
        ("normalize=[{minmax: 3}]", "not a step"),
        ("normalize=[{1: {}}]", "not a step"),
        ("normalize=[{}]", "not one step but 0"),
        ("normalize=[{minmax: {}, zscore: {}}]", "not one step but 2"),
        ("fit.where={split: {a: 1}}", "not a label"),
        ("fit.where={split: .nan}", "not a label"),
        ("fit.where={split: []}", "no label"),
        ("fit.where={split: .inf}", "not a label"),
        ("output.compressors=3", "not a codec"),
        ("output.compressors=[{level: 3}]", "not a codec"),
        ('source.store="a\\0b"', "text with a NUL character"),
        ('output.manifest="a\\0b"', "text with a NUL character"),
        (f"source.store={'a' * 300}", "a name or a path that is too long"),
        (f"output.store={'a/' * 3000}", "a name or a path that is too long"),
        (f"output.manifest={'a' * 300}", "a name or a path that is too long"),
        ("source.dims=[a, a]", "a dim is named twice"),
    ],
)
def test_values_of_the_wrong_form_are_refused(assignment: str, what: str) -> None:
    assert _refused(assignment).what == what


def test_the_sample_dim_is_one_of_the_dims() -> None:
    error = _refused("source.dims=[sample, gene]", "source.sample_dim=samples")

    assert (error.where, error.found, error.remedy) == ("source.sample_dim", "samples", "did you mean 'sample'?")


@pytest.mark.parametrize(("given", "kept"), [("zstd", "zstd"), ("none", "none"), ("[zstd]", ({"name": "zstd"},)), ("[]", ())])
def test_a_compressor_may_be_a_ready_name(given: str, kept: object) -> None:
    assert _with(f"output.compressors={given}").output.compressors == kept


def test_labels_become_values_of_json() -> None:
    raw = {"split": np.array(["a", "b"]), "plate": np.int64(3), "dose": [np.float32(0.5)], "good": np.True_}
    where = parse_config({**MINIMAL, "fit": {"where": raw}}, Config).fit.where

    assert where == {"split": ("a", "b"), "plate": (3,), "dose": (0.5,), "good": (True,)}
    assert json.loads(json.dumps(where)) == {"split": ["a", "b"], "plate": [3], "dose": [0.5], "good": [True]}


@pytest.mark.parametrize(
    ("assignment", "where"),
    [
        ("output.store=in.zarr", "output.store"),
        ("output.store=./x/../in.zarr/", "output.store"),
        ("output.store=in.zarr/inside", "output.store"),
        ("output.store=.", "output.store"),
        ("output.manifest=in.zarr", "output.manifest"),
        ("output.manifest=out.zarr/manifest", "output.manifest"),
    ],
)
def test_source_output_and_manifest_lie_apart(assignment: str, where: str) -> None:
    assert _refused(assignment).where == where


def test_a_link_to_the_source_is_the_source(tmp_path: Path) -> None:
    (tmp_path / "in.zarr").mkdir()
    os.symlink(tmp_path / "in.zarr", tmp_path / "link.zarr")

    with pytest.raises(ConfigError, match="not apart"):
        _with(f"source.store={tmp_path / 'in.zarr'}", f"output.store={tmp_path / 'link.zarr'}")


def test_names_that_only_begin_alike_are_apart() -> None:
    assert _with("output.store=in.zarr2").output.store == "in.zarr2"
    assert (
        _with("source.store=s3://b/in.zarr", "output.store=s3://b/in.zarr-out").output.manifest == "s3://b/in.zarr-out.manifest"
    )


def test_several_errors_are_told_in_a_few_lines() -> None:
    raw: dict[str, Any] = {"sorce": 1, "fit": {"nam": 1, "nan": "x"}, "block_bytes": "x", "cluster": {"workers": "2"}, "z": 1}
    with pytest.raises(ConfigError) as error:
        parse_config(raw, Config)

    lines = str(error.value).splitlines()
    assert lines[0] == "9 wrong values in the configuration"
    assert any("sorce: unknown key sorce" in line and "did you mean 'source'?" in line for line in lines)
    assert lines[-1].strip() == "and 4 more"
    assert len(lines) == 7


def test_a_long_value_is_cut() -> None:
    assert len(str(_refused(f"fit.nan={'x' * 1000}").found)) == 80


@pytest.mark.parametrize("raw", [None, [1], "text", 3])
def test_what_is_not_a_mapping_is_refused(raw: object) -> None:
    with pytest.raises(ConfigError, match="not a configuration"):
        parse_config(raw, Config)


def test_load_config_reads_a_file_and_replaces_values(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("source: {store: in.zarr}\nnormalize: [{minmax: {per: []}}]\noutput: {store: out.zarr}\n")

    config = load_config(str(path), ["normalize.0.minmax.range=[0, 2]", "cluster.workers=3"], Config)

    assert config.normalize == ({"minmax": {"per": [], "range": [0, 2]}},)
    assert config.cluster == LocalClusterConfig(workers=3)


def test_an_application_has_no_chain_of_its_own() -> None:
    with pytest.raises(ConfigError, match="unknown key: normalize"):
        parse_config(MINIMAL, ApplyConfig)


@pytest.mark.parametrize("key", ["dtype", "manifest"])
def test_an_application_has_no_dtype_and_no_manifest_of_its_own(key: str) -> None:
    raw = {"source": {"store": "in.zarr"}, "output": {"store": "out.zarr", key: "float32"}}
    with pytest.raises(ConfigError, match=f"unknown key: output.{key}"):
        parse_config(raw, ApplyConfig)
