"""What the README shows is what the program does."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest
import yaml

from pipeline.config import Config, parse_config
from pipeline.normalize.catalogue import markdown_table

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")


def test_python_examples_give_what_they_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    example = doctest.DocTestParser().get_doctest("".join(blocks), {}, "README", "README.md", 0)
    failed, attempted = doctest.DocTestRunner().run(example)
    assert (failed, attempted) == (0, 11)


def test_steps_are_those_of_the_program() -> None:
    table = markdown_table()
    lines = README.splitlines()
    start = lines.index(table[0])
    assert lines[start : lines.index("", start)] == table


def test_configurations_are_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert [parse_config(yaml.safe_load(block), Config).normalize for block in blocks] == [({"zscore": {"per": ["channel"]}},)]


def test_every_configuration_key_is_explained() -> None:
    for section in Config.model_fields:
        assert f"`{section}" in README
