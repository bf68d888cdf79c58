"""An array in memory as a source: views, never changed, with its dims and coordinates."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.block import Block, block_step, tile
from pipeline.errors import SourceError
from pipeline.source.memory import MemorySource


@pytest.fixture
def source() -> MemorySource:
    coordinates = {"gene": ("gene", np.array(["a", "b", "c"])), "split": ("cell", np.array([True, False]))}
    return MemorySource(np.arange(6.0).reshape(2, 3), ("cell", "gene"), coordinates=coordinates)


def test_reads_views_that_cannot_be_changed(source: MemorySource) -> None:
    values = source.read(Block((0, 1), (2, 3)))
    assert values.tolist() == [[1, 2], [4, 5]]
    assert np.shares_memory(values, source.values)
    with pytest.raises(ValueError, match="read-only"):
        values[0, 0] = 9
    source.values[0, 1] = 7
    assert values[0, 0] == 7


def test_blocks_cover_it(source: MemorySource) -> None:
    blocks = list(tile(source.shape, block_step(source.shape, source.read_unit, 8, 16)))
    assert sum(source.read(block).sum() for block in blocks) == source.values.sum()
    assert len(blocks) == 4


def test_labels_and_coordinates(source: MemorySource) -> None:
    labels = source.labels("gene")
    assert labels is not None
    assert labels.tolist() == ["a", "b", "c"]
    assert source.labels("cell") is None
    assert source.labels("split") is None
    assert source.coordinate("split")[0] == "cell"
    with pytest.raises(SourceError, match="no such coordinate") as caught:
        source.coordinate("plate")
    assert "gene, split" in str(caught.value)


def test_foreign_byte_order_is_read_in_native_order() -> None:
    source = MemorySource(np.arange(3, dtype=">i4"), ("sample",))
    values = source.read(Block((0,), (3,)))
    assert values.dtype == source.dtype == np.dtype("=i4")
    assert values.tolist() == [0, 1, 2]


def test_pickles_with_its_values(source: MemorySource) -> None:
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy.values, source.values)
    assert copy.dims == source.dims
    source.check()


def test_provenance_is_json(source: MemorySource) -> None:
    provenance = source.provenance()
    assert json.loads(json.dumps(provenance)) == provenance
    assert (provenance["store"], provenance["shape"], provenance["dtype"]) == (None, [2, 3], "float64")


@pytest.mark.parametrize(
    ("values", "dims", "options", "message"),
    [
        (np.array(["a"]), ("sample",), {}, "real numbers"),
        (np.array([1j]), ("sample",), {}, "real numbers"),
        (np.array(1.0), (), {}, "dims do not fit"),
        (np.ones((2, 3)), ("sample",), {}, "dims do not fit"),
        (np.ones((2, 3)), ("a", "a"), {}, "dims do not fit"),
        (np.ones((2, 3)), ("a", "b"), {"sample_dim": "c"}, "no such dim"),
        (np.ones((2, 3)), ("a", "b"), {"coordinates": {"g": ("b", np.arange(2))}}, "fits no dim"),
        (np.ones((2, 3)), ("a", "b"), {"coordinates": {"g": ("c", np.arange(2))}}, "fits no dim"),
    ],
)
def test_what_does_not_fit_is_refused(values: Any, dims: tuple[str, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        MemorySource(values, dims, **options)


def test_needs_no_zarr() -> None:
    code = "import sys; import pipeline.source.memory, pipeline.source.source; assert 'zarr' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)
