"""A manifest and a whole source: what does not fit is said as it is."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline import Manifest
from pipeline.errors import InputMismatchError
from pipeline.inference.stored import chain_for
from pipeline.source.memory import MemorySource
from tests.manifest.fitting import fit_record

GENES = np.array(["a", "b", "c", "d", "e"])
VALUES = np.random.default_rng(1).gamma(2.0, 3.0, (9, 5))


def _manifest(step: str) -> Manifest:
    return fit_record([step], VALUES, ("cell", "gene"), {"gene": GENES}, kind=Manifest)


def _source(places: list[int]) -> MemorySource:
    return MemorySource(VALUES[:, places], ("cell", "gene"), coordinates={"gene": ("gene", GENES[places])})


@pytest.mark.parametrize(
    ("places", "found"),
    [([0, 1, 2, 3], "4 of its labels"), ([3, 1], "2 of its labels"), ([1, 0, 2, 3, 4], "5 labels in another order")],
)
def test_a_whole_dim_of_which_labels_are_missing_or_in_another_order(places: list[int], found: str) -> None:
    with pytest.raises(InputMismatchError, match="looks at the whole of this dim") as caught:
        chain_for(_manifest("unit_norm"), _source(places))
    assert (caught.value.where, caught.value.found) == ("dim gene", found)


def test_other_dims_are_matched_by_label() -> None:
    places = [3, 1]
    manifest = fit_record([{"maxabs": {"per": ["gene"]}}], VALUES, ("cell", "gene"), {"gene": GENES}, kind=Manifest)
    source = _source(places)
    np.testing.assert_array_equal(chain_for(manifest, source)(source.values), manifest.transform(VALUES)[:, places])
