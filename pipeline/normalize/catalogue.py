"""What can be written under `normalize`, as data for listings: `zarrnorm steps` and the README's table.

Not here: how it is printed (`pipeline.tables`) and the texts themselves, which each step has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from pipeline.normalize.features import FeatureStep
from pipeline.normalize.names import unknown_name
from pipeline.normalize.presets import FOR_ACTIVATION, FOR_ACTIVATION_SUMMARY, PRESETS, ForActivation
from pipeline.normalize.registry import STEPS
from pipeline.normalize.step import Step

DEVIATIONS = "deviations"
TOTALS = "totals"
READS: Mapping[str, str] = {
    "moments": "statistics",
    "distribution": "distribution",
    "covariance": "covariance",
    "deviation": DEVIATIONS,
}
STATELESS = "stateless"
DERIVES: Mapping[str, str] = {
    "affine": "affine: fitted steps before and after it share one read",
    "elementwise": "elementwise: fitted steps before and after it share one read of integers of 16 bits or fewer",
    "vectors": "looks at whole vectors: a fitted step after it takes a read of its own",
    "selection": "keeps a part: fitted steps before and after it share one read, but for covariances",
}


@dataclass(frozen=True)
class Option:
    """One option of a step; `default` is a JSON value, None also where the option is required."""

    name: str
    required: bool
    default: Any
    description: str


@dataclass(frozen=True)
class Description:
    """What there is to say of one step.

    Parameters
    ----------
    name, summary, formula, inverse, reference : str
        One line each.
    reads : tuple of str
        What it needs to know of the data before it can run: of `statistics`, `distribution`, `covariance`, `deviations` and
        `totals`; or `stateless`.
    optional_reads : bool
        Whether that depends on its options: with others it is stateless.
    derives : str
        Through what statistics of its output follow from those of its input: `affine`, `elementwise`, `vectors` or
        `selection`.
    options : tuple of Option
    """

    name: str
    summary: str
    formula: str
    inverse: str
    reads: tuple[str, ...]
    optional_reads: bool
    derives: str
    reference: str
    options: tuple[Option, ...]

    @property
    def needs(self) -> str:
        """What it needs of the data, in words."""
        if self.reads == (STATELESS,):
            return "none: stateless"
        most = "two" if {DEVIATIONS, TOTALS}.intersection(self.reads) else "one"
        return f"at most {most}, for {' and '.join(self.reads)}" + ("; none with some options" if self.optional_reads else "")

    def to_json(self) -> dict[str, Any]:
        """This as JSON types."""
        return {**asdict(self), "reads": list(self.reads), "options": [asdict(option) for option in self.options]}


@dataclass(frozen=True)
class PresetDescription:
    """What there is to say of `for_activation`: for each function the chain, the advice behind it and its source.

    The steps of `chains` have options other than `per`, which is what the user gives.
    """

    name: str
    summary: str
    options: tuple[Option, ...]
    chains: tuple[Mapping[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """This as JSON types."""
        return {**asdict(self), "options": [asdict(option) for option in self.options], "chains": list(self.chains)}


def describe(name: str) -> Description | PresetDescription:
    """What there is to say of the step `name`, or of `for_activation`.

    Raises
    ------
    ConfigError
        For an unknown name, with the nearest valid one.

    Examples
    --------
    >>> zscore = describe("zscore")
    >>> zscore.reads, [option.name for option in zscore.options]
    (('statistics',), ['per', 'ddof', 'gamma', 'beta'])
    """
    if name == FOR_ACTIVATION:
        return _preset_description()
    if name not in STEPS:
        raise unknown_name("unknown step", name, (*STEPS, FOR_ACTIVATION), name)
    return _step_description(STEPS[name])


def describe_all() -> tuple[Description | PresetDescription, ...]:
    """Every step in the order of the registry, then `for_activation`."""
    return (*(describe(name) for name in STEPS), describe(FOR_ACTIVATION))


def markdown_table() -> list[str]:
    """The lines of the README's table of steps.

    Examples
    --------
    >>> markdown_table()[0]
    '| step | what it does | formula | inverse |'
    """
    rows = [(f"`{kind.name}`", kind.summary, kind.formula, kind.inverse_note) for kind in STEPS.values()]
    heads = [("step", "what it does", "formula", "inverse"), ("---",) * 4]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |" for cells in (*heads, *rows)]


def _step_description(kind: type[Step]) -> Description:
    requires = kind.requires | ({"deviation"} if _overrides(kind, "needs_deviation") else set())
    reads = tuple(words for need, words in READS.items() if need in requires)
    reads = (TOTALS,) if _overrides(kind, "observes") else reads
    by_default = _by_default(kind)
    fitted = _overrides(kind, "fitted_per")
    always = _inherits_from_features(kind) or (by_default is not None and by_default.fitted_per is not None)
    return Description(
        name=kind.name,
        summary=kind.summary,
        formula=kind.formula,
        inverse=kind.inverse_note,
        reads=reads if fitted else (STATELESS,),
        optional_reads=fitted and not always,
        derives=_derives(kind, by_default),
        reference=kind.reference,
        options=_options(kind),
    )


def _preset_description() -> PresetDescription:
    chains = [
        {
            "activation": preset.activation,
            "chain": [{name: to_jsonable_python(dict(options))} for name, options in preset.steps],
            "advice": preset.advice,
            "reference": preset.reference,
        }
        for preset in PRESETS.values()
    ]
    return PresetDescription(FOR_ACTIVATION, FOR_ACTIVATION_SUMMARY, _options(ForActivation), tuple(chains))


def _by_default(kind: type[Step]) -> Step | None:
    """The step with nothing but defaults, None where an option is required."""
    try:
        return kind()
    except ValidationError:
        return None


def _overrides(kind: type[Step], name: str) -> bool:
    return getattr(kind, name) is not getattr(Step, name)


def _inherits_from_features(kind: type[Step]) -> bool:
    """Whether it has `per` and no other say in whether it is fitted."""
    return issubclass(kind, FeatureStep) and kind.fitted_per is FeatureStep.fitted_per


def _derives(kind: type[Step], by_default: Step | None) -> str:
    if _overrides(kind, "selected_dim"):
        return "selection"
    affine = _overrides(kind, "is_affine") if by_default is None else by_default.is_affine
    return "affine" if affine else "elementwise" if kind.elementwise else "vectors"


def _options(kind: type[BaseModel]) -> tuple[Option, ...]:
    return tuple(
        Option(
            name=name,
            required=field.is_required(),
            default=None if field.is_required() else to_jsonable_python(field.get_default(call_default_factory=True)),
            description=field.description or "",
        )
        for name, field in kind.model_fields.items()
    )
