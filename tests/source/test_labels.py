"""Which coordinates label a dim, by one rule for arrays in memory, lazy ones and stores."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pytest

from pipeline.source.labels import as_text, usable_labels
from pipeline.source.lazy import LazySource
from pipeline.source.memory import MemorySource

da = pytest.importorskip("dask.array")
DATE = datetime.date(2020, 1, 1)

USABLE: dict[str, tuple[Any, list[Any]]] = {
    "text": (np.array(["a", "é"]), ["a", "é"]),
    "objects of text": (np.array(["a", "é"], dtype=object), ["a", "é"]),
    "variable-width text": (np.array(["a", "é"], dtype="T"), ["a", "é"]),
    "bytes": (np.array([b"a", b"b"]), ["a", "b"]),
    "integers": (np.array([3, 4], dtype="u1"), [3, 4]),
    "floats": (np.array([0.5, 1.5], dtype="f4"), [0.5, 1.5]),
    "objects of integers": (np.array([3, 4], dtype=object), [3, 4]),
    "some objects that are no labels": (np.array(["a", None], dtype=object), ["a", None]),
}
UNUSABLE: dict[str, Any] = {
    "bool": np.array([True, False]),
    "dates": np.array(["2020-01-01", "2020-01-02"], dtype="M8[D]"),
    "durations": np.array([1, 2], dtype="m8[s]"),
    "complex": np.array([1j, 2j]),
    "objects of dates": np.array([DATE, DATE], dtype=object),
    "objects of bool": np.array([True, False], dtype=object),
    "nothing": np.array([None, None], dtype=object),
}


@pytest.mark.parametrize("name", USABLE)
def test_text_and_numbers_label(name: str) -> None:
    values, expected = USABLE[name]
    labels = usable_labels(values)
    assert labels is not None
    assert labels.tolist() == expected


@pytest.mark.parametrize("name", UNUSABLE)
def test_anything_else_does_not(name: str) -> None:
    assert usable_labels(UNUSABLE[name]) is None


@pytest.mark.parametrize("name", [*USABLE, *UNUSABLE])
def test_both_sources_of_arrays_have_the_same_labels(name: str) -> None:
    values = UNUSABLE[name] if name in UNUSABLE else USABLE[name][0]
    coordinates = {"gene": ("gene", values), "plate": ("gene", values)}
    memory = MemorySource(np.ones((3, 2)), ("cell", "gene"), "cell", coordinates)
    lazy = LazySource(da.ones((3, 2), chunks=1), ("cell", "gene"), "cell", coordinates)
    for source in (memory, lazy):
        labels = source.labels("gene")
        assert (None if labels is None else labels.tolist()) == (None if name in UNUSABLE else USABLE[name][1])
        assert source.labels("cell") is None
        assert source.coordinate("plate")[0] == "gene"


def test_text_that_is_no_text_stays_what_it_is() -> None:
    mixed = np.array(["a", 1], dtype=object)
    assert as_text(mixed) is mixed
    assert as_text(np.array([b"\xff"])).tolist() == ["�"]
