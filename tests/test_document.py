"""YAML read strictly, and single values of it replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.document import override, read_document
from pipeline.errors import ConfigError


def _read(folder: Path, text: str) -> Any:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return read_document(str(path))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("off", "off"),
        ("y", "y"),
        ("true", True),
        ("1e-3", 0.001),
        ("-.5", -0.5),
        ("1.", 1.0),
        (".inf", float("inf")),
        ("010", "010"),
        ("0x1f", 31),
        ("-12", -12),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("'1'", "1"),
        ("null", None),
    ],
)
def test_scalars_follow_the_core_schema(tmp_path: Path, text: str, value: object) -> None:
    found = _read(tmp_path, f"key: {text}")["key"]

    assert found == value
    assert type(found) is type(value)


def test_merge_keys_yield_to_keys_of_their_own(tmp_path: Path) -> None:
    assert _read(tmp_path, "base: &base {a: 1, b: 2}\nnext: {<<: *base, b: 3}\n")["next"] == {"a": 1, "b": 3}


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3, column 1", "'a' stands twice"),
        ("a:\n  b: [1, 2\n", "line 3, column 1", "expected ',' or ']'"),
        ("a: !!python/object:os.system {}\n", "line 1, column 4", "could not determine a constructor"),
        ("a: 1\n\tb: 2\n", "line 2", "cannot start any token"),
        ("{[1]: 2}", "line 1", "unhashable"),
        ("--- 1\n--- 2\n", "line 2", "expected a single document"),
        ("a: !!timestamp x", "config.yaml", ""),
        ("[" * 3000, "config.yaml", ""),
    ],
)
def test_what_is_not_yaml_is_refused_with_its_place(tmp_path: Path, text: str, place: str, problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        _read(tmp_path, text)

    assert error.value.what == "not valid YAML"
    assert place in str(error.value.where)
    assert problem in str(error.value.found)


@pytest.mark.parametrize("text", ["", "\n\n", "# a comment\n", "null\n"])
def test_an_empty_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="empty"):
        _read(tmp_path, text)


def test_a_missing_file_a_folder_and_binary_data_are_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")

    for name, problem in (("none.yaml", "No such file"), (".", "directory"), ("binary", "utf-8")):
        with pytest.raises(ConfigError) as error:
            read_document(str(tmp_path / name))
        assert problem in str(error.value.found)


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("a.b=2", {"a": {"b": 2}, "steps": ["log1p", {"minmax": None}]}),
        ("new.deep.er=[x, 1]", {"a": {"b": 1}, "steps": ["log1p", {"minmax": None}], "new": {"deep": {"er": ["x", 1]}}}),
        ("steps.1.minmax.range=[0,1]", {"a": {"b": 1}, "steps": ["log1p", {"minmax": {"range": [0, 1]}}]}),
        ("steps.0.log1p.base=2", {"a": {"b": 1}, "steps": [{"log1p": {"base": 2}}, {"minmax": None}]}),
        ("steps.0={zscore: {per: []}}", {"a": {"b": 1}, "steps": [{"zscore": {"per": []}}, {"minmax": None}]}),
        ("a=", {"a": None, "steps": ["log1p", {"minmax": None}]}),
        ("a.b=x=y", {"a": {"b": "x=y"}, "steps": ["log1p", {"minmax": None}]}),
    ],
)
def test_override_replaces_one_value(assignment: str, expected: object) -> None:
    document = {"a": {"b": 1}, "steps": ["log1p", {"minmax": None}]}

    assert override(document, [assignment]) == expected
    assert document == {"a": {"b": 1}, "steps": ["log1p", {"minmax": None}]}


@pytest.mark.parametrize(
    ("assignment", "what"),
    [
        ("a.b", "malformed"),
        ("=1", "malformed"),
        ("a..b=1", "malformed"),
        ("a=[1", "not valid YAML"),
        ("steps.5=x", "no such place in a list"),
        ("steps.-1=x", "no such place in a list"),
        ("steps.last=x", "no such place in a list"),
        ("a.b.c=1", "no place to set a value in"),
        ("steps.0.minmax.range=1", "no place to set a value in"),
    ],
)
def test_override_says_what_is_wrong(assignment: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        override({"a": {"b": 1}, "steps": ["log1p"]}, [assignment])
