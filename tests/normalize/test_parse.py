"""What is said of a malformed `normalize`."""

from __future__ import annotations

import pytest

from pipeline.errors import ConfigError
from pipeline.normalize import STEPS, parse_chain
from pipeline.normalize.elementwise import Log1p
from pipeline.normalize.minmax import MinMax


def refused(entries):
    with pytest.raises(ConfigError) as caught:
        parse_chain(entries)
    assert caught.value.exit_status == 2
    return caught.value


def test_names_and_one_key_mappings_in_order():
    steps = parse_chain(["log1p", {"minmax": {"per": ["gene"], "range": [0.1, 0.9]}}, {"log1p": None}, {"maxabs": {}}])
    assert [step.name for step in steps] == ["log1p", "minmax", "log1p", "maxabs"]
    assert steps[0] == Log1p()
    assert steps[1] == MinMax(per=("gene",), range=(0.1, 0.9))
    assert parse_chain([]) == ()


def test_unknown_option_gives_its_path_and_the_nearest_name():
    error = refused(["log1p", {"minmax": {"rnage": [0, 1]}}])
    assert str(error).splitlines() == [
        "unknown option: normalize.1.minmax.rnage",
        "  found:    rnage",
        "  expected: clip, per, range",
        "  remedy:   use 'range'",
    ]


def test_unknown_step_gives_the_nearest_name():
    error = refused([{"minmx": {}}])
    assert (error.what, error.where, error.found) == ("unknown step", "normalize.0.minmx", "minmx")
    assert error.expected == ", ".join(sorted([*STEPS, "for_activation"]))
    assert error.remedy == "use 'minmax'"
    assert refused(["qqqq"]).remedy is None


def test_option_of_a_step_without_options():
    error = refused([{"anscombe": {"base": 2}}])
    assert (error.where, error.expected, error.remedy) == ("normalize.0.anscombe.base", "nothing", None)


@pytest.mark.parametrize(
    ("options", "path", "found", "expected"),
    [
        ({"range": [1, 0]}, "range", "[1, 0]", "two numbers, the first below the second"),
        ({"range": [0]}, "range.1", "[0]", "two finite numbers, the first below the second"),
        ({"range": [0, "b"]}, "range.1", "'b'", "two finite numbers, the first below the second"),
        ({"range": [0, True]}, "range.1", "True", "a number, not true or false"),
        ({"range": 1}, "range", "1", "two finite numbers, the first below the second"),
        ({"per": "gene"}, "per", "'gene'", "a list of the dims that keep statistics of their own; [] for one global set"),
        ({"per": [3]}, "per.0", "3", "a list of the dims that keep statistics of their own; [] for one global set"),
        ({"clip": "sometimes"}, "clip", "'sometimes'", "true or false"),
    ],
)
def test_wrong_value_gives_its_path_and_what_was_expected(options, path, found, expected):
    error = refused([{"minmax": options}])
    assert (error.where, error.expected) == (f"normalize.0.minmax.{path}", expected)
    assert error.found == found


def test_wrong_member_of_a_list_or_number_gives_no_names_of_types():
    error = refused([{"zscore": {"gamma": [1.0, "x"]}}])
    assert error.where in ("normalize.0.zscore.gamma", "normalize.0.zscore.gamma.1")
    assert error.expected == "a finite number, or a list with one for each feature; not 0"


@pytest.mark.parametrize(
    "entries",
    [
        {"minmax": {}},
        "minmax",
        None,
        3,
        [None],
        [3],
        [{}],
        [{"minmax": {}, "log1p": {}}],
        [["minmax"]],
        [{"minmax": [0, 1]}],
        [{"minmax": "range"}],
        [{3: {}}],
    ],
)
def test_malformed_entries_are_refused_with_what_was_expected(entries):
    error = refused(entries)
    assert error.where.startswith("normalize")
    assert error.expected


def test_a_step_with_its_options_beside_it_is_told_to_indent():
    assert refused([{"minmax": None, "range": [0, 1]}]).remedy == "indent the options under the step's name"


def test_long_values_are_cut_short():
    assert len(refused([{"minmax": {"range": list(range(1000))}}]).found) <= 80


def test_where_is_the_callers():
    with pytest.raises(ConfigError) as caught:
        parse_chain(["nope"], where="arrays.images.normalize")
    assert caught.value.where == "arrays.images.normalize.0.nope"
