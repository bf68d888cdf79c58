"""What the listing says of a step against what the step does."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.errors import ConfigError
from pipeline.normalize import STEPS
from pipeline.normalize import catalogue as catalogue_module
from pipeline.normalize.catalogue import DERIVES, READS, STATELESS, TOTALS, describe, describe_all, markdown_table
from pipeline.normalize.standard import ZScore
from pipeline.normalize.step import Input


@pytest.mark.parametrize("name", ["zscore", "minmax", "maxabs"])
def test_fitted_steps_need_statistics_and_are_affine(name):
    described = describe(name)
    assert (described.reads, described.optional_reads, described.derives) == (("statistics",), False, "affine")
    assert described.needs == "at most one, for statistics"


@pytest.mark.parametrize(
    ("name", "derives"),
    [
        ("dtype_range", "affine"),
        ("affine", "affine"),
        ("log1p", "elementwise"),
        ("nodata", "elementwise"),
        ("unit_norm", "vectors"),
    ],
)
def test_stateless_steps_need_nothing(name, derives):
    described = describe(name)
    assert (described.reads, described.optional_reads, described.derives) == ((STATELESS,), False, derives)
    assert described.needs == "none: stateless"


@pytest.mark.parametrize("name", STEPS)
def test_a_step_that_can_be_made_of_defaults_is_what_the_listing_says(name):
    described = describe(name)
    assert set(described.reads) <= {STATELESS, TOTALS, *READS.values()}
    assert described.reads
    assert described.derives in DERIVES
    if any(option.required for option in described.options):
        return
    try:
        step = STEPS[name]().bind(Input(("sample", "x"), "sample", np.dtype(np.uint8)))
    except (ValueError, ConfigError):
        return
    assert (step.fitted_per is None) == (described.reads == (STATELESS,) or described.optional_reads)
    assert step.is_affine == (described.derives == "affine")


class _Optional(ZScore):
    """Fitted with some options only."""

    name = "optional"
    requires = frozenset({"distribution", "moments"})
    elementwise = False

    @property
    def fitted_per(self):
        return self.per if self.ddof else None


def test_what_is_fitted_with_some_options_says_so(monkeypatch):
    monkeypatch.setattr(catalogue_module, "STEPS", {"optional": _Optional})
    described = describe("optional")
    assert described.reads == ("statistics", "distribution")
    assert described.optional_reads
    assert described.needs == "at most one, for statistics and distribution; none with some options"


def test_everything_is_strict_json():
    for described in describe_all():
        content = described.to_json()
        assert json.loads(json.dumps(content, allow_nan=False)) == content


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="unknown step") as caught:
        describe("quantle")
    assert caught.value.exit_status == 2


def test_the_table_has_a_row_for_each_step_and_no_bar_within_a_cell():
    lines = markdown_table()
    assert len(lines) == 2 + len(STEPS)
    assert all(line.replace(r"\|", "").count("|") == 5 for line in lines)
