"""Compiled decoding and Zarr's own give the same values, fetch no more than is stored, and tell the same errors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numcodecs import Delta
from zarr.codecs import TransposeCodec
from zarr.storage import LocalStore, MemoryStore

from pipeline.block import Block, tile
from pipeline.errors import ChunkError
from pipeline.source.compiled import compiled_chunks
from pipeline.source.reader import BlockReader
from pipeline.source.zarr_source import open_array
from tests.source.stores import LAYOUTS, SHAPE, CountingStore, Stored, numbered, write_store

IO_COUNTS = Path("/proc/self/io")
DTYPES = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]


def _reader(path: Path, wrapped: bool = False) -> BlockReader:
    store: Any = LocalStore(path, read_only=True)
    store = CountingStore(store) if wrapped else store
    return BlockReader(open_array(store, "images"), store)


@pytest.mark.parametrize("stored", LAYOUTS, ids=str)
def test_every_layout_of_a_local_store_is_decoded_by_compiled_code(stored: Stored, tmp_path: Path) -> None:
    path = write_store(tmp_path / "in.zarr", stored)
    compiled, by_zarr = _reader(path), _reader(path, wrapped=True)
    assert compiled.compiled is not None
    assert by_zarr.compiled is None
    for block in (Block((0, 0, 0), SHAPE), Block((1, 1, 1), (6, 4, 5)), Block((6, 4, 5), SHAPE), Block((2, 0, 0), (2, 5, 6))):
        np.testing.assert_array_equal(compiled.read(block), by_zarr.read(block))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_every_dtype_is_decoded_to_the_same_bits(dtype: str, zarr_format: int, tmp_path: Path) -> None:
    size = int(np.prod(SHAPE)) * np.dtype(dtype).itemsize
    raw = np.random.default_rng(1).integers(0, 2 if dtype == "?" else 256, size, np.uint8)
    images = raw.view(dtype).reshape(SHAPE)
    path = write_store(tmp_path / "in.zarr", Stored(zarr_format, (2, 5, 6)), images)
    block = Block((0, 0, 0), SHAPE)
    assert _reader(path).compiled is not None
    assert _reader(path).read(block).tobytes() == _reader(path, wrapped=True).read(block).tobytes() == images.tobytes()


def test_what_compiled_code_does_not_know_is_read_by_zarr(tmp_path: Path) -> None:
    layout = Stored(2, (3, 5, 6))
    swapped = write_store(tmp_path / "swapped.zarr", layout, dtype=">f4")
    filtered = write_store(tmp_path / "filtered.zarr", layout, filters=[Delta(dtype="<f4")])
    for path in (swapped, filtered):
        reader = _reader(path)
        assert reader.compiled is None
        np.testing.assert_array_equal(reader.read(Block((0, 0, 0), SHAPE)), numbered())
    store = MemoryStore()
    array = zarr.create_array(store, shape=SHAPE, chunks=SHAPE, dtype="f4")
    array[...] = numbered()
    assert BlockReader(array, store).compiled is None


@pytest.mark.parametrize(
    "layout",
    [
        {"zarr_format": 2, "order": "F"},
        {"zarr_format": 3, "filters": [TransposeCodec(order=(2, 0, 1))]},
        {"zarr_format": 3, "filters": [TransposeCodec(order=(2, 0, 1))], "shards": (6, 4, 8)},
    ],
    ids=["order F", "transposed", "transposed in shards"],
)
def test_compiled_code_reads_and_writes_arrays_in_another_order(layout: dict[str, Any], tmp_path: Path) -> None:
    path, values = tmp_path / "in.zarr", numbered()
    array = zarr.create_array(path, name="images", shape=SHAPE, chunks=(3, 2, 4), dtype=values.dtype, **layout)
    chunks = compiled_chunks(array, LocalStore(path))
    assert chunks is not None
    chunks.write(Block((0, 0, 0), SHAPE), values)
    for block in (Block((0, 0, 0), SHAPE), Block((1, 1, 1), (6, 4, 5))):
        np.testing.assert_array_equal(array[block.slices], values[block.slices])
        np.testing.assert_array_equal(_reader(path).read(block), values[block.slices])


@pytest.mark.skipif(not IO_COUNTS.exists(), reason="only Linux counts what a process reads")
@pytest.mark.parametrize("stored", LAYOUTS, ids=str)
def test_a_pass_fetches_about_the_bytes_that_are_stored(stored: Stored, tmp_path: Path) -> None:
    values = np.random.default_rng(2).standard_normal((70, 50, 60)).astype(np.float32)
    larger = Stored(
        stored.zarr_format,
        tuple(10 * size for size in stored.chunks),
        stored.shards and tuple(10 * size for size in stored.shards),
        stored.encoding,
        stored.separator,
    )
    path = write_store(tmp_path / "in.zarr", larger, values)
    reader = _reader(path)
    unit = larger.shards or larger.chunks
    stored_bytes = sum(file.stat().st_size for file in (path / "images").rglob("*") if file.is_file())
    before = _bytes_read()
    for block in tile(values.shape, unit):
        reader.read(block)
    fetched = _bytes_read() - before
    assert 0.9 * stored_bytes < fetched < 1.1 * stored_bytes


def test_opening_in_many_threads_leaves_the_configuration_of_zarr_as_it_was(tmp_path: Path) -> None:
    path = write_store(tmp_path / "in.zarr", Stored(3, (2, 5, 6)))
    before = {key: zarr.config.get(key) for key in ("codec_pipeline", "threading")}
    readers = [_reader(path) for _ in range(40)]
    with ThreadPoolExecutor(8) as threads:
        opened = list(threads.map(lambda reader: reader.compiled, readers))
    assert all(array is not None for array in opened)
    assert {key: zarr.config.get(key) for key in ("codec_pipeline", "threading")} == before


def test_a_lost_chunk_is_noticed_and_filled_only_where_that_is_asked(tmp_path: Path) -> None:
    path = write_store(tmp_path / "in.zarr", Stored(3, (2, 5, 6)))
    (path / "images/c/1/0/0").unlink()
    strict = _reader(path)
    with pytest.raises(ChunkError, match="a stored chunk is missing") as caught:
        strict.read(Block((0, 0, 0), SHAPE))
    assert "images/c/1/0/0" in str(caught.value)
    lenient = BlockReader(strict.array, strict.store, "fill")
    assert lenient.compiled is not None
    expected = numbered()
    expected[2:4] = 0
    np.testing.assert_array_equal(lenient.read(Block((0, 0, 0), SHAPE)), expected)


def _bytes_read() -> int:
    fields = dict(line.split(": ") for line in IO_COUNTS.read_text().splitlines())
    return int(fields["rchar"])
