"""Chains that suit an activation function: what `for_activation` in a configuration stands for.

Not here: the steps that the chains are made of. A manifest holds those, and nothing of a preset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pipeline.normalize.names import Dims, unknown_name

FOR_ACTIVATION = "for_activation"
FOR_ACTIVATION_SUMMARY = "Stand for the chain that suits an activation function; the manifest holds that chain."


@dataclass(frozen=True)
class Preset:
    """The chain that suits one activation function, and whose advice it is.

    Parameters
    ----------
    activation : str
        The function's name.
    steps : tuple of (str, mapping)
        Names of steps that take `per`, each with its other options.
    advice : str
        What the chain does for such units.
    reference : str
    """

    activation: str
    steps: tuple[tuple[str, Mapping[str, Any]], ...]
    advice: str
    reference: str

    def chain(self, per: Dims) -> list[tuple[str, dict[str, Any]]]:
        """The names of the steps with all of their options."""
        return [(name, {"per": list(per), **options}) for name, options in self.steps]


_KINDS = (
    Preset(
        activation="tanh",
        steps=(("zscore", {}),),
        advice=(
            "Inputs of mean 0 and variance 1 keep 1.7159 tanh(2x/3) where its gain is about 1 and let weights move either way; "
            "the full recipe also decorrelates them."
        ),
        reference="LeCun, Bottou, Orr and Müller 1998, Efficient BackProp, sections 4.3 and 4.4",
    ),
    Preset(
        activation="logistic",
        steps=(("minmax", {"range": (0.1, 0.9), "clip": True}),),
        advice=(
            "A logistic output reaches 0 and 1 only at infinite weights, so what it is to reproduce stays a little inside; new "
            "values outside the fitted range are clipped."
        ),
        reference=(
            "Rumelhart, Hinton and Williams 1986, Parallel Distributed Processing 1, chapter 8; LeCun et al. 1998, section 4.5"
        ),
    ),
    Preset(
        activation="relu",
        steps=(("zscore", {}),),
        advice="Initializations that keep the variance from layer to layer begin with inputs of mean 0 and variance 1.",
        reference="He, Zhang, Ren and Sun 2015, arXiv:1502.01852",
    ),
    Preset(
        activation="selu",
        steps=(("zscore", {}),),
        advice="Mean 0 and variance 1 are the fixed point to which self-normalizing layers draw; inputs begin there.",
        reference="Klambauer, Unterthiner, Mayr and Hochreiter 2017, arXiv:1706.02515",
    ),
)

PRESETS: Mapping[str, Preset] = MappingProxyType({preset.activation: preset for preset in _KINDS})


class ForActivation(BaseModel):
    """The options of `for_activation`.

    Examples
    --------
    >>> ForActivation(activation="logistic", per=["gene"]).chain("normalize.0.for_activation")
    [('minmax', {'per': ['gene'], 'range': (0.1, 0.9), 'clip': True})]
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    activation: str = Field(description=f"one of {', '.join(PRESETS)}")
    per: Dims = Field(default=(), description="a list of the dims that keep statistics of their own; [] for one global set")

    def chain(self, where: str) -> list[tuple[str, dict[str, Any]]]:
        """The steps that are meant, by name with their options; ConfigError at `where` for an unknown function."""
        if self.activation not in PRESETS:
            raise unknown_name("unknown activation function", self.activation, PRESETS, f"{where}.activation")
        return PRESETS[self.activation].chain(self.per)
