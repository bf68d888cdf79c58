"""An output that is replaced is there, and whole, until the new one is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore, MemoryStore

from pipeline.block import Block, tile
from pipeline.errors import OutputExistsError, WriteError
from pipeline.sink import replacement
from pipeline.sink.zarr_sink import ZarrSink, create_output
from pipeline.source.open import open_source
from pipeline.source.zarr_source import ZarrSource
from tests.source.stores import SHAPE, Stored, numbered, stored_files, write_store

FLOAT64 = np.dtype(np.float64)
EVERYTHING = Block((0, 0, 0), SHAPE)


@pytest.fixture
def source(tmp_path: Path) -> ZarrSource:
    return open_source(write_store(tmp_path / "in" / "in.zarr", Stored(3, (3, 2, 4))), "images")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A complete output, alone in its folder."""
    zarr.create_array(tmp_path / "out" / "out.zarr", name="old", data=np.arange(3))
    return tmp_path / "out" / "out.zarr"


def write_all(sink: ZarrSink, values: Any) -> None:
    for block in tile(sink.shape, sink.write_unit):
        sink.write(block, values[block.slices].astype(sink.dtype))


def assert_new(output: Path) -> None:
    np.testing.assert_array_equal(open_source(output, "images").read(EVERYTHING), numbered())
    assert not (output / "old").exists()
    assert not (output / ".zarrnorm").exists()
    assert os.listdir(output.parent) == [output.name]


@pytest.mark.parametrize("address", [str, Path, lambda path: f"file://{path}", LocalStore])
def test_the_old_output_is_there_until_the_new_one_is(source: ZarrSource, output: Path, address: Any) -> None:
    before = stored_files(output)
    with create_output(source, address(output), FLOAT64, overwrite=True) as sink:
        write_all(sink, numbered())
        assert stored_files(output) == before
        sink.commit()
    assert_new(output)


def test_a_run_that_fails_leaves_the_old_output_and_nothing_else(source: ZarrSource, output: Path) -> None:
    before = stored_files(output.parent)
    with create_output(source, output, FLOAT64, overwrite=True) as sink:
        write_all(sink, numbered())
        with pytest.raises(WriteError, match="share"):
            sink.write(Block((0, 0, 0), (1, 1, 1)), np.zeros((1, 1, 1)))
    assert stored_files(output.parent) == before
    assert os.listdir(output.parent) == [output.name]


def test_a_missing_chunk_does_not_replace(source: ZarrSource, output: Path) -> None:
    before = stored_files(output)
    with create_output(source, output, FLOAT64, overwrite=True) as sink, pytest.raises(WriteError, match="not written"):
        sink.commit()
    assert stored_files(output.parent) == {f"out.zarr/{name}": content for name, content in before.items()}


def test_a_run_that_was_killed_leaves_the_old_output_and_the_next_cleans_up(source: ZarrSource, output: Path) -> None:
    before = stored_files(output)
    killed = create_output(source, output, FLOAT64, overwrite=True, chunks=(1, 1, 1))
    write_all(killed, numbered() + 1)
    assert stored_files(output) == before
    with create_output(source, output, FLOAT64, overwrite=True) as sink:
        write_all(sink, numbered())
        with pytest.raises(WriteError, match="took the output over"):
            killed.commit()
        sink.commit()
    assert_new(output)


@pytest.mark.parametrize("failing", [1, 2])
def test_a_rename_that_fails_leaves_the_old_output(
    source: ZarrSource, output: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    before = stored_files(output.parent)
    calls: list[Path] = []
    rename = Path.rename

    def fails(path: Path, target: Any) -> Path:
        calls.append(path)
        if len(calls) == failing:
            raise OSError("no rename today")
        return rename(path, target)

    with create_output(source, output, FLOAT64, overwrite=True) as sink:
        write_all(sink, numbered())
        monkeypatch.setattr(Path, "rename", fails)
        with pytest.raises(WriteError, match="no rename today"):
            sink.commit()
    assert stored_files(output.parent) == before


def test_a_run_killed_between_the_two_renames_is_mended_by_the_next(
    source: ZarrSource, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stored_files(output)
    killed = create_output(source, output, FLOAT64, overwrite=True)
    write_all(killed, numbered() + 1)
    with monkeypatch.context() as patched:
        patched.setattr(replacement, "restore", lambda folder: None)
        rename = Path.rename
        patched.setattr(Path, "rename", lambda path, target: rename(path, target) if path == output else exec("raise OSError"))
        with pytest.raises(WriteError):
            killed.commit()
    assert not output.exists()
    with pytest.raises(OutputExistsError, match="the output exists"):
        create_output(source, output, FLOAT64)
    assert stored_files(output) == before
    with create_output(source, output, FLOAT64, overwrite=True) as sink:
        write_all(sink, numbered())
        sink.commit()
    assert_new(output)


def test_an_old_output_that_went_away_meanwhile_is_no_failure(source: ZarrSource, output: Path) -> None:
    with create_output(source, output, FLOAT64, overwrite=True) as sink:
        write_all(sink, numbered())
        shutil.rmtree(output)
        sink.commit()
    assert_new(output)


def test_a_link_stays_one_and_what_it_points_to_is_replaced(source: ZarrSource, output: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.zarr"
    link.symlink_to(output, target_is_directory=True)
    with create_output(source, link, FLOAT64, overwrite=True) as sink:
        write_all(sink, numbered())
        sink.commit()
    assert link.is_symlink()
    assert_new(output)


def test_a_mounted_file_system_is_refused_before_anything_is_done(
    source: ZarrSource, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stored_files(output.parent)
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == output)
    with pytest.raises(OutputExistsError, match="mounted"):
        create_output(source, output, FLOAT64, overwrite=True)
    assert stored_files(output.parent) == before


def test_without_rename_the_old_output_never_opens_half_replaced(source: ZarrSource, tmp_path: Path) -> None:
    store = MemoryStore()
    zarr.create_array(store, name="old", data=np.ones(3))
    with create_output(source, store, FLOAT64, overwrite=True) as sink:
        write_all(sink, numbered())
        with pytest.raises(Exception, match=r"(?i)no |not"):
            zarr.open(store, mode="r")
        sink.commit()
    np.testing.assert_array_equal(open_source(store, "images").read(EVERYTHING), numbered())
    assert "old" not in zarr.open_group(store, mode="r")
