"""What a user wrote under `normalize`, as steps, or an error that says where it is wrong.

Not here: whether the steps fit the data (`Step.bind`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.errors import ConfigError
from pipeline.normalize.names import unknown_name
from pipeline.normalize.presets import FOR_ACTIVATION, ForActivation
from pipeline.normalize.registry import STEPS
from pipeline.normalize.step import Step

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Entry = Mapping[str, Mapping[str, Any] | str | None] | str
Options = TypeVar("Options", bound=BaseModel)

_ENTRY = "the name of a step, or one name with a mapping of its options, such as {minmax: {per: [gene]}}"


def parse_chain(entries: Sequence[Entry], where: str = "normalize") -> tuple[Step, ...]:
    """The steps that `entries` ask for, in order; `for_activation` gives the steps of its preset.

    Parameters
    ----------
    entries : sequence of str or of mappings with one key
        A step's name, or its name with its options; or `for_activation` with a function's name, or with its options.
    where : str
        The place of `entries` in the configuration, for messages.

    Raises
    ------
    ConfigError
        Where an entry, a step's name, an option's name or an option's value is not valid.

    Examples
    --------
    >>> [step.name for step in parse_chain(["log1p", {"minmax": {"per": ["gene"]}}])]
    ['log1p', 'minmax']
    >>> [step.name for step in parse_chain([{"for_activation": "tanh"}])]
    ['zscore']
    """
    if isinstance(entries, str | Mapping) or not isinstance(entries, Sequence):
        raise ConfigError(
            "not a list of steps",
            where=where,
            found=_shown(entries),
            expected="a list of steps",
            remedy="put `- ` before each step",
        )
    return tuple(step for index, entry in enumerate(entries) for step in _parse_entry(entry, f"{where}.{index}"))


def parse_step(name: str, options: Any, where: str) -> Step:
    """The step `name` with `options`, a mapping or None; ConfigError at `where` and below."""
    kind = STEPS.get(name)
    if kind is None:
        raise unknown_name("unknown step", name, STEPS, f"{where}.{name}")
    return _validated(kind, options, f"{where}.{name}")


def _parse_entry(entry: Any, where: str) -> tuple[Step, ...]:
    name, options = _named(entry, where)
    if name not in STEPS and name != FOR_ACTIVATION:
        raise unknown_name("unknown step", name, (*STEPS, FOR_ACTIVATION), f"{where}.{name}")
    if name != FOR_ACTIVATION:
        return (parse_step(name, options, where),)
    place = f"{where}.{name}"
    preset = _validated(ForActivation, {"activation": options} if isinstance(options, str) else options, place)
    return tuple(parse_step(step, given, place) for step, given in preset.chain(place))


def _named(entry: Any, where: str) -> tuple[str, Any]:
    if isinstance(entry, str):
        return entry, None
    if isinstance(entry, Mapping) and len(entry) == 1:
        ((name, options),) = entry.items()
        return str(name), options
    remedy = "indent the options under the step's name" if isinstance(entry, Mapping) and len(entry) > 1 else None
    raise ConfigError("not a step", where=where, found=_shown(entry), expected=_ENTRY, remedy=remedy)


def _validated(kind: type[Options], options: Any, where: str) -> Options:
    """`options`, a mapping or None, as `kind`; ConfigError at `where` and below."""
    if options is not None and not isinstance(options, Mapping):
        expected = f"a mapping of options: {', '.join(kind.model_fields) or 'this step has none'}"
        raise ConfigError("not a mapping of options", where=where, found=_shown(options), expected=expected)
    try:
        return kind.model_validate(dict(options or {}))
    except ValidationError as error:
        raise _translated(kind, error.errors(include_url=False)[0], where) from None


def _translated(kind: type[BaseModel], detail: ErrorDetails, where: str) -> ConfigError:
    """The first thing that pydantic found wrong, in this program's words."""
    option, place = _place(detail["loc"])
    if detail["type"] == "extra_forbidden":
        return unknown_name("unknown option", option, kind.model_fields, f"{where}{place}")
    said = str(detail.get("ctx", {}).get("error", detail["msg"]))
    described = kind.model_fields[option].description if option in kind.model_fields else None
    if described is not None and detail["type"] != "value_error":
        said = described
    return ConfigError("invalid option", where=f"{where}{place}", found=_shown(detail["input"]), expected=said)


def _place(loc: tuple[int | str, ...]) -> tuple[str, str]:
    """The option's name, and the dotted path of what is wrong in it, without pydantic's names of union members."""
    kept = [part for depth, part in enumerate(loc) if depth == 0 or isinstance(part, int)]
    return (str(kept[0]) if kept else ""), "".join(f".{part}" for part in kept)


def _shown(value: Any, length: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= length else f"{text[: length - 3]}..."
