"""Presets are ordinary chains."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import ConfigError
from pipeline.normalize import parse_chain
from pipeline.normalize.minmax import MinMax
from pipeline.normalize.presets import PRESETS
from pipeline.normalize.standard import ZScore


def refused(entry):
    with pytest.raises(ConfigError) as caught:
        parse_chain(["log1p", entry])
    return caught.value


@pytest.mark.parametrize(
    ("activation", "chain"),
    [
        ("tanh", (ZScore(per=("gene",)),)),
        ("logistic", (MinMax(per=("gene",), range=(0.1, 0.9), clip=True),)),
        ("relu", (ZScore(per=("gene",)),)),
        ("selu", (ZScore(per=("gene",)),)),
    ],
)
def test_expand_to_ordinary_steps(activation, chain):
    assert parse_chain([{"for_activation": {"activation": activation, "per": ["gene"]}}]) == chain
    everything = parse_chain([{"for_activation": activation}])
    assert everything == tuple(step.model_copy(update={"per": ()}) for step in chain)


def test_every_preset_is_tested_and_says_whose_advice_it_is():
    assert set(PRESETS) == {"tanh", "logistic", "relu", "selu"}
    assert all(preset.advice.endswith(".") and preset.reference for preset in PRESETS.values())


def test_stand_among_other_steps():
    steps = parse_chain(["log1p", {"for_activation": "tanh"}, {"clip": {"min": -3}}])
    assert [step.name for step in steps] == ["log1p", "zscore", "clip"]


@pytest.mark.parametrize("activation", list(PRESETS))
def test_do_what_the_advice_asks(activation, chain_of):
    values = np.random.default_rng(3).gamma(2.0, 50.0, (400, 3))
    chain = chain_of([{"for_activation": {"activation": activation, "per": ["feature"]}}], values)
    output = chain(values)
    if activation == "logistic":
        assert (output.min(), output.max()) == (0.1, 0.9)
        assert chain(values.max(axis=0) * 2).max() == 0.9
    else:
        np.testing.assert_allclose(output.mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(output.std(axis=0), 1, rtol=1e-12)
    assert not [step for step in chain.steps if step.step.name == "for_activation"]


def test_unknown_functions_and_options_give_the_nearest():
    error = refused({"for_activation": "tahn"})
    assert (error.what, error.where) == ("unknown activation function", "normalize.1.for_activation.activation")
    assert (error.expected, error.remedy) == ("logistic, relu, selu, tanh", "use 'tanh'")
    error = refused({"for_activation": {"activation": "tanh", "pr": []}})
    assert (error.where, error.remedy) == ("normalize.1.for_activation.pr", "use 'per'")


@pytest.mark.parametrize(
    "options", [None, {}, {"per": ["gene"]}, 3, ["tanh"], {"activation": 3}, {"activation": "tanh", "per": "x"}]
)
def test_malformed_options_are_refused(options):
    error = refused({"for_activation": options})
    assert error.where.startswith("normalize.1.for_activation")
    assert error.expected


def test_the_nearest_name_may_be_the_preset():
    assert refused("for_activatoin").remedy == "use 'for_activation'"
