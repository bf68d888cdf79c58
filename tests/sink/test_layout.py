"""What a user may say about chunks, shards and compressors, and what is stored then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from pipeline.block import Block
from pipeline.errors import ConfigError
from pipeline.sink.layout import COMPRESSORS, resolve_compressors, resolve_layout
from pipeline.sink.zarr_sink import create_output
from pipeline.source.open import open_source
from pipeline.source.zarr_source import ZarrSource, codec_names
from tests.source.stores import SHAPE, Stored, numbered, write_store

FLOAT32 = np.dtype(np.float32)
EVERYTHING = Block((0, 0, 0), SHAPE)


@pytest.fixture
def sharded(tmp_path: Path) -> ZarrSource:
    return open_source(write_store(tmp_path / "sharded.zarr", Stored(3, (1, 1, 2), shards=(2, 3, 4))), "images")


@pytest.fixture
def format_2(tmp_path: Path) -> ZarrSource:
    return open_source(write_store(tmp_path / "format_2.zarr", Stored(2, (3, 2, 4), separator="/")), "images")


def written(source: ZarrSource, output: Path, **options: Any) -> ZarrSource:
    sink = create_output(source, output, FLOAT32, **options)
    sink.write(EVERYTHING, numbered())
    sink.commit()
    result = open_source(output, "images")
    np.testing.assert_array_equal(result.read(EVERYTHING), numbered())
    return result


def test_default_is_the_layout_of_the_input(sharded: ZarrSource) -> None:
    layout = resolve_layout(sharded, FLOAT32)
    assert (layout.chunks, layout.shards, layout.unit) == ((1, 1, 2), (2, 3, 4), (2, 3, 4))


def test_given_chunks_mean_no_shards_unless_given_too(sharded: ZarrSource, tmp_path: Path) -> None:
    layout = resolve_layout(sharded, FLOAT32, chunks=[4, 5, 6])
    assert (layout.chunks, layout.shards, layout.unit) == ((4, 5, 6), None, (4, 5, 6))
    array = written(sharded, tmp_path / "out.zarr", chunks=[2, 5, 3], shards=[4, 5, 6]).zarr_array
    assert (array.chunks, array.shards) == ((2, 5, 3), (4, 5, 6))


def test_given_shards_hold_the_chunks_of_the_input(sharded: ZarrSource) -> None:
    layout = resolve_layout(sharded, FLOAT32, shards=[4, 4, 4])
    assert (layout.chunks, layout.shards) == ((1, 1, 2), (4, 4, 4))


def test_default_compressor_is_fast(sharded: ZarrSource, format_2: ZarrSource, tmp_path: Path) -> None:
    array = written(sharded, tmp_path / "out3.zarr", chunks=[7, 5, 6]).zarr_array
    assert array.metadata.to_dict()["codecs"][-1] == {  # type: ignore[index]
        "name": "blosc",
        "configuration": {"typesize": 4, "cname": "lz4", "clevel": 5, "shuffle": "bitshuffle", "blocksize": 0},
    }
    array = written(format_2, tmp_path / "out2.zarr").zarr_array
    codec: Any = array.compressors[0]
    assert codec.get_config() == {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 2, "blocksize": 0}


@pytest.mark.parametrize("name", COMPRESSORS)
def test_named_compressors(sharded: ZarrSource, format_2: ZarrSource, tmp_path: Path, name: str) -> None:
    expected = {"lz4": ["blosc"], "none": []}.get(name, [name])
    copy = written(sharded, tmp_path / "out3.zarr", chunks=[7, 5, 6], compressors=name)
    assert list(codec_names(copy.opened_store, "images")) == ["bytes", *expected]
    copy = written(format_2, tmp_path / "out2.zarr", compressors=name)
    assert list(codec_names(copy.opened_store, "images")) == expected


@pytest.mark.parametrize(
    "compressors",
    [
        [{"name": "zstd", "configuration": {"level": 7}}],
        [{"id": "zstd", "level": 7}],
        [{"name": "blosc", "configuration": {"cname": "zstd", "clevel": 3, "shuffle": "shuffle", "typesize": 4}}],
        [{"name": "gzip"}],
        ["gzip"],
        [],
    ],
)
def test_compressors_with_options(sharded: ZarrSource, format_2: ZarrSource, tmp_path: Path, compressors: Any) -> None:
    for source, name in ((sharded, "out3.zarr"), (format_2, "out2.zarr")):
        copy = written(source, tmp_path / name, compressors=compressors)
        assert len(copy.zarr_array.compressors) == len(compressors)
        for codec in copy.zarr_array.compressors:
            text = str(codec)
            assert "level=7" in text or "shuffle" in text.lower() or "gzip" in text.lower()


def test_compressors_may_follow_each_other_in_format_3(sharded: ZarrSource, tmp_path: Path) -> None:
    copy = written(sharded, tmp_path / "out.zarr", compressors=["zstd", "gzip"])
    assert list(codec_names(copy.opened_store, "images"))[1:4] == ["bytes", "zstd", "gzip"]


def test_key_encoding_is_kept(tmp_path: Path) -> None:
    for stored in (
        Stored(3, (7, 5, 6), encoding="v2", separator="."),
        Stored(2, (7, 5, 6), separator="."),
        Stored(3, (7, 5, 6), separator="."),
    ):
        place = tmp_path / str(stored).replace("/", "_")
        written(open_source(write_store(place / "in.zarr", stored), "images"), place / "out.zarr")
        key = "0.0.0" if stored.zarr_format == 2 or stored.encoding == "v2" else "c.0.0.0"
        assert (place / "out.zarr" / "images" / key).is_file()


@pytest.mark.parametrize(
    ("options", "where", "message"),
    [
        ({"chunks": [1, 2]}, "output.chunks", "3 sizes"),
        ({"chunks": [1, 2, 0]}, "output.chunks", "1 or more"),
        ({"shards": [1, 2]}, "output.shards", "3 sizes"),
        ({"shards": [2, 3, 3]}, "output.shards", "multiple of the chunks"),
        ({"chunks": [2, 2, 2], "shards": [4, 4, 5]}, "output.shards", "multiple of the chunks"),
        ({"compressors": "lz5"}, "output.compressors", "use 'lz4'"),
        ({"compressors": [{"name": "zstandard"}]}, "output.compressors", "use 'zstd'"),
        ({"compressors": [{"name": "zstd", "configuration": {}, "level": 3}]}, "output.compressors", "unknown key"),
        ({"compressors": [{"name": "zstd", "configuration": {"levl": 3}}]}, "output", "levl"),
        ({"compressors": [{"name": "gzip", "configuration": {"level": 50}}]}, "output", "50"),
    ],
)
def test_what_does_not_fit_is_refused(
    sharded: ZarrSource, tmp_path: Path, options: dict[str, Any], where: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        create_output(sharded, tmp_path / "out.zarr", FLOAT32, **options)
    assert caught.value.where == where
    assert message in str(caught.value)
    assert not (tmp_path / "out.zarr").exists()


def test_format_2_has_no_shards_and_one_compressor(format_2: ZarrSource) -> None:
    with pytest.raises(ConfigError, match="no shards"):
        resolve_layout(format_2, FLOAT32, shards=[3, 2, 4])
    with pytest.raises(ConfigError, match="one compressor"):
        resolve_layout(format_2, FLOAT32, compressors=["zstd", "gzip"])


def test_blosc_has_a_largest_chunk(tmp_path: Path) -> None:
    zarr.create_array(tmp_path, shape=(2**30,), chunks=(2**30,), dtype="u1", dimension_names=["sample"])
    source = open_source(tmp_path)
    with pytest.raises(ConfigError, match="larger than Blosc can compress"):
        resolve_layout(source, FLOAT32)
    assert resolve_layout(source, FLOAT32, compressors="zstd").chunks == (2**30,)
    assert resolve_layout(source, np.dtype(np.uint8)).chunks == (2**30,)


def test_options_of_a_name_are_not_shared() -> None:
    assert resolve_compressors(None, 3) == resolve_compressors("lz4", 2) == COMPRESSORS["lz4"]
