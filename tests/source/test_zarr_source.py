"""A Zarr array as a source: every layout reads the same, each chunk once, and what is lost or broken is named."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore, MemoryStore

from pipeline.block import Block, block_step, tile
from pipeline.errors import ChunkError
from pipeline.source.chunks import ChunkGrid
from pipeline.source.open import open_source
from pipeline.source.zarr_source import ZarrSource, open_array
from tests.source.stores import LAYOUTS, SHAPE, CountingStore, Stored, numbered, stored_files, write_store

REPOSITORY = Path(__file__).parents[2]
EVERYTHING = Block((0, 0, 0), SHAPE)
DTYPES = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", ">i2", ">u4", ">i8", ">f2", ">f4", ">f8"]


def chunk_files(source: ZarrSource, path: Path) -> list[Path]:
    return [path / source.grid.key_at(block) for block in tile(source.shape, source.read_unit)]


@pytest.fixture(params=LAYOUTS, ids=str)
def stored(request: pytest.FixtureRequest) -> Stored:
    return request.param


@pytest.fixture
def path(stored: Stored, tmp_path: Path) -> Path:
    return write_store(tmp_path / "in.zarr", stored)


def test_describes_the_array(path: Path, stored: Stored) -> None:
    source = open_source(path, "images")
    assert (source.dims, source.shape, source.dtype, source.sample_dim) == (("sample", "y", "x"), SHAPE, np.float32, "sample")
    assert source.read_unit == (stored.shards or stored.chunks)
    assert source.store == str(path)


@pytest.mark.parametrize("block_bytes", [1, 200, 400, 10**6])
def test_every_stored_object_is_fetched_exactly_once(path: Path, block_bytes: int) -> None:
    store = CountingStore(LocalStore(path, read_only=True))
    source = open_source(store, "images")
    result = np.zeros(SHAPE, dtype=np.float32)
    for block in tile(source.shape, block_step(source.shape, source.read_unit, 4, block_bytes)):
        result[block.slices] = source.read(block)
    np.testing.assert_array_equal(result, numbered())
    expected = {source.grid.key_at(block) for block in tile(source.shape, source.read_unit)}
    assert set(store.chunks("images")) == expected
    assert set(store.chunks("images").values()) == {1}


def test_any_box_reads(path: Path) -> None:
    source = open_source(path, "images")
    for block in (Block((1, 1, 1), (6, 4, 5)), Block((3, 0, 2), (4, 5, 3)), Block((6, 4, 5), (7, 5, 6)), EVERYTHING):
        np.testing.assert_array_equal(source.read(block), numbered()[block.slices])


def test_check_reads_no_chunk(path: Path) -> None:
    store = CountingStore(LocalStore(path, read_only=True))
    open_source(store, "images").check()
    assert not store.chunks("images")


def test_missing_chunk_is_counted_and_named(path: Path) -> None:
    source = open_source(path, "images")
    lost = chunk_files(source, path)[-2:]
    for file in lost:
        file.unlink()
    total = len(chunk_files(source, path))
    with pytest.raises(ChunkError) as caught:
        source.check()
    assert f"{len(lost)} of {total} stored chunks are missing" in str(caught.value)
    assert lost[0].relative_to(path).as_posix() in str(caught.value)
    assert "source.missing_chunks: fill" in str(caught.value)


def test_chunk_lost_after_the_check_is_noticed(path: Path) -> None:
    source = open_source(path, "images")
    source.check()
    lost = chunk_files(source, path)[-1]
    lost.unlink()
    for block in (EVERYTHING, Block((6, 4, 5), SHAPE)):
        with pytest.raises(ChunkError, match="a stored chunk is missing") as caught:
            source.read(block)
        assert lost.relative_to(path).as_posix() in str(caught.value)
        assert f"{path}:images" in str(caught.value)


def test_missing_chunk_is_filled_where_that_is_asked(path: Path) -> None:
    source = open_source(path, "images", missing_chunks="fill")
    blocks = list(tile(source.shape, source.read_unit))
    (path / source.grid.key_at(blocks[-1])).unlink()
    source.check()
    expected = numbered()
    expected[blocks[-1].slices] = 0
    np.testing.assert_array_equal(source.read(EVERYTHING), expected)


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty"])
def test_corrupt_chunk_is_named(path: Path, damage: str) -> None:
    source = open_source(path, "images")
    broken = chunk_files(source, path)[-1]
    content = broken.read_bytes()
    broken.write_bytes({"truncated": content[: len(content) // 2], "garbage": b"\xab" * len(content), "empty": b""}[damage])
    with pytest.raises(ChunkError, match="a stored chunk cannot be read") as caught:
        source.read(EVERYTHING)
    assert broken.relative_to(path).as_posix() in str(caught.value)
    assert f"{path}:images" in str(caught.value)
    assert caught.value.__cause__ is not None


CODECS: dict[str, dict[str, Any]] = {
    "none": {},
    "blosc": {"cname": "lz4", "clevel": 5, "shuffle": "bitshuffle"},
    "zstd": {"level": 3},
    "gzip": {"level": 5},
}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("kept", [0, 4, 20, -1])
def test_truncated_chunk_is_named_whatever_the_codec(tmp_path: Path, zarr_format: int, codec: str, kept: int) -> None:
    compressors: Any = None
    if codec != "none" and zarr_format == 3:
        compressors = [{"name": codec, "configuration": CODECS[codec]}]
    elif codec != "none":
        compressors = {"id": codec, **CODECS[codec], **({"shuffle": 2} if codec == "blosc" else {})}
    path = write_store(
        tmp_path / "in.zarr", Stored(zarr_format, (3, 5, 6), encoding="v2", separator="."), compressors=compressors
    )
    source = open_source(path, "images")
    np.testing.assert_array_equal(source.read(EVERYTHING), numbered())
    broken = path / "images" / "1.0.0"
    broken.write_bytes(broken.read_bytes()[:kept])
    with pytest.raises(ChunkError, match=r"images/1\.0\.0"):
        source.read(EVERYTHING)


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    class Refusing(CountingStore):
        async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
            if key == "images/c/1/0/0":
                raise PermissionError("no")
            return await super().get(key, prototype, byte_range)

    path = write_store(tmp_path / "in.zarr", Stored(3, (3, 5, 6)))
    source = open_source(Refusing(LocalStore(path)), "images")
    with pytest.raises(ChunkError, match="images/c/1/0/0") as caught:
        source.read(EVERYTHING)
    assert "PermissionError: no" in str(caught.value)
    np.testing.assert_array_equal(source.read(Block((0, 0, 0), (3, 5, 6))), numbered()[:3])


def test_failure_that_no_chunk_repeats_names_the_block(tmp_path: Path) -> None:
    class FailingOnce(CountingStore):
        async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
            if key.endswith("c/0/0/0") and not self.fetched[key]:
                self.fetched[key] += 1
                raise TimeoutError("slow")
            return await super().get(key, prototype, byte_range)

    source = open_source(FailingOnce(LocalStore(write_store(tmp_path / "in.zarr", Stored(3, (3, 5, 6))))), "images")
    with pytest.raises(ChunkError, match=r"images\[0:7, 0:5, 0:6\]"):
        source.read(EVERYTHING)


def test_pickles_as_a_small_description(path: Path) -> None:
    source = open_source(path, "images")
    source.read(EVERYTHING)
    content = pickle.dumps(source)
    assert len(content) < 600
    copy = pickle.loads(content)
    assert copy == source
    np.testing.assert_array_equal(copy.read(EVERYTHING), numbered())


def test_reads_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_store(tmp_path / "in.zarr", Stored(3, (1, 2, 3), shards=(2, 4, 6)))
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps(open_source("in.zarr", "images"))
    code = (
        "import json, pickle, sys; from pipeline.block import Block; source = pickle.load(sys.stdin.buffer); "
        "print(json.dumps([source.read(Block((6, 4, 0), (7, 5, 6))).tolist(), source.labels('y').tolist()]))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=content, cwd=REPOSITORY, capture_output=True, check=True)
    assert json.loads(done.stdout) == [[[[205, 206, 207, 208, 209, 210]]], [10, 20, 30, 40, 50]]


def test_open_store_objects_are_accepted(path: Path) -> None:
    source = open_source(LocalStore(path), "images")
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy.read(EVERYTHING), numbered())
    assert source.provenance()["store"] == str(path)


def test_memory_store_reads_in_process() -> None:
    store = MemoryStore()
    zarr.create_array(store, data=numbered(), chunks=(2, 5, 6), dimension_names=["sample", "y", "x"])
    source = open_source(store)
    source.check()
    np.testing.assert_array_equal(source.read(EVERYTHING), numbered())
    assert source.labels("y") is None


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_real_dtype_reads_in_native_order(tmp_path: Path, zarr_format: int, dtype: str) -> None:
    values = numbered((4, 3), np.uint8).astype(dtype)
    options: dict[str, Any] = (
        {"attributes": {"_ARRAY_DIMENSIONS": ["a", "b"]}} if zarr_format == 2 else {"dimension_names": ["a", "b"]}
    )
    array = zarr.create_array(tmp_path, shape=(4, 3), chunks=(2, 2), dtype=dtype, zarr_format=zarr_format, **options)
    array[...] = values
    source = open_source(tmp_path)
    read = source.read(Block((0, 0), (4, 3)))
    assert source.dtype == read.dtype == np.dtype(dtype).newbyteorder("=")
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_array_of_size_zero_has_no_blocks(tmp_path: Path, zarr_format: int) -> None:
    zarr.create_array(tmp_path, shape=(0, 5), chunks=(2, 2), dtype="f4", zarr_format=zarr_format)
    source = open_source(tmp_path, dims=["sample", "x"])
    source.check()
    assert list(tile(source.shape, block_step(source.shape, source.read_unit, 4))) == []
    assert source.read(Block((0, 0), (0, 5))).shape == (0, 5)
    assert source.provenance()["shape"] == [0, 5]


def test_shard_without_its_empty_chunks_is_complete(tmp_path: Path) -> None:
    array = zarr.create_array(
        tmp_path,
        shape=(8,),
        chunks=(2,),
        shards=(4,),
        dtype="i4",
        dimension_names=["sample"],
        config={"write_empty_chunks": False},
    )
    array[...] = [0, 0, 3, 4, 5, 6, 0, 0]
    source = open_source(tmp_path)
    source.check()
    assert source.read(Block((0,), (8,))).tolist() == [0, 0, 3, 4, 5, 6, 0, 0]


def test_provenance_is_json_and_tells_layouts_apart(path: Path, stored: Stored) -> None:
    provenance = open_source(path, "images").provenance()
    assert json.loads(json.dumps(provenance)) == provenance
    assert provenance["chunks"] == list(stored.chunks)
    assert provenance["shards"] == (list(stored.shards) if stored.shards else None)
    assert provenance["zarr_format"] == stored.zarr_format
    assert ("sharding_indexed" in provenance["codecs"]) == (stored.shards is not None)
    before = provenance["fingerprint"]
    assert open_source(path, "images").provenance()["fingerprint"] == before
    chunk_files(open_source(path, "images"), path)[0].unlink()
    assert open_source(path, "images").provenance()["fingerprint"] != before


def test_fingerprint_does_not_depend_on_the_place(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere.zarr"
    for name, content in stored_files(path).items():
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_bytes(content)
    assert open_source(other, "images").provenance()["fingerprint"] == open_source(path, "images").provenance()["fingerprint"]


def test_linked_chunks_are_found(tmp_path: Path) -> None:
    path = write_store(tmp_path / "in.zarr", Stored(3, (3, 5, 6)))
    (path / "images" / "c").rename(tmp_path / "moved")
    (path / "images" / "c").symlink_to(tmp_path / "moved", target_is_directory=True)
    source = open_source(path, "images")
    source.check()
    np.testing.assert_array_equal(source.read(EVERYTHING), numbered())


def test_foreign_keys_are_no_chunks(path: Path) -> None:
    source = open_source(path, "images")
    for name in ("c/9/9/9", "9.9.9", "c/00/0/0", "0.0", "notes.txt", "c/0/0/0.abc.partial"):
        file = path / "images" / name
        if not file.exists() and not any(parent.is_file() for parent in file.parents):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"")
    assert source.grid.present(source.opened_store).all()
    chunk_files(source, path)[0].unlink()
    missing, first = source.grid.missing(source.opened_store)
    assert (missing, first) == (1, source.grid.key((0, 0, 0)))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_folders_of_one_chunk_each_are_not_listed(zarr_format: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = Stored(zarr_format, (1, 2, 6) if zarr_format == 3 else (1, 5, 6), separator="/")
    source = open_source(write_store(tmp_path / "in.zarr", stored), "images")
    folder, first = tmp_path / "in.zarr" / "images", "c/3/1/0" if zarr_format == 3 else "3/0/0"
    listed: list[str] = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda place: (listed.append(str(place)), scan(place))[1])
    assert source.grid.present(source.opened_store).all()
    assert len(listed) == (8 if zarr_format == 3 else 1)
    (folder / first).rename(folder / "kept")
    assert source.grid.missing(source.opened_store) == (1, f"images/{first}")
    (folder / first).mkdir()
    assert source.grid.missing(source.opened_store) == (1, f"images/{first}")
    shutil.rmtree((folder / first).parent)
    assert source.grid.missing(source.opened_store) == (1, f"images/{first}")


def test_check_and_fingerprint_share_one_listing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(path, "images")
    calls: list[Any] = []
    missing = ChunkGrid.missing
    monkeypatch.setattr(ChunkGrid, "missing", lambda self, store: (calls.append(store), missing(self, store))[1])
    source.check()
    source.provenance()
    assert len(calls) == 1


def test_a_million_keys_are_compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    array = open_array(_empty_grid(), "")
    names = (f"c/{row}/{column}" for row in range(1000) for column in range(1000) if (row, column) != (999, 7))
    monkeypatch.setattr("pipeline.source.chunks.list_keys", lambda store, prefix: names)
    grid = ChunkGrid(array)
    assert grid.size == 1_000_000
    assert grid.missing(array.store) == (1, "c/999/7")


def _empty_grid() -> MemoryStore:
    store = MemoryStore()
    zarr.create_array(store, shape=(1000, 1000), chunks=(1, 1), dtype="u1")
    return store
