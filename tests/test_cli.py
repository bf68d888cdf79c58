"""The command line: what each verb prints, and what becomes of an error."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner, Result

import pipeline.run
from pipeline.cli import main, split_store

CONFIG = """\
source: {{store: {folder}/in.zarr, array: images}}
fit: {{where: {{split: train}}}}
normalize:
  - minmax: {{per: [channel]}}
output: {{store: {folder}/out.zarr, dtype: float32}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a store of ten small images and a configuration for it."""
    generator = np.random.default_rng(7)
    group = zarr.open_group(tmp_path / "in.zarr", mode="w")
    dims = ("sample", "y", "x", "channel")
    images = group.create_array("images", shape=(10, 4, 4, 3), chunks=(5, 4, 4, 3), dtype="float32", dimension_names=dims)
    images[...] = generator.normal(size=images.shape).astype("float32")
    splits = group.create_array("split", shape=(10,), dtype=str, dimension_names=("sample",))
    splits[...] = np.array(["train"] * 8 + ["test"] * 2)
    (tmp_path / "config.yaml").write_text(CONFIG.format(folder=tmp_path))
    return tmp_path


def _call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def _done(*arguments: object) -> Result:
    result = _call(*arguments)
    assert result.exit_code == 0, result.output
    return result


def _failed(status: int, *arguments: object) -> str:
    result = _call(*arguments)
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    return result.stderr


def test_run_writes_a_store_and_a_manifest_and_says_where(folder: Path) -> None:
    result = _done("run", folder / "config.yaml")

    assert result.stdout.splitlines()[:2] == [f"store:    {folder}/out.zarr", f"manifest: {folder}/out.manifest"]
    assert "fit: done" in result.stderr
    assert "apply: done" in result.stderr
    values = zarr.open_array(folder / "out.zarr" / "images", mode="r")[:8]
    np.testing.assert_array_equal(values.min(axis=(0, 1, 2)), [0, 0, 0])
    np.testing.assert_array_equal(values.max(axis=(0, 1, 2)), [1, 1, 1])


def test_fit_writes_the_manifest_only(folder: Path) -> None:
    result = _done("fit", folder / "config.yaml")

    assert result.stdout.startswith(f"manifest: {folder}/out.manifest\ndigest:   ")
    assert (folder / "out.manifest" / "manifest.json").is_file()
    assert not (folder / "out.zarr").exists()


def test_apply_after_fit_writes_what_run_writes(folder: Path) -> None:
    _done("run", folder / "config.yaml")
    _done("fit", folder / "config.yaml", "--set", f"output.manifest={folder}/other.manifest")
    result = _done(
        "apply", folder / "other.manifest", "--source", f"{folder}/in.zarr:images", "--output", folder / "applied.zarr"
    )

    assert result.stdout == f"store:    {folder}/applied.zarr\n"
    ours = zarr.open_array(folder / "applied.zarr" / "images", mode="r")[...]
    np.testing.assert_array_equal(ours, zarr.open_array(folder / "out.zarr" / "images", mode="r")[...])


def test_apply_takes_values_of_its_configuration(folder: Path) -> None:
    _done("fit", folder / "config.yaml")
    arguments = ("apply", folder / "out.manifest", "--source", f"{folder}/in.zarr:images", "--output", folder / "applied.zarr")
    _done(*arguments, "--set", "output.chunks=[2, 4, 4, 3]", "--set", "cluster.workers=2")

    assert zarr.open_array(folder / "applied.zarr" / "images", mode="r").chunks == (2, 4, 4, 3)
    assert "is there already" in _failed(2, *arguments) or "exists" in _failed(2, *arguments)
    _done(*arguments, "--overwrite")


def test_plan_reads_no_data(folder: Path) -> None:
    for chunk in (folder / "in.zarr" / "images" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"")

    content = json.loads(_done("plan", folder / "config.yaml", "--json").stdout)

    assert content["fit_passes"] == 1
    assert content["bytes_written"] == 10 * 4 * 4 * 3 * 4
    assert "peak per worker" in _done("plan", folder / "config.yaml").stdout


def test_plan_says_what_a_run_would_be_refused_for(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    free = _done("plan", folder / "config.yaml").stderr
    assert sorted(folder.rglob("*")) == before
    _done("run", folder / "config.yaml")
    taken = _done("plan", folder / "config.yaml").stderr
    assert "refused" not in free
    assert taken.count("a run would be refused") == 2
    assert str(folder / "out.zarr") in taken and "output.overwrite" in taken
    assert len(json.loads(_done("plan", folder / "config.yaml", "--json").stdout)["in_the_way"]) == 2
    assert "refused" not in _done("plan", folder / "config.yaml", "--set", "output.overwrite=true").stderr
    (folder / "file").touch()
    done = _done("plan", folder / "config.yaml", "--set", f"output.store={folder / 'file'}")
    assert "peak per worker" in done.stdout and str(folder / "file") in done.stderr


def _strict(text: str) -> Any:
    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_show_prints_the_statistics_and_the_chain(folder: Path) -> None:
    _done("fit", folder / "config.yaml")

    content = _strict(_done("show", folder / "out.manifest", "--json").stdout)
    train = zarr.open_array(folder / "in.zarr" / "images", mode="r")[:8]
    assert [step["name"] for step in content["chain"]] == ["minmax"]
    assert content["statistics"]["nobs"] == [8 * 16] * 3
    assert content["statistics"]["min"] == train.min(axis=(0, 1, 2)).tolist()
    shown = _done("show", folder / "out.manifest").stdout
    assert content["digest"] in shown
    assert "per=[channel]" in shown
    assert "per channel: 3 features" in shown


def test_what_a_connection_leaves_behind_is_not_shown(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    _done("plan", folder / "config.yaml")
    for error in (TimeoutError("Timeout"), OSError("gone")):
        logging.getLogger("asyncio").error("Future exception was never retrieved", exc_info=error)
    assert [record.exc_info[1].args for record in caplog.records if record.exc_info and record.exc_info[1]] == [("gone",)]


def test_show_says_that_what_it_shows_is_of_all_groups_together(folder: Path) -> None:
    _done("fit", folder / "config.yaml")
    assert "groups together" not in _done("show", folder / "out.manifest").stdout
    _done("fit", folder / "config.yaml", "--set", "fit={by: split}", "--set", "output.overwrite=true")
    shown = _done("show", folder / "out.manifest").stdout
    assert shown.count("of all groups together") == 2


def test_show_sums_many_features_up(folder: Path) -> None:
    _done("fit", folder / "config.yaml", "--set", "normalize.0.minmax.per=[y, x, channel]")

    shown = _done("show", folder / "out.manifest").stdout
    assert "statistics of the input, per y, x, channel: 48 features" in shown
    assert "median feature" in shown


def test_show_is_strict_json_where_statistics_are_not_available(folder: Path) -> None:
    images = zarr.open_array(folder / "in.zarr" / "images", mode="r+")
    images[..., 0] = np.nan
    images[..., 1] = 3.0
    _done("fit", folder / "config.yaml", "--set", "normalize.0={zscore: {per: [channel]}}")

    statistics = _strict(_done("show", folder / "out.manifest", "--json").stdout)["statistics"]
    assert statistics["mean"][:2] == [None, 3.0]
    assert statistics["skewness"][:2] == [None, None]
    assert statistics["nan"] == [8 * 16, 0, 0]
    assert "skewness: " in _done("show", folder / "out.manifest").stdout


def test_values_are_replaced(folder: Path) -> None:
    _done("run", folder / "config.yaml", "--set", "normalize.0.minmax.range=[0, 2]", "--set", "output.dtype=float64")

    written = zarr.open_array(folder / "out.zarr" / "images", mode="r")
    assert written.dtype == "float64"
    assert written[:8].max() == 2


def test_relative_paths_mean_the_current_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "sub").mkdir()
    (folder / "config.yaml").rename(folder / "sub" / "config.yaml")
    monkeypatch.chdir(folder)
    _done("fit", "sub/config.yaml", "--set", "source.store=in.zarr", "--set", "output.store=out.zarr")

    assert (folder / "out.manifest").is_dir()


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("sorce.store=x", ["unknown key: sorce", "did you mean 'source'?"]),
        ("normalize.0.minmax.rnage=[0,1]", ["normalize.0.minmax.rnage", "range"]),
        ("normalize=[{mnimax: {}}]", ["normalize.0.mnimax", "minmax"]),
        ("normalize.0.minmax.per=[chanel]", ["chanel", "channel"]),
        ("source.store=nowhere.zarr", ["nowhere.zarr"]),
        ("source.array=imges", ["imges", "images"]),
        ("source.dims=[a, b]", ["dims"]),
        ("fit.where={splt: train}", ["splt"]),
    ],
)
def test_a_wrong_request_is_told_in_a_few_lines(folder: Path, assignment: str, said: list[str]) -> None:
    error = _failed(2, "run", folder / "config.yaml", "--set", assignment)

    assert error.startswith("error: ")
    assert len(error.splitlines()) <= 6
    for part in said:
        assert part in error
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "in.zarr"]


def test_a_corrupt_chunk_is_a_failed_run(folder: Path) -> None:
    (folder / "in.zarr" / "images" / "c" / "0" / "0" / "0" / "0").write_bytes(b"not a chunk")

    error = _failed(1, "run", folder / "config.yaml")

    assert "error: " in error
    assert "images" in error
    assert not (folder / "out.manifest").exists()
    with pytest.raises(FileNotFoundError):
        zarr.open_group(folder / "out.zarr", mode="r")


def test_a_manifest_that_is_not_there(tmp_path: Path) -> None:
    for arguments in (("show",), ("apply", "--source", tmp_path / "a", "--output", tmp_path / "b")):
        verb, *options = arguments
        error = _failed(2, verb, tmp_path / "none.manifest", *options)
        assert error.startswith(f"error: no manifest there: {tmp_path}/none.manifest/manifest.json\n")
        assert "expected: a folder with manifest.json and arrays.safetensors" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [("frobnicate",), ("run",), ("run", "a", "b"), ("apply", "m"), ("show", "m", "--jsn"), ("--nope",)]
)
def test_a_malformed_command_line_is_a_wrong_request(arguments: tuple[str, ...]) -> None:
    assert "Usage" in _failed(2, *arguments)


@pytest.mark.parametrize("assignment", ["output.dtype=float64", "output.manifest=other.manifest", "fit.nan=error"])
def test_apply_refuses_what_it_would_ignore(folder: Path, assignment: str) -> None:
    _done("fit", folder / "config.yaml")
    key = assignment.partition("=")[0]
    arguments = ("apply", folder / "out.manifest", "--source", f"{folder}/in.zarr:images", "--output", folder / "applied.zarr")

    error = _failed(2, *arguments, "--set", assignment)

    assert error.startswith(f"error: unknown key: {key.removesuffix('.nan')}\n")
    assert not (folder / "applied.zarr").exists()


def test_apply_does_not_write_into_its_manifest(folder: Path) -> None:
    _done("fit", folder / "config.yaml")
    for output in ("out.manifest", "out.manifest/applied.zarr"):
        error = _failed(
            2, "apply", folder / "out.manifest", "--source", f"{folder}/in.zarr:images", "--output", folder / output
        )
        assert error.startswith("error: MANIFEST and output.store are not apart: output.store\n")

    assert _done("show", folder / "out.manifest").stdout


@pytest.mark.parametrize("key", ["source.store", "source.array", "output.store", "output.manifest"])
@pytest.mark.parametrize("value", ["a" * 300, '"a\\0b"'])
def test_a_path_that_cannot_be_one_is_a_wrong_request(folder: Path, key: str, value: str) -> None:
    error = _failed(2, "run", folder / "config.yaml", "--set", f"{key}={value}")

    assert error.startswith("error: ")
    assert "unexpected" not in error
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "in.zarr"]


@pytest.mark.parametrize("name", ["zstd", "gzip", "none", "lz4"])
def test_a_compressor_by_its_name(folder: Path, name: str) -> None:
    _done("run", folder / "config.yaml", "--set", f"output.compressors={name}")

    compressors = zarr.open_array(folder / "out.zarr" / "images", mode="r").compressors
    assert bool(compressors) == (name != "none")
    assert all({"lz4": "Blosc"}.get(name, name).lower() in type(each).__name__.lower() for each in compressors)


def test_an_unknown_compressor_is_a_wrong_request(folder: Path) -> None:
    assert "use 'zstd'" in _failed(2, "run", folder / "config.yaml", "--set", "output.compressors=zst")
    assert not (folder / "out.zarr").exists()


def _raise(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(pipeline.run, "run_config", fail)


def test_the_unexpected_is_one_line_and_a_traceback_only_with_debug(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _raise(ZeroDivisionError("division by zero\nand more"), monkeypatch)

    error = _failed(1, "run", folder / "config.yaml")
    assert error == "error: unexpected ZeroDivisionError: division by zero; rerun with --debug for the traceback\n"
    for arguments in (("--debug", "run", folder / "config.yaml"), ("run", folder / "config.yaml", "--debug")):
        result = _call(*arguments)
        assert result.exit_code == 1
        assert "Traceback" in result.stderr


def test_debug_shows_where_a_wrong_request_was_noticed() -> None:
    result = _call("run", "none.yaml", "--debug")

    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "error: cannot read the configuration: none.yaml" in result.stderr


def test_an_interrupt_is_no_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _raise(KeyboardInterrupt(), monkeypatch)

    assert _failed(130, "run", folder / "config.yaml") == "interrupted\n"


@pytest.mark.parametrize(
    ("text", "store", "array"),
    [
        ("in.zarr", "in.zarr", None),
        ("in.zarr:images", "in.zarr", "images"),
        ("in.zarr:layers/raw", "in.zarr", "layers/raw"),
        ("in.zarr:", "in.zarr", None),
        ("s3://bucket/in.zarr", "s3://bucket/in.zarr", None),
        ("s3://bucket/in.zarr:images", "s3://bucket/in.zarr", "images"),
        ("s3://bucket:images", "s3://bucket:images", None),
        ("http://host:8080/in.zarr", "http://host:8080/in.zarr", None),
        ("http://host:8080/in.zarr:a/b", "http://host:8080/in.zarr", "a/b"),
        ("http://host:8080", "http://host:8080", None),
        ("C:\\data\\in.zarr", "C:\\data\\in.zarr", None),
        ("C:/data/in.zarr", "C:/data/in.zarr", None),
        ("C:in.zarr", "C:in.zarr", None),
        ("C:/data/in.zarr:images", "C:/data/in.zarr", "images"),
    ],
)
def test_store_and_array_are_told_apart(text: str, store: str, array: str | None) -> None:
    assert split_store(text) == (store, array)


def test_a_store_with_a_colon_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "a:b").mkdir()

    assert split_store(str(tmp_path / "a:b")) == (str(tmp_path / "a:b"), None)


def test_python_m_pipeline_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "pipeline", "--help"], capture_output=True, text=True, check=True)

    assert done.stdout.startswith("Usage: zarrnorm ")
    assert set(main.commands) == {"run", "fit", "apply", "plan", "show", "steps"}
    assert all(f"\n  {verb} " in done.stdout for verb in main.commands)


def test_version() -> None:
    assert _done("--version").stdout.startswith("zarrnorm ")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
@pytest.mark.parametrize("verb", ["run", "fit"])
def test_a_manifest_that_cannot_be_written_is_found_before_the_fit(folder: Path, verb: str) -> None:
    (folder / "in.zarr" / "images" / "c" / "0" / "0" / "0" / "0").write_bytes(b"not a chunk")

    error = _failed(1, verb, folder / "config.yaml", "--set", "output.manifest=/proc/x.manifest")

    assert error.startswith("error: the manifest cannot be written: /proc/x.manifest\n")
    assert not (folder / "out.zarr").exists()
