"""Which samples a fit uses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.errors import SourceError
from pipeline.source.memory import MemorySource
from pipeline.source.select import Scope, select_samples, splitmix64, uniform

SAMPLES = 12


def _source(**coordinates: Any) -> MemorySource:
    along = {name: ("sample", np.asarray(values)) for name, values in coordinates.items()}
    return MemorySource(np.zeros((SAMPLES, 2)), ("sample", "x"), coordinates={**along, "gene": ("x", np.array(["a", "b"]))})


def _positions(scope: Scope, **coordinates: Any) -> list[int]:
    selected = select_samples(_source(**coordinates), scope)
    assert selected is not None
    assert selected.shape == (SAMPLES,)
    return np.flatnonzero(selected).tolist()  # type: ignore[no-any-return]


def _refused(scope: Scope, **coordinates: Any) -> SourceError:
    with pytest.raises(SourceError) as caught:
        select_samples(_source(**coordinates), scope)
    return caught.value


def test_nothing_asked_is_nothing_selected() -> None:
    assert select_samples(_source(), Scope()) is None
    assert select_samples(_source(), Scope(where={})) is None


def test_by_label() -> None:
    split = ["train", "test", "train"] * 4
    assert _positions(Scope(where={"split": "test"}), split=split) == [1, 4, 7, 10]
    assert _positions(Scope(where={"split": ["test", "train"]}), split=split) == list(range(SAMPLES))
    assert _refused(Scope(where={"split": ["test", "other"]}), split=split).found == "other"


def test_text_of_any_kind_matches_itself() -> None:
    split = ["train", "test", "train"] * 4
    for labels in (np.array(split, "S5"), np.array([each.encode() for each in split], object), np.array(split, "T")):
        assert _positions(Scope(where={"split": "test"}), split=labels) == [1, 4, 7, 10]


@pytest.mark.parametrize("unit", ["D", "s", "ns"])
def test_by_date(unit: str) -> None:
    days = (np.datetime64("2024-02-27") + np.arange(SAMPLES) // 4).astype(f"datetime64[{unit}]")
    for wanted in ("2024-02-28", "2024-02-28T00:00:00.000000000", "2024-02-28T00:00Z"):
        assert _positions(Scope(where={"day": wanted}), day=days) == [4, 5, 6, 7]
    assert "2024-02-27" in str(_refused(Scope(where={"day": "2025-01-01"}), day=days).expected)
    for wrong in ("soon", 1709078400, True):
        assert _refused(Scope(where={"day": wrong}), day=days).where == "fit.where.day"


def test_by_boolean_coordinate() -> None:
    chosen = np.arange(SAMPLES) % 5 == 0
    assert _positions(Scope(where={"is_train": True}), is_train=chosen) == [0, 5, 10]
    assert len(_positions(Scope(where={"is_train": False}), is_train=chosen)) == 9
    assert _refused(Scope(where={"is_train": "yes"}), is_train=chosen).where == "fit.where.is_train"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (slice(3), [0, 1, 2]),
        (slice(9, None), [9, 10, 11]),
        (slice(0, 100, 5), [0, 5, 10]),
        (slice(2, 9, 3), [2, 5, 8]),
        (slice(None), list(range(12))),
    ],
)
def test_by_position(given: slice, expected: list[int]) -> None:
    assert _positions(Scope(samples=given)) == expected


@pytest.mark.parametrize("given", [slice(-3, None), slice(5, 5), slice(0, -1), slice(None, None, -1), slice(None, None, 0)])
def test_negative_and_empty_slices_are_refused(given: slice) -> None:
    assert _refused(Scope(samples=given)).where == "fit.samples"


def test_a_slice_beyond_the_end_selects_nothing() -> None:
    error = _refused(Scope(samples=slice(12, None)))
    assert (error.what, error.where) == ("no sample is selected", "fit")
    assert "12" in str(error.found)


def test_the_generator_is_splitmix64() -> None:
    """The outputs of the reference implementation."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert splitmix64(1234567, 5).tolist() == published
    assert splitmix64(0, 1).tolist() == [0xE220A8397B1DCDAF]


def test_a_choice_depends_on_position_and_seed_alone() -> None:
    numbers = uniform(7, 1000)
    np.testing.assert_array_equal(uniform(7, 100), numbers[:100])
    assert not np.array_equal(uniform(8, 1000), numbers)
    assert uniform(2**64 - 1, 3).shape == (3,)
    assert ((numbers >= 0) & (numbers < 1)).all()


@pytest.mark.parametrize("seed", [0, 1, 2, 2**63])
@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.9])
def test_about_the_fraction_is_taken_anywhere(seed: int, fraction: float) -> None:
    count = 100_000
    taken = uniform(seed, count) < fraction
    deviation = np.sqrt(fraction * (1 - fraction))
    assert abs(taken.mean() - fraction) < 5 * deviation / np.sqrt(count)
    assert (np.abs(taken.reshape(10, -1).mean(axis=1) - fraction) < 5 * deviation / np.sqrt(count / 10)).all()
    assert abs(np.corrcoef(taken[1:], taken[:-1])[0, 1]) < 5 / np.sqrt(count)


def test_a_larger_fraction_takes_what_a_smaller_one_took() -> None:
    smaller, larger = (set(_positions(Scope(fraction=fraction, seed=3))) for fraction in (0.4, 0.8))
    assert smaller < larger
    assert _positions(Scope(fraction=1.0)) == list(range(SAMPLES))


@pytest.mark.parametrize(("fraction", "seed"), [(0.0, 0), (-0.1, 0), (1.1, 0), (np.nan, 0), (0.5, -1), (0.5, 2**64)])
def test_fractions_and_seeds_out_of_range_are_refused(fraction: float, seed: int) -> None:
    assert _refused(Scope(fraction=fraction, seed=seed)).where == "fit.fraction"


def test_a_fraction_that_takes_none_is_refused() -> None:
    assert "0.001" in str(_refused(Scope(fraction=0.001)).found)


def test_all_conditions_hold_at_once() -> None:
    split = ["train", "test", "train"] * 4
    by_chance = set(_positions(Scope(fraction=0.6, seed=1)))
    expected = sorted(by_chance & {0, 2, 3, 5, 6, 8, 9, 11} & set(range(2, 10)))
    assert 0 < len(expected) < 6
    assert _positions(Scope({"split": "train"}, slice(2, 10), 0.6, 1), split=split) == expected
    error = _refused(Scope({"split": "train"}, slice(1, 2)), split=split)
    assert (error.what, error.where) == ("no sample is selected", "fit")


def test_labels_of_other_dims_are_refused() -> None:
    assert _refused(Scope(where={"gene": "a"})).expected == "dim sample"


def test_what_was_asked_as_json() -> None:
    assert Scope().to_json() == {"where": None, "slice": None, "fraction": None, "seed": None}
    scope = Scope({"plate": (np.int64(1), 2), "is_train": np.True_}, slice(None, 10), 0.25, 9)
    assert scope.to_json() == {
        "where": {"plate": [1, 2], "is_train": True},
        "slice": {"start": 0, "stop": 10, "step": 1},
        "fraction": 0.25,
        "seed": 9,
    }
