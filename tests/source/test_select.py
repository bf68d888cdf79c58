"""Which samples are fitted on."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import SourceError
from pipeline.source.memory import MemorySource
from pipeline.source.select import select_samples

COORDINATES = {
    "split": ("cell", np.array(["train", "train", "test", "train"])),
    "plate": ("cell", np.array([1, 2, 2, 3])),
    "kept": ("cell", np.array([True, False, True, True])),
    "gene": ("gene", np.array(["a", "b"])),
}
SOURCE = MemorySource(np.zeros((4, 2)), ("cell", "gene"), coordinates=COORDINATES)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"split": "train"}, [True, True, False, True]),
        ({"plate": [2, 3]}, [False, True, True, True]),
        ({"split": ["train"], "plate": [2, 3]}, [False, True, False, True]),
        ({"kept": True}, [True, False, True, True]),
    ],
)
def test_labels_select_samples(where: dict[str, object], expected: list[bool]) -> None:
    selected = select_samples(SOURCE, where)  # type: ignore[arg-type]
    assert selected is not None
    assert selected.tolist() == expected


def test_nothing_asked_selects_everything() -> None:
    assert select_samples(SOURCE, None) is None


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({"split": "trian"}, "trian"),
        ({"split": ["train", "trian"]}, "trian"),
        ({"plate": [2, 9, 8]}, "9, 8"),
        ({"plate": "2"}, "2"),
        ({"split": "test", "plate": 1}, "split and plate"),
        ({"gene": "a"}, "dim gene"),
        ({"donor": "a"}, "donor"),
    ],
)
def test_a_label_that_no_sample_has_is_refused(where: dict[str, object], found: str) -> None:
    with pytest.raises(SourceError) as caught:
        select_samples(SOURCE, where)  # type: ignore[arg-type]
    assert caught.value.found == found
