"""What is saved comes back, whole and only where nothing was."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ConfigError, ManifestError, OutputExistsError, WriteError
from pipeline.manifest import SCHEMA_VERSION, FittedStatistics, ManifestRecord, as_labels, check_destination
from pipeline.normalize.chain import FittedChain
from pipeline.normalize.elementwise import Affine
from tests.manifest.fitting import EXPRESSION, fit_record, make_record

FILES = {"manifest.json", "arrays.safetensors"}


@pytest.fixture(scope="module")
def record() -> ManifestRecord:
    return make_record()


def test_save_then_load_gives_the_same_record(record, tmp_path):
    record.save(tmp_path / "made" / "on" / "the.manifest")
    loaded = ManifestRecord.load(tmp_path / "made" / "on" / "the.manifest")
    assert {path.name for path in (tmp_path / "made" / "on" / "the.manifest").iterdir()} == FILES
    assert loaded.digest == record.digest
    assert loaded.to_json() == record.to_json()
    assert loaded.provenance == record.provenance
    assert loaded.chain(EXPRESSION).tobytes() == record.chain(EXPRESSION).tobytes()
    for before, after in zip(record.statistics, loaded.statistics, strict=True):
        assert (before.before_step, before.per) == (after.before_step, after.per)
        assert {name: (a.dtype, a.shape, a.tobytes()) for name, a in before.statistics.arrays().items()} == {
            name: (a.dtype, a.shape, a.tobytes()) for name, a in after.statistics.arrays().items()
        }


def test_saving_twice_gives_the_same_bytes(record, tmp_path):
    record.save(tmp_path / "a")
    ManifestRecord.load(tmp_path / "a").save(tmp_path / "b")
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_json_file_says_what_it_holds(record, tmp_path):
    record.save(tmp_path / "m")
    written = json.loads((tmp_path / "m" / "manifest.json").read_text())
    assert written["schema_version"] == SCHEMA_VERSION
    assert written["digest"] == record.digest
    assert [entry["name"] for entry in written["chain"]] == ["log1p", "zscore", "minmax"]
    assert written["dims"] == ["cell", "gene"] and written["sizes"] == {"gene": 4}
    assert written["statistics"][0]["before_step"] == 1 and written["statistics"][0]["per"] == ["gene"]


@pytest.mark.parametrize("policy", ["skip", "propagate"])
def test_the_nan_policy_comes_back(tmp_path, policy):
    values = EXPRESSION.copy()
    values[0, 0] = np.nan
    saved = fit_record([{"zscore": {"per": ["gene"]}}], values, ("cell", "gene"), nan_policy=policy)
    saved.save(tmp_path / "m")
    loaded = ManifestRecord.load(tmp_path / "m")
    assert loaded.nan_policy == loaded.statistics[0].statistics.nan_policy == policy
    assert np.isnan(loaded.statistics[0].statistics.mean()[0]) == (policy == "propagate")
    assert loaded.digest == saved.digest
    assert (loaded.to_json()["chain"][0]["parameters"]["mean"][0] is None) == (policy == "propagate")


@pytest.mark.parametrize("value", [np.uint64(2**64 - 1), np.int64(-(2**63)), np.float64(5e-324), np.float64(-0.0)])
def test_extreme_values_come_back(tmp_path, value):
    saved = fit_record([{"maxabs": {"per": []}}], np.array([value, value, value * 0]), ("sample",))
    saved.save(tmp_path / "m")
    assert ManifestRecord.load(tmp_path / "m").to_json() == saved.to_json()


@pytest.mark.parametrize(
    "labels",
    [["a", "b", "c", "d"], ["", "ä\u0000", "🧬" * 9, "a b"], [3, 1, -2, 0], [2**64 - 1, 0, 1, 2], [0.1, 0.5, -1e300, 5e-324]],
)
def test_labels_come_back(tmp_path, labels):
    saved = fit_record(
        [{"zscore": {"per": ["gene"]}}], EXPRESSION, ("cell", "gene"), {"gene": np.array(labels, dtype=object).tolist()}
    )
    saved.save(tmp_path / "m")
    loaded = ManifestRecord.load(tmp_path / "m")
    assert loaded.labels["gene"].tolist() == labels
    assert loaded.digest == saved.digest


def test_labels_of_numpy_strings_bytes_and_objects_are_the_same():
    forms = [np.array(["a", "é"]), np.array(["a", "é"], dtype=object), np.array([b"a", "é".encode()]), ["a", "é"]]
    forms.append(np.array(["a", "é"], dtype=np.dtypes.StringDType()))
    assert [as_labels(form, "gene").tolist() for form in forms] == [["a", "é"]] * len(forms)


@pytest.mark.parametrize("labels", [[None, "a"], [1j, 2], [["a"], ["b"]], ["a", "\ud800"], [b"\xff", b"a"]])
def test_labels_that_cannot_be_kept_are_refused(labels):
    with pytest.raises(ManifestError, match="label"):
        as_labels(labels, "gene")


def test_a_record_without_statistics_or_sizes(tmp_path):
    saved = fit_record([{"clip": {"min": 0, "max": 1}}], EXPRESSION, ("cell", "gene"), {"gene": ["a", "b", "c", "d"]})
    saved.save(tmp_path / "m")
    loaded = ManifestRecord.load(tmp_path / "m")
    assert (loaded.sizes, loaded.labels, loaded.statistics) == ({}, {}, ())
    shown = loaded.to_json()
    assert (shown["statistics"], shown["unavailable"], shown["per"], shown["before_step"]) == ({}, {}, None, None)


def test_the_repr_is_one_line(record):
    assert repr(record) == f"<ManifestRecord of cell, gene: log1p → zscore → minmax; digest {record.digest[:12]}>"


def test_a_whole_vector_step_keeps_its_sizes():
    assert fit_record(["unit_norm"], EXPRESSION, ("cell", "gene")).sizes == {"gene": 4}


def test_to_json_shows_the_statistics_of_the_first_gathering(record):
    shown = json.loads(json.dumps(record.to_json(), allow_nan=False))
    assert list(shown["statistics"]) == [
        *("nobs", "min", "max", "mean", "variance", "skewness", "kurtosis", "zeros", "nan", "posinf", "neginf")
    ]
    expected = np.log1p(EXPRESSION.astype(np.float64)).mean(axis=0)
    np.testing.assert_allclose(shown["statistics"]["mean"], expected, rtol=1e-12)
    assert shown["statistics"]["skewness"][2] is None
    assert shown["unavailable"] == {"skewness": "constant in 1 of 4 features", "kurtosis": "constant in 1 of 4 features"}
    assert (shown["before_step"], shown["per"], shown["labels"]["gene"][1]) == (1, ["gene"], "MYC")
    assert [step["name"] for step in shown["chain"]] == ["log1p", "zscore", "minmax"]
    assert shown["chain"][2]["options"]["range"] == [-0.5, 0.5]
    assert (shown["input_dtype"], shown["output_dtype"]) == ("float32", "float64")


def test_large_parameters_are_not_shown():
    wide = fit_record([{"zscore": {"per": ["gene"]}}], np.arange(130.0).reshape(2, 65), ("cell", "gene"))
    assert wide.to_json()["chain"][0]["parameters"] is None


def test_an_existing_path_is_refused_and_left_as_it_is(record, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    for name in ("file", "folder", "broken"):
        with pytest.raises(OutputExistsError, match=name):
            record.save(tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "file", "folder"]


def test_overwrite_replaces_a_manifest_and_nothing_else(record, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("home", "file"):
        with pytest.raises(OutputExistsError, match="no manifest"):
            record.save(tmp_path / name, overwrite=True)
    assert (tmp_path / "home" / "thesis.tex").read_text() == "mine"
    other = replace(record, provenance={"second": 2})
    record.save(tmp_path / "m")
    other.save(tmp_path / "m", overwrite=True)
    assert ManifestRecord.load(tmp_path / "m").provenance == {"second": 2}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "home", "m"]


@pytest.mark.parametrize("failing", ["rename", "fsync"])
@pytest.mark.parametrize("existing", [False, True])
def test_a_failed_save_leaves_what_was_there(record, tmp_path, monkeypatch, failing, existing):
    if existing:
        record.save(tmp_path / "m")

    def refuse(self, *_):
        if failing == "fsync" or str(self).endswith(".new"):
            raise OSError(28, "No space left on device")
        return os.rename(self, *_)

    monkeypatch.setattr(*((Path, "rename") if failing == "rename" else (os, "fsync")), refuse)
    with pytest.raises(WriteError, match="No space left"):
        record.save(tmp_path / "m", overwrite=True)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == (["m"] if existing else [])
    if existing:
        assert ManifestRecord.load(tmp_path / "m").digest == record.digest


def test_a_parent_that_is_a_file_is_named(record, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises((OutputExistsError, WriteError), match="file"):
        record.save(tmp_path / "file" / "m")


@pytest.mark.parametrize(
    "change",
    [
        {"sizes": {}},
        {"sizes": {"gene": 5}},
        {"sizes": {"gene": 4, "cell": 20}},
        {"labels": {"gene": ["a"]}},
        {"labels": {"cell": ["a"] * 20}},
        {"labels": {"other": ["a"]}},
        {"nan_policy": "propagate"},
        {"provenance": {"time": np.float64("nan")}},
        {"provenance": {"path": object()}},
    ],
)
def test_fields_that_do_not_fit_together_are_refused(record, change):
    with pytest.raises(ManifestError):
        replace(record, **change)


def test_a_fitted_sample_dim_is_refused(record):
    with pytest.raises(ManifestError, match="sizes are kept"):
        replace(record, chain=replace(record.chain, sample_dim="gene"))


def test_statistics_of_no_step_are_refused(record):
    misplaced = FittedStatistics(4, ("gene",), record.statistics[0].statistics)
    with pytest.raises(ManifestError, match="not there"):
        replace(record, statistics=(misplaced,))


@pytest.mark.parametrize(
    "changes",
    [
        {"nan_policy": "ignore", "statistics": ()},
        {"chain": {"output_dtype": np.dtype("longdouble")}},
        {"chain": {"input_dtype": np.dtype("complex64")}},
        {"sizes": {"gene": -1}},
        {"sizes": {"gene": 4.5}},
        {"sizes": {"gene": "4"}},
    ],
)
def test_a_record_refuses_what_load_would_refuse(changes):
    record = make_record()
    chain = replace(record.chain, **changes.pop("chain", {}))
    with pytest.raises(ManifestError):
        replace(record, **{"chain": chain, **changes})


def test_a_step_that_no_manifest_can_name_is_refused():
    class Unknown(Affine):
        name = "unknown"

    chain = FittedChain((Unknown(scale=2.0).fit(None),), ("sample",), "sample", np.dtype("f4"), np.dtype("f4"))
    with pytest.raises(ManifestError, match=r"unknown step: chain\.0"):
        ManifestRecord(chain, sizes={})


@pytest.mark.parametrize("path", ["a\0b", "a" * 300, None, "a/" * 3000])
def test_a_path_that_cannot_be_one(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ManifestError):
        ManifestRecord.load(path)
    with pytest.raises(ConfigError, match="not the path of a folder"):
        make_record().save(path)
    with pytest.raises(ConfigError, match="not the path of a folder"):
        check_destination(path, overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_a_name_as_long_as_the_file_system_allows(tmp_path):
    record = make_record()
    for overwrite in (False, True):
        record.save(tmp_path / ("a" * 255), overwrite=overwrite)
    assert ManifestRecord.load(tmp_path / ("a" * 255)).digest == record.digest
    assert [path.name for path in tmp_path.iterdir()] == ["a" * 255]


def test_whether_a_manifest_can_be_saved_is_known_before(tmp_path, monkeypatch):
    check_destination(tmp_path / "new" / "m", overwrite=False)
    assert list(tmp_path.iterdir()) == []
    make_record().save(tmp_path / "m")
    check_destination(tmp_path / "m", overwrite=True)
    with pytest.raises(OutputExistsError):
        check_destination(tmp_path / "m", overwrite=False)
    with pytest.raises(OutputExistsError, match="no manifest"):
        check_destination(tmp_path, overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot be written"):
        check_destination(tmp_path / "file" / "m", overwrite=False)

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(WriteError, match="Permission denied"):
        check_destination(tmp_path / "other", overwrite=False)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
def test_a_folder_that_nothing_can_be_written_in():
    with pytest.raises(WriteError, match="cannot be written"):
        check_destination("/proc/x.manifest", overwrite=False)
