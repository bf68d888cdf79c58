"""The groups of a manifest: their labels, their parameters stacked in one array, the digest, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import InputMismatchError, ManifestError
from pipeline.manifest import Grouping, Groups, ManifestRecord
from pipeline.normalize.grouped import UNSEEN
from tests.manifest.fitting import EXPRESSION, fit_record, make_record
from tests.manifest.test_corruption import refuse, reseal

LABELS = ["P1", "P2", "Größe"]


def _chain(record, factor):
    """The chain of `record` with its parameters moved."""
    steps = (
        replace(step, parameters={name: values * factor for name, values in step.parameters.items()})
        for step in record.chain.steps
    )
    return replace(record.chain, steps=tuple(steps))


def grouped(labels=LABELS, unseen="error"):
    record = make_record()
    chains = tuple(_chain(record, 1 + 0.1 * code) for code in range(len(labels)))
    return replace(record, groups=Groups("plate", labels, unseen, chains))


@pytest.mark.parametrize("labels", [LABELS, [3, -1, 2], [0.5, -1e300, 5e-324], [2**64 - 1, 0], [True, False]])
def test_groups_come_back(tmp_path, labels):
    record = grouped(labels, "global")
    record.save(tmp_path / "m")
    loaded = ManifestRecord.load(tmp_path / "m")
    assert loaded.digest == record.digest
    assert (loaded.groups.by, loaded.groups.unseen) == ("plate", "global")
    assert loaded.groups.labels.tolist() == [int(each) if isinstance(each, bool) else each for each in labels]
    for one, other in zip(loaded.groups.chains, record.groups.chains, strict=True):
        for mine, theirs in zip(one.steps, other.steps, strict=True):
            assert mine.step == theirs.step
            assert {name: values.tobytes() for name, values in mine.parameters.items()} == {
                name: values.tobytes() for name, values in theirs.parameters.items()
            }


def test_a_manifest_without_groups_says_nothing_of_them(tmp_path):
    make_record().save(tmp_path / "m")
    assert "groups" not in json.loads((tmp_path / "m" / "manifest.json").read_text())
    assert make_record().to_json()["groups"] is None
    assert grouped().to_json()["groups"] == {"by": "plate", "unseen": "error", "labels": LABELS}


def test_ten_thousand_groups_are_as_many_entries_as_one(tmp_path):
    sizes = []
    for count in (1, 10_000):
        record = fit_record([{"zscore": {"per": ["gene"]}}], EXPRESSION, ("cell", "gene"))
        chains = (record.chain,) * count
        record = replace(record, groups=Groups("donor", np.arange(count), "error", chains))
        record.save(tmp_path / str(count))
        sizes.append((tmp_path / str(count) / "manifest.json").stat().st_size)
        assert len(ManifestRecord.load(tmp_path / str(count)).groups.chains) == count
    assert sizes[1] < sizes[0] + 100


def test_parameters_whose_own_dims_differ_in_size_are_filled_up_with_nan(tmp_path):
    entries = [{"quantile": {"per": ["gene"]}}]
    whole, part = (fit_quantile(entries, EXPRESSION[:count]) for count in (20, 7))
    groups = Groups("plate", np.array(["a", "b"]), "error", (part, whole))
    record = ManifestRecord(whole, {"gene": 4}, groups=groups)
    stacked = groups.stacked(0)["quantiles"]
    assert stacked.shape == (2, 4, 20) and np.isnan(stacked[0, :, 7:]).all() and not np.isnan(stacked[0, :, :7]).any()
    record.save(tmp_path / "m")
    loaded = ManifestRecord.load(tmp_path / "m")
    for one, other in zip(loaded.groups.chains, groups.chains, strict=True):
        assert one.steps[0].parameters["quantiles"].shape == other.steps[0].parameters["quantiles"].shape
        assert one(EXPRESSION).tobytes() == other(EXPRESSION).tobytes()


def fit_quantile(entries, values):
    import xarray

    from pipeline.api import fit

    return fit(xarray.DataArray(values, dims=("cell", "gene")), normalize=entries).chain


def moved(record, factor):
    chains = (*record.groups.chains[:-1], _chain(record, factor))
    return replace(record, groups=replace(record.groups, chains=chains))


CHANGES = {
    "no groups": lambda record: replace(record, groups=None),
    "a label": lambda record: replace(record, groups=replace(record.groups, labels=["P1", "P2", "P3"])),
    "order of labels": lambda record: replace(record, groups=replace(record.groups, labels=["P2", "P1", "Größe"])),
    "by": lambda record: replace(record, groups=replace(record.groups, by="donor")),
    "unseen": lambda record: replace(record, groups=replace(record.groups, unseen="nan")),
    "a parameter of one group": lambda record: moved(record, np.nextafter(1.2, 2)),
}


def test_the_digest_changes_with_all_of_it():
    record = grouped()
    digests = {record.digest, *(change(record).digest for change in CHANGES.values())}
    assert len(digests) == 1 + len(CHANGES)
    assert moved(record, 1.2).digest == record.digest


def test_chains_that_differ_in_more_than_numbers_are_refused():
    record = grouped()
    other = fit_record([{"zscore": {"per": ["gene"], "ddof": 1}}], EXPRESSION, ("cell", "gene")).chain
    fewer = fit_record([{"zscore": {"per": ["gene"]}}], EXPRESSION[:, :3], ("cell", "gene")).chain
    same = fit_record([{"zscore": {"per": ["gene"]}}], EXPRESSION, ("cell", "gene"))
    for chain in (other, fewer, record.chain, replace(same.chain, output_dtype=np.dtype("float32"))):
        with pytest.raises(ManifestError, match="plate 'b'"):
            replace(same, groups=Groups("plate", ["a", "b"], "error", (same.chain, chain)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labels": ["a", "a"]}, "labels that differ"),
        ({"labels": []}, "labels that differ"),
        ({"labels": [0.5, np.nan]}, "labels that differ"),
        ({"unseen": "skip"}, "no such policy"),
        ({"labels": np.array(["2020-01-01"], "M8[D]")}, "do not group"),
    ],
)
def test_a_grouping_that_makes_no_sense_is_refused(fields, message):
    with pytest.raises(ManifestError, match=message):
        Grouping(**{"by": "plate", "labels": ["a", "b"], "unseen": "error", **fields})


def test_every_group_needs_a_chain():
    with pytest.raises(ManifestError, match="one chain each"):
        Groups("plate", ["a", "b"], "error", (make_record().chain,))


def test_a_crafted_file_is_refused(tmp_path):
    def drop_step(fields):
        fields["groups"]["parameters"].pop()

    def other_labels(fields):
        fields["groups"]["kind"] = "integers"

    def other_policy(fields):
        fields["groups"]["unseen"] = "skip"

    def no_groups(fields):
        fields["groups"] = None

    for number, change in enumerate((drop_step, other_labels, other_policy, no_groups)):
        grouped().save(tmp_path / str(number))
        reseal(tmp_path / str(number), change)
        refuse(tmp_path / str(number))


def test_distinct_labels_ascend_and_are_found_again():
    assert Grouping.of(["b", "a", "b"], "plate").labels.tolist() == ["a", "b"]
    assert Grouping.of([10, 9, 10], "plate").labels.tolist() == [9, 10]
    zeros = Grouping.of([0.0, -0.0, 1.0], "dose")
    assert zeros.labels.tolist() == [0.0, 1.0] and not np.signbit(zeros.labels).any()
    grouping = Grouping("plate", ["a", "b"], "global")
    assert grouping.places(np.array(["b", "x", "a"])).tolist() == [1, UNSEEN, 0]
    assert grouping.places("b").tolist() == 1 and grouping.places(b"b").shape == ()
    assert Grouping("treated", [False, True]).codes(np.array([True, False])).tolist() == [1, 0]
    assert Grouping("batch", [1, 2]).codes([2.0, 1.0]).tolist() == [1, 0]


def test_samples_without_a_label_are_refused():
    with pytest.raises(ManifestError, match="without a label"):
        Grouping.of([1.0, np.nan], "dose")
    with pytest.raises(ManifestError, match="without a label"):
        Grouping.of(["a", None], "plate")
    assert Grouping("plate", ["a"], "global").places(["a", None]).tolist() == [0, UNSEEN]


def test_an_unseen_label_is_named_with_those_like_it():
    with pytest.raises(InputMismatchError) as caught:
        Grouping("plate", [f"plate-{number}" for number in range(30)]).codes(["plate-3", "plate_11", "x", "y", "z", "z"])
    assert caught.value.what == "5 of 6 samples have a label that was not fitted"
    assert caught.value.found == "'plate_11', 'x', 'y', …"
    assert "plate-11" in caught.value.expected
    assert "global" in caught.value.remedy
    with pytest.raises(InputMismatchError, match="1 of 1 samples have a label that was not fitted"):
        Grouping("plate", ["a"]).codes([None])
    with pytest.raises(InputMismatchError, match="neither text nor a number"):
        Grouping("plate", ["a"]).codes([object()])
