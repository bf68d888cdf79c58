"""`zarrnorm steps`: what it lists is what there is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pipeline.cli import main
from pipeline.normalize import STEPS
from pipeline.normalize.presets import PRESETS


def _call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["steps", *arguments])


def _done(*arguments: str) -> str:
    result = _call(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def _json(*arguments: str) -> Any:
    return json.loads(_done(*arguments, "--json"))


def test_every_step_has_one_line() -> None:
    lines = _done().splitlines()
    names = [*STEPS, "for_activation"]

    assert [line.split()[0] for line in lines] == names
    assert len({len(line) - len(line.partition(" ")[2].lstrip()) for line in lines}) == 1
    for line, name in zip(lines, names, strict=True):
        assert name == "for_activation" or line.endswith(f"  {STEPS[name].summary}")


@pytest.mark.parametrize("name", STEPS)
def test_one_step_is_shown_whole(name: str) -> None:
    step, flat = STEPS[name], " ".join(_done(name).replace("│", " ").split())

    for text in (name, step.summary, step.formula, step.inverse_note, step.reference):
        assert " ".join(text.split()) in flat
    for word in ("formula", "inverse", "reads", "derives", "reference"):
        assert f" {word} " in flat
    for option, field in step.model_fields.items():
        assert f" {option} " in flat
        assert " ".join(str(field.description).split()) in flat


def test_options_have_their_defaults() -> None:
    options = {option["name"]: option for option in _json("minmax")["options"]}

    assert {name: option["default"] for name, option in options.items()} == {"per": [], "range": [0, 1], "clip": False}
    assert options["clip"]["description"] == "true or false"
    shown = _done("minmax")
    assert "[0, 1]" in shown
    assert "false" in shown
    assert "required" in _done("nodata")
    assert "none" in _done("clip")


def test_json_is_the_same_for_one_and_for_all() -> None:
    everything = _json()

    assert [each["name"] for each in everything] == [*STEPS, "for_activation"]
    for each in everything:
        assert _json(each["name"]) == each


def test_presets_are_listed_with_the_source_of_the_advice() -> None:
    content = _json("for_activation")
    flat = " ".join(_done("for_activation").replace("│", " ").split())

    assert [each["activation"] for each in content["chains"]] == list(PRESETS)
    assert all(each["advice"] and each["reference"] for each in content["chains"])
    for word in (*PRESETS, "zscore", "minmax", "arXiv:1706.02515", "because"):
        assert word in flat


def test_an_unknown_name_gives_the_nearest() -> None:
    result = _call("zscor")

    assert result.exit_code == 2
    assert "unknown step: zscor" in result.stderr
    assert "use 'zscore'" in result.stderr
    assert "use 'for_activation'" in _call("for_activaton").stderr
