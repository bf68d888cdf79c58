"""The digest changes with everything that determines the transformation, and with nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.manifest import FittedStatistics, ManifestRecord
from pipeline.manifest import codec as manifest_codec
from pipeline.manifest.digest import array_digest, content_digest
from tests.manifest.fitting import EXPRESSION, fit_record

ENTRIES = [{"zscore": {"per": ["gene"]}}]


@pytest.fixture
def base():
    return fit_record(ENTRIES, EXPRESSION, ("cell", "gene"), {"gene": ["a", "b", "c", "d"]})


def with_step(record, **changes):
    step = replace(record.chain.steps[0], **changes)
    return replace(record, chain=replace(record.chain, steps=(step, *record.chain.steps[1:])))


def changed_parameter(record):
    parameters = {name: values.copy() for name, values in record.chain.steps[0].parameters.items()}
    name = sorted(parameters)[0]
    parameters[name][0] = np.nextafter(parameters[name][0], np.inf)
    return with_step(record, parameters=parameters)


def renamed_dims(record, dims):
    names = dict(zip(record.chain.dims, dims, strict=True))
    step = record.chain.steps[0]
    options = step.step.model_copy(update={"per": tuple(names[dim] for dim in step.per)})
    chain = replace(
        record.chain,
        dims=dims,
        sample_dim=names[record.chain.sample_dim],
        steps=(replace(step, step=options, per=options.per),),
    )
    return ManifestRecord.build(
        chain,
        {names[dim]: size for dim, size in record.sizes.items()},
        {names[dim]: labels for dim, labels in record.labels.items()},
        [FittedStatistics(part.before_step, options.per, part.statistics) for part in record.statistics],
    )


def changed_statistics(record):
    part = record.statistics[0]
    statistics = replace(part.statistics, posinf=part.statistics.posinf + 1)
    return replace(record, statistics=(replace(part, statistics=statistics),))


CHANGES = {
    "parameter": changed_parameter,
    "option": lambda record: with_step(record, step=record.chain.steps[0].step.model_copy(update={"ddof": 1})),
    "step": lambda record: replace(record, chain=replace(record.chain, steps=record.chain.steps * 2)),
    "output dtype": lambda record: replace(record, chain=replace(record.chain, output_dtype=np.dtype(np.float32))),
    "input dtype": lambda record: replace(record, chain=replace(record.chain, input_dtype=np.dtype(np.float64))),
    "sample dim's name": lambda record: renamed_dims(record, ("sample", "gene")),
    "feature dim's name": lambda record: renamed_dims(record, ("cell", "feature")),
    "order of dims": lambda record: replace(record, chain=replace(record.chain, dims=("gene", "cell"))),
    "a label": lambda record: replace(record, labels={"gene": ["a", "b", "c", "e"]}),
    "label borders": lambda record: replace(record, labels={"gene": ["ab", "", "c", "d"]}),
    "label order": lambda record: replace(record, labels={"gene": ["b", "a", "c", "d"]}),
    "label kind": lambda record: replace(record, labels={"gene": [0, 1, 2, 3]}),
    "no labels": lambda record: replace(record, labels={}),
    "statistics": changed_statistics,
    "place of statistics": lambda record: replace(record, statistics=(replace(record.statistics[0], before_step=1),)),
    "no statistics": lambda record: replace(record, statistics=()),
    "nan policy": lambda record: replace(
        record,
        nan_policy="error",
        statistics=(replace(record.statistics[0], statistics=replace(record.statistics[0].statistics, nan_policy="error")),),
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_it_changes_with(base, what):
    assert CHANGES[what](base).digest != base.digest


def test_all_the_changes_differ_from_each_other(base):
    assert len({change(base).digest for change in CHANGES.values()}) == len(CHANGES)


def test_it_changes_with_the_schema_version(base, monkeypatch):
    before = base.digest
    monkeypatch.setattr(manifest_codec, "SCHEMA_VERSION", 2)
    assert replace(base).digest != before


def test_it_changes_with_sizes():
    four = fit_record(["unit_norm"], EXPRESSION, ("cell", "gene"))
    assert replace(four, sizes={"gene": 5}).digest != four.digest


def test_it_does_not_change_with_provenance(base):
    assert replace(base, provenance={"store": "elsewhere"}).digest == base.digest


def test_it_does_not_change_with_the_order_of_keys(base):
    parameters = dict(reversed(base.chain.steps[0].parameters.items()))
    assert list(parameters) != list(base.chain.steps[0].parameters)
    assert with_step(base, parameters=parameters).digest == base.digest


def test_it_does_not_change_with_byte_order_or_layout(base):
    parameters = {name: np.repeat(values, 2)[::2].astype(">f8") for name, values in base.chain.steps[0].parameters.items()}
    assert with_step(base, parameters=parameters).digest == base.digest
    swapped = replace(base.chain, input_dtype=base.chain.input_dtype.newbyteorder())
    assert replace(base, chain=swapped).digest == base.digest


def test_it_does_not_change_with_spelling_out_a_default():
    spelled = fit_record([{"zscore": {"per": ["gene"], "ddof": 0}}], EXPRESSION, ("cell", "gene"))
    assert spelled.digest == fit_record(ENTRIES, EXPRESSION, ("cell", "gene")).digest


def test_every_nan_is_the_same_and_the_zeros_are_not():
    quiet, other = np.array([0x7FF8 << 48, (0x7FF8 << 48) + 1], dtype=np.uint64).view(np.float64).reshape(2, 1)
    assert quiet.tobytes() != other.tobytes()
    assert array_digest(quiet) == array_digest(other)
    assert array_digest(np.array(0.0)) != array_digest(np.array(-0.0))
    assert array_digest(np.zeros((2, 3))) != array_digest(np.zeros((3, 2)))
    assert array_digest(np.zeros(2, np.int64)) != array_digest(np.zeros(2, np.float64))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(allow_nan=False, allow_infinity=False, width=16)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(derandomize=True, max_examples=150, database=None)
@given(
    st.dictionaries(st.text(max_size=2), json_values, max_size=3), st.dictionaries(st.text(max_size=2), json_values, max_size=3)
)
def test_different_contents_have_different_digests(one, other):
    assert (content_digest(one) == content_digest(other)) == (repr_sorted(one) == repr_sorted(other))


def repr_sorted(value):
    """An independent spelling in which 1, 1.0 and True differ, as they do in JSON."""
    if isinstance(value, dict):
        return ("object", tuple(sorted((key, repr_sorted(inner)) for key, inner in value.items())))
    if isinstance(value, list):
        return ("list", tuple(repr_sorted(inner) for inner in value))
    return (type(value).__name__, repr(value))


def test_it_is_the_same_in_another_process(base, tmp_path):
    base.save(tmp_path / "m")
    code = "import sys; from pipeline.manifest import ManifestRecord; print(ManifestRecord.load(sys.argv[1]).digest)"
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(root)}
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m")], capture_output=True, text=True, check=True, cwd=root, env=environment
    )
    assert ran.stdout.strip() == base.digest
