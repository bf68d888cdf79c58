"""A YAML document as plain mappings, lists and scalars, and the replacement of single values in it.

Not here: what the values mean (`config.py`).
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Any

import yaml

from pipeline.errors import ConfigError

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_TAGS = {"null": _NULL, "bool": _BOOL, "int": _INT, "float": _FLOAT, "merge": re.compile("<<")}


class _Loader(yaml.SafeLoader):
    """Plain data only, by the core schema of YAML 1.2: `no` is a string, `1e-3` is a number, and no key stands twice."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> Any:
        if kind is yaml.ScalarNode and implicit[0]:
            names = (name for name, pattern in _TAGS.items() if pattern.fullmatch(value))
            return f"tag:yaml.org,2002:{next(names, 'str')}"
        implicit = (False, False) if kind is yaml.ScalarNode else implicit
        return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key '{key.value}' stands twice", problem_mark=key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return super().construct_mapping(node, deep)


def read_document(path: str) -> Any:
    """What a YAML file holds.

    Raises
    ------
    ConfigError
        Where there is no such file, it is empty or it is not YAML; with the line where one is to blame.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise ConfigError("not a text file", where=path, found=str(error), expected="YAML in UTF-8") from None
    except (OSError, ValueError) as error:
        found = getattr(error, "strerror", None) or error
        raise ConfigError("cannot read the configuration", where=path, found=found, expected="a YAML file") from None
    document = _parse(text, path)
    if document is None:
        raise ConfigError("the configuration is empty", where=path, expected="a YAML mapping with source, normalize and output")
    return document


def override(document: Any, assignments: Sequence[str]) -> Any:
    """`document` with single values replaced; itself unchanged.

    Parameters
    ----------
    document : object
        Mappings, lists and scalars.
    assignments : sequence of str
        Each `path=VALUE`: keys and indices joined by dots, and the value as YAML. Missing mappings are made.

    Raises
    ------
    ConfigError
        Where an assignment is malformed, or its path leads through something that holds no values.

    Examples
    --------
    >>> override({"normalize": ["log1p", {"minmax": {"per": []}}]}, ["normalize.1.minmax.range=[0, 2]", "cluster.workers=2"])
    {'normalize': ['log1p', {'minmax': {'per': [], 'range': [0, 2]}}], 'cluster': {'workers': 2}}
    """
    changed = deepcopy(document)
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise ConfigError(
                "malformed --set", found=assignment, expected="path=VALUE, such as normalize.0.minmax.range=[0,1]"
            )
        where = f"--set {path.strip()}"
        holder = changed
        for key, following in pairwise(keys):
            holder = _enter(holder, key, following, where)
        _put(holder, keys[-1], _parse(value, where), where)
    return changed


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = where if mark is None else f"{where}, line {mark.line + 1}, column {mark.column + 1}"
        problem = " ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError("not valid YAML", where=place, found=problem) from None
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:
        raise ConfigError("not valid YAML", where=where, found=" ".join(str(error).split())) from None


def _enter(holder: Any, key: str, following: str, where: str) -> Any:
    """What `holder` holds at `key`; where that is nothing, or the bare name of a step, it becomes a mapping first."""
    index = _index(holder, key, where)
    inner = holder.get(index) if isinstance(holder, dict) else holder[index]
    if inner is None or (isinstance(inner, str) and inner == following):
        inner = {} if inner is None else {inner: None}
        holder[index] = inner
    return inner


def _put(holder: Any, key: str, value: Any, where: str) -> None:
    holder[_index(holder, key, where)] = value


def _index(holder: Any, key: str, where: str) -> str | int:
    if isinstance(holder, dict):
        return key
    if isinstance(holder, list) and key.isdecimal() and int(key) < len(holder):
        return int(key)
    if isinstance(holder, list):
        raise ConfigError(
            "no such place in a list",
            where=where,
            found=key,
            expected=f"an index from 0 to {len(holder) - 1}" if holder else "nothing: it is empty",
        )
    raise ConfigError(
        "no place to set a value in", where=where, found=f"{key} under {holder!r}", expected="a mapping or a list"
    )
