"""Every chunk is read once for each planned pass, and by nothing that was not planned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from pipeline.api import fit
from pipeline.config import Config, parse_config
from pipeline.document import read_document
from pipeline.progress import SilentReporter
from pipeline.run import fit_config, plan_config, run_config
from tests.counting import counted_reads, stored_chunks

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))
SIZES = {"sample": 60, "cell": 60, "y": 8, "x": 8, "channel": 3, "gene": 30, "feature": 20}
CHUNK_SIZES = {"sample": 7, "cell": 7, "y": 8, "x": 5, "channel": 2, "gene": 11, "feature": 6}


def _configured(path: Path, folder: Path, shards: bool) -> Config:
    """The configuration at `path` with its places in `folder`, where a store that it fits has been made."""
    document: Any = read_document(path)
    dims = document["source"]["dims"]
    document["source"]["store"] = str(folder / "source.zarr")
    document["output"] = {**document["output"], "store": str(folder / "out.zarr"), "manifest": str(folder / "out.manifest")}
    document["block_bytes"] = 2000
    for entry in document["normalize"]:
        if "select" in entry:
            entry["select"]["k"] = 4
    shape = tuple(SIZES[dim] for dim in dims)
    chunks = tuple(CHUNK_SIZES[dim] for dim in dims)
    group = zarr.open_group(folder / "source.zarr", mode="w")
    array = group.create_array(
        document["source"]["array"],
        shape=shape,
        dtype="uint8" if "y" in dims else "float32",
        chunks=chunks,
        shards=tuple(2 * size for size in chunks) if shards else None,
        dimension_names=dims,
    )
    array[...] = np.random.default_rng(5).integers(1, 256, shape)
    split = group.create_array("split", shape=(shape[0],), dtype=str, dimension_names=dims[:1])
    split[...] = np.where(np.arange(shape[0]) < 45, "train", "test")
    return parse_config(document, Config)


@pytest.mark.parametrize("shards", [False, True], ids=["unsharded", "sharded"])
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_reads_each_chunk_as_often_as_planned(path: Path, shards: bool, tmp_path: Path) -> None:
    config = _configured(path, tmp_path, shards)
    planned = plan_config(config)
    source, array = tmp_path / "source.zarr", config.source.array or ""
    chunks = stored_chunks(source, array)
    with counted_reads(source, array) as counts:
        run_config(config, SilentReporter())
    fitted_on_part = config.fit.where is not None
    assert set(counts) == chunks
    assert len(planned.phases) == len(planned.passes) + 1
    expected = {len(planned.phases)} if not fitted_on_part else {len(planned.phases), len(planned.phases) - 1}
    assert set(counts.values()) == expected


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_fit_reads_each_chunk_as_often_as_planned(path: Path, tmp_path: Path) -> None:
    config = _configured(path, tmp_path, shards=False)
    passes = plan_config(config).passes
    assert len(passes) <= (2 if "variable" in path.stem else 1)
    source, array = tmp_path / "source.zarr", config.source.array or ""
    with counted_reads(source, array) as counts:
        fit(source, array, normalize=config.normalize, where=config.fit.where, block_bytes=2000)
    assert set(counts.values()) == ({len(passes)} if passes else set())


def test_a_chain_with_nothing_to_fit_costs_run_one_read_and_is_described_all_the_same(tmp_path: Path) -> None:
    path = next(path for path in CONFIGS if path.stem == "vectors-unit-norm")
    config = _configured(path, tmp_path, shards=False)
    source = tmp_path / "source.zarr"
    with counted_reads(source, "vectors") as counts:
        result = run_config(config, SilentReporter())
    assert set(counts.values()) == {1}
    assert plan_config(config).to_json()["fit_passes"] == 0
    described = fit_config(
        config.model_copy(update={"output": config.output.model_copy(update={"manifest": str(tmp_path / "other.manifest")})}),
        SilentReporter(),
    )
    assert result.manifest.to_json()["statistics"]["nobs"] == 60 * 20
    assert described.digest == result.manifest.digest


@pytest.mark.parametrize(
    ("output_chunks", "block_bytes", "reads_at_most"),
    [
        ((4, 12, 12), 50_000, 1.0),  # the two grids meet in a block
        ((4, 10, 10), 30_000, 1.3),  # they do not: blocks that hold all they can along the last dim read each chunk 2.3 times
        ((4, 10, 10), 1, 5.1),  # a block is one chunk of the output
    ],
)
def test_a_chunk_is_read_again_as_seldom_as_a_block_allows(
    output_chunks: tuple[int, ...], block_bytes: int, reads_at_most: float, tmp_path: Path
) -> None:
    shape, dims = (8, 120, 120), ("sample", "y", "x")
    source = tmp_path / "source.zarr"
    values = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
    array = zarr.create_array(source, name="images", shape=shape, chunks=(1, 16, 16), dtype="u1", dimension_names=dims)
    array[...] = values
    document = {
        "source": {"store": str(source), "array": "images"},
        "normalize": [{"affine": {"scale": 0.5}}],
        "output": {"store": str(tmp_path / "out.zarr"), "manifest": str(tmp_path / "out.manifest"), "chunks": output_chunks},
        "block_bytes": block_bytes,
    }
    config = parse_config(document, Config)
    planned = plan_config(config)
    with counted_reads(source, "images") as counts:
        run_config(config, SilentReporter())
    assert set(counts) == stored_chunks(source, "images")
    assert sum(counts.values()) <= reads_at_most * len(counts)
    assert planned.phases[-1].blocks > 1
    written: Any = zarr.open_array(tmp_path / "out.zarr", path="images", mode="r")
    np.testing.assert_array_equal(written[...], values * np.float32(0.5))


def test_planning_reads_no_chunk(tmp_path: Path) -> None:
    config = _configured(CONFIGS[0], tmp_path, shards=False)
    with counted_reads(tmp_path / "source.zarr", config.source.array or "") as counts:
        plan_config(config)
    assert not counts
