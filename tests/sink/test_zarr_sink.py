"""The output store: it opens only when it is complete, and keeps everything that stood around the input."""

from __future__ import annotations

import errno
import json
import pickle
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.abc.store import Store
from zarr.errors import ZarrUserWarning
from zarr.storage import LocalStore, MemoryStore, WrapperStore

from pipeline.block import Block, block_step, tile
from pipeline.errors import ConfigError, OutputExistsError, WriteError
from pipeline.sink.zarr_sink import ZarrSink, create_output, write_unit
from pipeline.source.open import open_source
from pipeline.source.zarr_source import ZarrSource
from tests.source.stores import LAYOUTS, SHAPE, Stored, numbered, stored_files, write_store

REPOSITORY = Path(__file__).parents[2]
FLOAT64 = np.dtype(np.float64)
FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])


class RecordingStore(WrapperStore[Store]):
    """Counts what is fetched and stored, and fails where it is told to."""

    def __init__(self, store: Store, fails: Callable[[str], bool] | None = None) -> None:
        super().__init__(store)
        self.fetched: Counter[str] = Counter()
        self.stored: Counter[str] = Counter()
        self.fails = fails

    def _with_store(self, store: Store) -> RecordingStore:
        return self

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        self.fetched[key] += 1
        return await self._store.get(key, prototype, byte_range)

    async def set(self, key: str, value: Any) -> None:
        self._count(key)
        await self._store.set(key, value)

    async def set_if_not_exists(self, key: str, value: Any) -> None:
        self._count(key)
        await self._store.set_if_not_exists(key, value)

    def _count(self, key: str) -> None:
        if self.fails is not None and self.fails(key):
            raise OSError(errno.ENOSPC, "No space left on device")
        self.stored[key] += 1

    def set_sync(self, key: str, value: Any) -> None:
        raise AssertionError("not counted")


@pytest.fixture(params=LAYOUTS, ids=str)
def stored(request: pytest.FixtureRequest) -> Stored:
    return request.param


@pytest.fixture
def source(stored: Stored, tmp_path: Path) -> ZarrSource:
    return open_source(write_store(tmp_path / "in.zarr", stored), "images")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.zarr"


def small_source(tmp_path: Path, zarr_format: int = 3, **options: Any) -> ZarrSource:
    return open_source(write_store(tmp_path / "in.zarr", Stored(zarr_format, (3, 2, 4)), **options), "images")


def write_all(sink: ZarrSink, values: Any, block_bytes: int = 500) -> None:
    for block in tile(sink.shape, block_step(sink.shape, sink.write_unit, sink.dtype.itemsize, block_bytes)):
        sink.write(block, values[block.slices].astype(sink.dtype))


def assert_does_not_open(output: Path) -> None:
    openings: list[Callable[[], Any]] = [
        lambda: zarr.open(output, mode="r"),
        lambda: zarr.open_group(output, mode="r"),
        lambda: zarr.open_group(output, mode="r", use_consolidated=True),
        lambda: zarr.open_array(output, path="images", mode="r"),
        lambda: zarr.open_array(output, path="label", mode="r"),
        lambda: zarr.open(output / "images", mode="r"),
        lambda: zarr.open(output / ".zarrnorm", mode="r"),
        lambda: zarr.open(output / ".zarrnorm" / "images", mode="r"),
        lambda: xr.open_zarr(output, chunks=None, consolidated=False),
        lambda: xr.open_zarr(output, chunks=None, consolidated=True),
        lambda: open_source(output, "images"),
    ]
    for opening in openings:
        with pytest.raises(Exception, match=r"(?i)no |not|unable|could"):
            opening()


@pytest.mark.parametrize("block_bytes", [1, 10**6])
def test_opens_when_complete_and_never_before(source: ZarrSource, stored: Stored, output: Path, block_bytes: int) -> None:
    values = numbered(dtype=np.float64) / 7
    sink = create_output(source, output, FLOAT64)
    assert_does_not_open(output)
    write_all(sink, values, block_bytes)
    assert_does_not_open(output)
    sink.commit()
    array = zarr.open_group(output, mode="r")["images"]
    assert isinstance(array, zarr.Array)
    np.testing.assert_array_equal(array[...], values)
    assert array.dtype == FLOAT64
    assert (array.chunks, array.shards) == (stored.chunks, stored.shards)
    assert array.metadata.zarr_format == stored.zarr_format
    assert not (output / ".zarrnorm").exists()
    copy = open_source(output, "images")
    assert copy.dims == source.dims
    copy.check()
    np.testing.assert_array_equal(copy.read(Block((0, 0, 0), SHAPE)), values)


def test_everything_around_is_byte_identical(source: ZarrSource, output: Path) -> None:
    (Path(str(source.store)) / "notes.txt").write_text("kept")
    sink = create_output(source, output, FLOAT64)
    write_all(sink, numbered())
    sink.commit()
    before = {
        name: content for name, content in stored_files(Path(str(source.store))).items() if not name.startswith("images/")
    }
    after = {name: content for name, content in stored_files(output).items() if not name.startswith("images/")}
    assert before == after
    assert "notes.txt" in after


def test_a_write_stores_each_object_once_and_fetches_only_the_claim(
    source: ZarrSource, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.sink.staging.CHECK_SECONDS", np.inf)
    store = RecordingStore(LocalStore(output))
    sink = create_output(source, store, FLOAT64)
    sink.zarr_array  # noqa: B018 (opens it)
    store.fetched.clear()
    store.stored.clear()
    write_all(sink, numbered())
    expected = {source.grid.key_at(block) for block in tile(SHAPE, sink.write_unit)}
    assert dict(store.stored) == dict.fromkeys(expected, 1)
    blocks = len(list(tile(SHAPE, block_step(SHAPE, sink.write_unit, 8, 500))))
    assert dict(store.fetched) == {".zarrnorm/run": blocks}


def test_fill_values_are_stored_like_any_other(source: ZarrSource, output: Path) -> None:
    sink = create_output(source, output, FLOAT64)
    write_all(sink, np.zeros(SHAPE))
    sink.commit()
    open_source(output, "images").check()


def test_a_write_may_be_repeated_over_a_broken_one(source: ZarrSource, output: Path) -> None:
    sink = create_output(source, output, FLOAT64)
    write_all(sink, numbered())
    for block in tile(SHAPE, sink.write_unit):
        (output / source.grid.key_at(block)).write_bytes(b"broken")
    write_all(sink, numbered() + 1)
    sink.commit()
    np.testing.assert_array_equal(open_source(output, "images").read(Block((0, 0, 0), SHAPE)), numbered() + 1)


def test_parts_of_stored_objects_are_refused(tmp_path: Path, output: Path) -> None:
    sink = create_output(small_source(tmp_path), output, FLOAT64)
    before = stored_files(output)
    for block in (
        Block((0, 0, 0), (2, 2, 4)),
        Block((1, 0, 0), (3, 2, 4)),
        Block((6, 4, 4), (7, 5, 5)),
        Block((6, 4, 4), (9, 6, 8)),
    ):
        with pytest.raises(WriteError, match="share a stored object"):
            sink.write(block, np.zeros(block.shape))
    sharded = create_output(
        small_source(tmp_path / "other"), tmp_path / "sharded.zarr", FLOAT64, chunks=(1, 1, 2), shards=(2, 2, 4)
    )
    with pytest.raises(WriteError, match="share a stored object"):
        sharded.write(Block((0, 0, 0), (1, 1, 2)), np.zeros((1, 1, 2)))
    assert stored_files(output) == before


def test_values_must_fit_the_block(tmp_path: Path, output: Path) -> None:
    sink = create_output(small_source(tmp_path), output, FLOAT64)
    block = Block((0, 0, 0), (3, 2, 4))
    for values in (np.zeros((3, 2, 4), np.float32), np.zeros((3, 2)), np.zeros((1, 2, 4))):
        with pytest.raises(WriteError, match="do not fit the block"):
            sink.write(block, values)


def test_commit_refuses_an_incomplete_output(source: ZarrSource, output: Path) -> None:
    sink = create_output(source, output, FLOAT64)
    write_all(sink, numbered())
    last = list(tile(SHAPE, sink.write_unit))[-1]
    (output / source.grid.key_at(last)).unlink()
    with pytest.raises(WriteError, match="not written") as caught:
        sink.commit()
    assert f"1 chunks missing, first {source.grid.key_at(last)}" in str(caught.value)
    assert_does_not_open(output)
    sink.write(last, numbered()[last.slices].astype(FLOAT64))
    sink.commit()
    np.testing.assert_array_equal(open_source(output, "images").read(Block((0, 0, 0), SHAPE)), numbered())


def test_a_committed_output_takes_no_more(tmp_path: Path, output: Path) -> None:
    sink = create_output(small_source(tmp_path), output, FLOAT64)
    write_all(sink, numbered())
    sink.commit()
    copy = pickle.loads(pickle.dumps(sink))
    with pytest.raises(WriteError, match="not being written"):
        copy.write(Block((0, 0, 0), (3, 2, 4)), np.zeros((3, 2, 4)))
    with pytest.raises(WriteError, match="not being written"):
        copy.commit()


@FORMATS
@pytest.mark.parametrize("consolidated", [True, False])
def test_xarray_opens_the_output_as_it_does_the_input(
    tmp_path: Path, output: Path, zarr_format: int, consolidated: bool
) -> None:
    dataset = xr.Dataset(
        {
            "images": (
                ("sample", "y", "x"),
                numbered(dtype=np.uint8),
                {"long_name": "photographs", "units": "counts", "valid_max": 255},
            )
        },
        coords={"split": ("sample", np.array([0, 1, 0, 1, 0, 1, 2])), "sample": np.arange(7)},
        attrs={"title": "test"},
    )
    path = tmp_path / "in.zarr"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZarrUserWarning)
        dataset.to_zarr(path, zarr_format=zarr_format, consolidated=consolidated, encoding={"images": {"chunks": (3, 2, 4)}})
    sink = create_output(open_source(path, "images"), output, FLOAT64)
    values = np.where(numbered() % 3 == 0, 0, numbered() / 255.0)
    write_all(sink, values)
    sink.commit()
    opened = xr.open_zarr(output, chunks=None, consolidated=consolidated)
    expected = dataset.assign(images=(("sample", "y", "x"), values, {"long_name": "photographs"}))
    xr.testing.assert_identical(opened.load(), expected)


@FORMATS
def test_consolidated_metadata_is_that_of_the_new_array(tmp_path: Path, output: Path, zarr_format: int) -> None:
    path = write_store(tmp_path / "in.zarr", Stored(zarr_format, (3, 2, 4)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZarrUserWarning)
        zarr.consolidate_metadata(path, path="masks")
        zarr.consolidate_metadata(path)
    sink = create_output(open_source(path, "masks/mean"), output, np.dtype(np.float32), compressors="zstd")
    for block in tile(sink.shape, sink.write_unit):
        sink.write(block, np.zeros(block.shape, np.float32))
    sink.commit()
    for group, name in ((output, "masks/mean"), (output / "masks", "mean")):
        fresh, held = (
            zarr.open_group(group, mode="r", use_consolidated=False),
            zarr.open_group(group, mode="r", use_consolidated=True),
        )
        assert held[name].metadata == fresh[name].metadata
        assert held[name].dtype == np.float32
    whole = zarr.open_group(output, mode="r", use_consolidated=True)
    assert sorted(name for name, _ in whole.members(max_depth=None)) == [
        "good",
        "images",
        "label",
        "masks",
        "masks/mean",
        "split",
        "y",
    ]
    assert whole["images"].metadata == zarr.open_group(output, mode="r", use_consolidated=False)["images"].metadata


@FORMATS
def test_stale_attributes_go_and_others_stay(tmp_path: Path, output: Path, zarr_format: int) -> None:
    stale = {
        "scale_factor": 0.1,
        "add_offset": 1.0,
        "valid_range": [0, 255],
        "units": "counts",
        "_FillValue": 0,
        "dtype": "bool",
    }
    source = small_source(tmp_path, zarr_format, attributes={**stale, "long_name": "photographs", "nested": {"units": "m"}})
    sink = create_output(source, output, FLOAT64)
    write_all(sink, numbered())
    sink.commit()
    attributes = zarr.open_array(output, path="images", mode="r").attrs.asdict()
    attributes.pop("_ARRAY_DIMENSIONS", None)
    assert attributes == {"long_name": "photographs", "nested": {"units": "m"}}


def test_unnamed_dims_stay_unnamed(tmp_path: Path, output: Path) -> None:
    path = write_store(tmp_path / "in.zarr", Stored(3, (3, 2, 4)), dims=None)
    sink = create_output(open_source(path, "images", dims=["sample", "y", "x"]), output, FLOAT64)
    write_all(sink, numbered())
    sink.commit()
    assert "dimension_names" not in json.loads((output / "images" / "zarr.json").read_text())


@FORMATS
def test_array_at_the_root(tmp_path: Path, output: Path, zarr_format: int) -> None:
    path = write_store(tmp_path / "in.zarr", Stored(zarr_format, (3, 2, 4)))
    sink = create_output(open_source(path / "images"), output, FLOAT64)
    assert_does_not_open(output)
    write_all(sink, numbered())
    sink.commit()
    opened = zarr.open(output, mode="r")
    assert isinstance(opened, zarr.Array)
    np.testing.assert_array_equal(opened[...], numbered())
    assert "label" not in [file.name for file in output.iterdir()]


def test_groups_without_metadata_get_some(tmp_path: Path, output: Path) -> None:
    path = write_store(tmp_path / "in.zarr", Stored(2, (3, 2, 4)))
    for name in (".zgroup", "masks/.zgroup"):
        (path / name).unlink()
    sink = create_output(open_source(path, "masks/mean"), output, FLOAT64)
    for block in tile(sink.shape, sink.write_unit):
        sink.write(block, np.ones(block.shape))
    sink.commit()
    assert zarr.open_group(output, mode="r")["masks/mean"][0, 0] == 1


def test_array_of_size_zero_commits(tmp_path: Path, output: Path) -> None:
    zarr.create_array(tmp_path / "in.zarr", shape=(0, 5), chunks=(2, 2), dtype="u1", dimension_names=["sample", "x"])
    create_output(open_source(tmp_path / "in.zarr"), output, FLOAT64).commit()
    assert zarr.open_array(output, mode="r").shape == (0, 5)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
@FORMATS
def test_every_output_dtype(tmp_path: Path, output: Path, zarr_format: int, dtype: str) -> None:
    sink = create_output(small_source(tmp_path, zarr_format), output, np.dtype(dtype))
    values = (numbered() % 100).astype(dtype)
    write_all(sink, values)
    sink.commit()
    source = open_source(output, "images")
    assert source.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(source.read(Block((0, 0, 0), SHAPE)), values)


def test_writes_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = small_source(tmp_path)
    monkeypatch.chdir(tmp_path)
    sink = create_output(source, "out.zarr", FLOAT64)
    sink.zarr_array  # noqa: B018 (what is opened here must not travel)
    content = pickle.dumps(sink)
    assert len(content) < 600
    code = (
        "import pickle, sys; import numpy as np; from pipeline.block import tile; sink = pickle.load(sys.stdin.buffer); "
        "[sink.write(block, np.full(block.shape, 5.0)) for block in tile(sink.shape, sink.write_unit)]"
    )
    subprocess.run([sys.executable, "-c", code], input=content, cwd=REPOSITORY, check=True)
    sink.commit()
    assert (open_source("out.zarr", "images").read(Block((0, 0, 0), SHAPE)) == 5).all()


def test_memory_store_is_accepted(tmp_path: Path) -> None:
    store = MemoryStore()
    sink = create_output(small_source(tmp_path), store, FLOAT64)
    write_all(sink, numbered())
    with pytest.raises(Exception, match="No group found"):
        zarr.open_group(store, mode="r")
    sink.commit()
    np.testing.assert_array_equal(open_source(store, "images").read(Block((0, 0, 0), SHAPE)), numbered())
    with pytest.raises(OutputExistsError):
        create_output(small_source(tmp_path / "other"), store, FLOAT64)
    create_output(open_source(tmp_path / "other" / "in.zarr", "images"), store, FLOAT64, overwrite=True)
    with pytest.raises(Exception, match="No group found"):
        zarr.open_group(store, mode="r")


def test_existing_output_is_kept_unless_it_may_go(tmp_path: Path, output: Path) -> None:
    source = small_source(tmp_path)
    zarr.create_array(output, name="precious", data=np.ones(3))
    before = stored_files(output)
    with pytest.raises(OutputExistsError, match="the output exists") as caught:
        create_output(source, output, FLOAT64)
    assert "output.overwrite" in str(caught.value)
    assert stored_files(output) == before
    sink = create_output(source, output, FLOAT64, overwrite=True)
    write_all(sink, numbered())
    assert stored_files(output) == before
    sink.commit()
    assert not (output / "precious").exists()
    assert open_source(output, "images").shape == SHAPE


@pytest.mark.parametrize("overwrite", [True, False])
def test_folder_with_something_else_is_never_removed(tmp_path: Path, output: Path, overwrite: bool) -> None:
    output.mkdir()
    (output / "thesis.tex").write_text("precious")
    with pytest.raises(OutputExistsError, match="holds no Zarr store") as caught:
        create_output(small_source(tmp_path), output, FLOAT64, overwrite=overwrite)
    assert "thesis.tex" in str(caught.value)
    assert stored_files(output) == {"thesis.tex": b"precious"}


def test_file_in_the_way_is_refused(tmp_path: Path, output: Path) -> None:
    output.write_text("precious")
    with pytest.raises(ConfigError, match="not a folder"):
        create_output(small_source(tmp_path), output, FLOAT64, overwrite=True)


def test_empty_folder_is_used(tmp_path: Path, output: Path) -> None:
    output.mkdir()
    create_output(small_source(tmp_path), output, FLOAT64)


def test_unfinished_output_is_begun_anew(tmp_path: Path, output: Path) -> None:
    source = small_source(tmp_path)
    with create_output(source, output, FLOAT64, chunks=(1, 1, 1)) as stopped:
        write_all(stopped, numbered())
    sink = create_output(source, output, FLOAT64)
    assert not [name for name in stored_files(output) if name.startswith("images/")]
    write_all(sink, numbered())
    sink.commit()
    assert len([name for name in stored_files(output) if name.startswith("images/c/")]) == source.grid.size


@FORMATS
def test_commit_stopped_anywhere_does_not_open(tmp_path: Path, output: Path, zarr_format: int) -> None:
    source = small_source(tmp_path, zarr_format)
    documents = len(
        [
            name
            for name in stored_files(tmp_path / "in.zarr")
            if name.rpartition("/")[2] in ("zarr.json", ".zarray", ".zgroup", ".zattrs")
        ]
    )
    for stop in range(documents):
        put: list[str] = []

        def fails(key: str, put: list[str] = put, stop: int = stop) -> bool:
            if key.startswith(".zarrnorm") or not key.endswith(("zarr.json", ".zarray", ".zgroup", ".zattrs")):
                return False
            put.append(key)
            return len(put) > stop

        sink = create_output(source, RecordingStore(LocalStore(output), fails), FLOAT64)
        with sink:
            write_all(sink, numbered())
            with pytest.raises(WriteError):
                sink.commit()
        for opening in (zarr.open, zarr.open_group):
            with pytest.raises(Exception, match=r"(?i)no |not"):
                opening(output, mode="r")
    sink = create_output(source, output, FLOAT64)
    write_all(sink, numbered())
    sink.commit()
    assert open_source(output, "images").shape == SHAPE


@pytest.mark.parametrize(
    "key", ["label/c/1", "images/c/1/0/0", ".zarrnorm/run", ".zarrnorm/unfinished", ".zarrnorm/zarr.json.staged"]
)
def test_full_disk_is_one_error(tmp_path: Path, output: Path, key: str) -> None:
    source = small_source(tmp_path)
    store = RecordingStore(LocalStore(output), lambda stored: stored == key)
    with pytest.raises(WriteError, match="cannot be written") as caught, create_output(source, store, FLOAT64) as sink:
        write_all(sink, numbered())
    assert "No space left" in str(caught.value)
    assert caught.value.exit_status == 1
    assert_does_not_open(output)
    sink = create_output(source, output, FLOAT64)
    write_all(sink, numbered())
    sink.commit()


def test_removal_stopped_half_way_can_be_repeated(tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = small_source(tmp_path)
    zarr.create_array(output, name="old", data=np.ones(3))

    def stopped(store: Store, name: str) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patched:
        patched.setattr("pipeline.sink.staging._remove", stopped)
        with pytest.raises(WriteError, match="killed"):
            create_output(source, RecordingStore(LocalStore(output)), FLOAT64, overwrite=True)
    assert (output / "old").exists()
    assert_does_not_open(output)
    create_output(source, output, FLOAT64)
    assert not (output / "old").exists()


@pytest.mark.parametrize("place", [".", "images", "masks/new.zarr", "..", "../linked.zarr", "../linked.zarr/inside.zarr"])
def test_output_must_stand_apart_from_the_source(tmp_path: Path, place: str) -> None:
    source = small_source(tmp_path / "data")
    path = tmp_path / "data" / "in.zarr"
    (tmp_path / "data" / "linked.zarr").symlink_to(path, target_is_directory=True)
    before = stored_files(path)
    with pytest.raises(ConfigError, match="same store, or one is inside"):
        create_output(source, path / place, FLOAT64, overwrite=True)
    assert stored_files(path) == before


def test_wrong_layout_leaves_no_trace(tmp_path: Path, output: Path) -> None:
    with pytest.raises(ConfigError):
        create_output(small_source(tmp_path), output, FLOAT64, compressors="zip")
    assert not output.exists()


def test_write_unit_is_known_before_the_output(source: ZarrSource, output: Path) -> None:
    assert write_unit(source) == create_output(source, output, FLOAT64).write_unit
