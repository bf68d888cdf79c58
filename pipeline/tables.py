"""A manifest, a plan and the steps as tables for people. Not here: JSON for machines, which each of them gives itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Protocol

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from pipeline.inference import ManifestCollection
from pipeline.manifest import QUANTILE_ERROR, RANK_ERROR, FittedStatistics, ManifestRecord
from pipeline.normalize.catalogue import DERIVES, Description, Option, PresetDescription

COLUMNS_WITHOUT_TERMINAL = 120
FEATURES_SHOWN = 6
UNAVAILABLE = "-"


def print_tables(tables: Mapping[str, Table]) -> None:
    """Print each table under its title, to the standard output."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = COLUMNS_WITHOUT_TERMINAL
    for title, table in tables.items():
        console.print(title, style="bold")
        console.print(table)


class Planned(Protocol):
    """The plan of one array, or of several."""

    def to_json(self) -> dict[str, Any]: ...


def plan_tables(plan: Planned) -> dict[str, Table]:
    """What a run will do: its figures, then each pass over the data."""
    content = plan.to_json()
    figures = _table("", "")
    for name, value in content.items():
        if not isinstance(value, (list, dict)):
            figures.add_row(name.replace("_bytes", "").replace("bytes_", "").replace("_", " "), _figure(name, value))
    parts = {name: _rows(content[name]) for name in ("passes", "phases") if content.get(name)}
    return {"plan": figures, **parts}


def _rows(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = _table(*(name.replace("_", " ") for name in rows[0]))
    for row in rows:
        table.add_row(*(_figure(name, value) for name, value in row.items()))
    return table


def _figure(name: str, value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(str(each) for each in value) or ("all together" if name == "per" else "-")
    return decimal(value) if "bytes" in name else _number(value)


def step_lines(described: Sequence[Description | PresetDescription]) -> list[str]:
    """One line for each step: its name and what it does."""
    width = max(len(each.name) for each in described)
    return [f"{each.name:<{width}}  {each.summary}" for each in described]


def step_tables(described: Description | PresetDescription) -> dict[str, Table]:
    """Everything there is to say of one step: head and options; for `for_activation` the chains as well."""
    head = _table("", "")
    options = {"options": _options(described.options)} if described.options else {}
    head.add_row("does", described.summary)
    if isinstance(described, PresetDescription):
        return {described.name: head, **options, "chains": _chains(described.chains)}
    head.add_row("formula", described.formula)
    head.add_row("inverse", described.inverse)
    head.add_row("reads", described.needs)
    head.add_row("derives", DERIVES[described.derives])
    head.add_row("reference", described.reference)
    return {described.name: head, **options}


def _options(options: Sequence[Option]) -> Table:
    table = _table("option", "default", "value")
    for option in options:
        table.add_row(option.name, "required" if option.required else _default(option.default), option.description)
    return table


def _default(value: Any) -> str:
    return {None: "none", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else _option(value)


def _chains(chains: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("activation", "stands for", "because")
    for each in chains:
        steps = [json.dumps(step).replace('"', "") for step in each["chain"]]
        table.add_row(each["activation"], "\n".join(steps), f"{each['advice']}\n{each['reference']}")
    return table


def manifest_tables(manifest: ManifestRecord) -> dict[str, Table]:
    """What a manifest does and from what it was fitted: head, chain, and the statistics of each gathering.

    Where groups have statistics of their own, those shown are of all samples together, and the titles say so.
    """
    whose = ", of all groups together" if manifest.groups else ""
    gathered = {_title(manifest, each) + whose: _statistics(manifest, each) for each in manifest.statistics}
    return {"manifest": _head(manifest), f"chain{whose}": _chain(manifest), **gathered}


def collection_tables(collection: ManifestCollection) -> dict[str, Table]:
    """The manifests of several arrays: which they are, then the tables of each under its name."""
    arrays = _table("array", "digest")
    for name, manifest in collection.items():
        arrays.add_row(name, manifest.digest)
    arrays.add_row("all together", collection.digest)
    each = {
        f"{name}: {title}": table for name, manifest in collection.items() for title, table in manifest_tables(manifest).items()
    }
    return {"manifests": arrays, **each}


def _head(manifest: ManifestRecord) -> Table:
    content = manifest.to_json()
    table = _table("", "")
    table.add_row("digest", content["digest"])
    table.add_row("dims", _sized(content["dims"], content["sizes"]))
    if "output_dims" in content:
        table.add_row("output dims", _sized(content["output_dims"], content["output_sizes"]))
    table.add_row("sample dim", content["sample_dim"])
    table.add_row("dtype", f"{content['input_dtype']} in, {content['output_dtype']} out")
    table.add_row("NaN", content["nan"])
    if groups := content["groups"]:
        table.add_row("by", f"{groups['by']}: {len(groups['labels']):,} groups, unseen labels: {groups['unseen']}")
    errors = content["provenance"].get(QUANTILE_ERROR)
    if isinstance(errors, dict) and errors:
        ranks = content["provenance"].get(RANK_ERROR, {})
        table.add_row("quantiles", ", ".join(f"{step}: {_error(value, ranks.get(step))}" for step, value in errors.items()))
    return table


def _sized(dims: Sequence[str], sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{dim} ({sizes[dim]:,})" if dim in sizes else dim for dim in dims)


def _error(relative: float, rank: float | None) -> str:
    """How far off quantiles may be, in words."""
    if not relative:
        return "exact"
    return f"within {100 * relative:.2g} % of a value" + (f" and {100 * rank:.2g} % of the ranks" if rank is not None else "")


def _chain(manifest: ManifestRecord) -> Table:
    table = _table("", "step", "options", "parameters")
    for index, (fitted, described) in enumerate(zip(manifest.chain.steps, manifest.to_json()["chain"], strict=True)):
        options = ", ".join(f"{name}={_option(value)}" for name, value in described["options"].items())
        parameters = (_summarised(name, values.ravel().tolist()) for name, values in fitted.parameters.items())
        table.add_row(str(index), described["name"], options, "\n".join(parameters))
    return table


def _option(value: Any) -> str:
    return f"[{', '.join(map(_option, value))}]" if isinstance(value, list) else _number(value)


def _summarised(name: str, values: Sequence[float]) -> str:
    if len(values) <= FEATURES_SHOWN:
        return f"{name} {', '.join(map(_number, values))}"
    known = [value for value in values if value == value]
    inside = f"{_number(min(known))} … {_number(median(known))} … {_number(max(known))}" if known else UNAVAILABLE
    return f"{name} {inside} ({len(values):,} values)"


def _statistics(manifest: ManifestRecord, gathered: FittedStatistics) -> Table:
    content = gathered.statistics.to_json()
    columns = {name: _flat(values) for name, values in content.items()}
    count = len(columns["nobs"])
    names = _feature_names(manifest, gathered, count)
    table = _table("", *(names or ["least feature", "median feature", "greatest feature"]))
    for name, values in columns.items():
        table.add_row(name, *([_number(value) for value in values] if names else _spread(values)))
    table.caption = "\n".join(f"{name}: {reason}" for name, reason in gathered.statistics.unavailable().items())
    table.caption_justify = "left"
    return table


def _title(manifest: ManifestRecord, gathered: FittedStatistics) -> str:
    steps, at, count = manifest.chain.steps, gathered.before_step, gathered.statistics.nobs.size
    what = "input" if at == 0 else f"values before step {at}" if at < len(steps) else "output"
    per = f"per {', '.join(gathered.per)}: {count:,} features" if gathered.per else "all together"
    return f"statistics of the {what}, {per}"


def _feature_names(manifest: ManifestRecord, gathered: FittedStatistics, count: int) -> list[str]:
    if count > FEATURES_SHOWN:
        return []
    if not gathered.per:
        return [""]
    labels = manifest.labels_before(gathered.before_step)
    if len(gathered.per) == 1 and gathered.per[0] in labels:
        return [str(label) for label in labels[gathered.per[0]].tolist()]
    return [str(index) for index in range(count)]


def _spread(values: Sequence[Any]) -> list[str]:
    known = [value for value in values if value is not None]
    return [_number(of(known)) if known else UNAVAILABLE for of in (min, median, max)]


def _flat(values: Any) -> list[Any]:
    return [each for value in values for each in _flat(value)] if isinstance(values, list) else [values]


def _number(value: Any) -> str:
    if value is None:
        return UNAVAILABLE
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.10g}"


def _table(*columns: str) -> Table:
    table = Table(show_header=any(columns))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
