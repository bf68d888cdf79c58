"""A manifest's fields as documents and arrays: for its digest, for its files, and back from them.

Not here: the schema's text (`schema.py`), the folder (`folder.py`), what fits together (`record.py`).
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from pipeline.errors import ManifestError, some_of
from pipeline.manifest.arrays import decode, describe, encode
from pipeline.manifest.digest import arrays_digest
from pipeline.manifest.gathered import FittedStatistics
from pipeline.manifest.groups import Groups, unstacked
from pipeline.manifest.labels import decode_labels, encode_labels, labels_kind
from pipeline.manifest.schema import (
    ARRAYS_FILE,
    COLLECTION_FILE,
    MANIFEST_FILE,
    SCHEMA_VERSION,
    ArrayEntry,
    GroupsEntry,
    IntegrityEntry,
    LabelsEntry,
    ManifestDocument,
    StatisticsEntry,
    StepEntry,
    parse,
    render,
    validated,
)
from pipeline.normalize import STEPS
from pipeline.normalize.chain import FittedChain
from pipeline.normalize.step import FittedStep, Step
from pipeline.statistics.describe import Statistics

if TYPE_CHECKING:
    from pipeline.manifest.record import ManifestRecord

MANIFEST_MAX_BYTES = 64 * 2**20
_Arrays = dict[str, NDArray[Any]]


def content_of(record: ManifestRecord) -> dict[str, Any]:
    """What determines the transformation, as JSON types, arrays by their digests."""
    chain = record.chain
    return {
        "schema_version": SCHEMA_VERSION,
        "dims": list(chain.dims),
        "sample_dim": chain.sample_dim,
        "input_dtype": chain.input_dtype.name,
        "output_dtype": chain.output_dtype.name,
        "nan": record.nan_policy,
        "sizes": dict(record.sizes),
        "labels": {
            dim: {"kind": labels_kind(labels), "arrays": arrays_digest(encode_labels(labels))}
            for dim, labels in record.labels.items()
        },
        "chain": [
            {
                "name": fitted.step.name,
                "options": fitted.step.model_dump(mode="json", exclude_defaults=True),
                "per": list(fitted.per),
                "parameters": arrays_digest(fitted.parameters),
            }
            for fitted in chain.steps
        ],
        "statistics": [
            {"before_step": part.before_step, "per": list(part.per), "arrays": arrays_digest(part.statistics.arrays())}
            for part in record.statistics
        ],
        **({"groups": _groups_content(record.groups)} if record.groups else {}),
    }


def check_fields(record: ManifestRecord) -> None:
    """Refuse what a manifest's file cannot say; raises ManifestError."""
    chain = record.chain
    header = {
        "dims": list(chain.dims),
        "sample_dim": chain.sample_dim,
        "input_dtype": chain.input_dtype.name,
        "output_dtype": chain.output_dtype.name,
        "nan": record.nan_policy,
        "sizes": dict(record.sizes),
    }
    integrity = {"arrays_bytes": 0, "arrays_sha256": "0" * 64, "manifest_sha256": ""}
    rest = {"digest": "0" * 64, "chain": [], "labels": [], "statistics": [], "provenance": {}, "integrity": integrity}
    validated(ManifestDocument, header | rest, "a manifest")
    for index, fitted in enumerate(chain.steps):
        _known_step(fitted.step.name, f"chain.{index}")
        _entries({name: np.asarray(values) for name, values in fitted.parameters.items()})


def save_files(record: ManifestRecord) -> dict[str, bytes]:
    """The files of a manifest's folder, by name; the readable one last, so that a folder with it is complete."""
    chain, arrays = record.chain, _arrays_of(record)
    stored = encode({f"{place}.{name}": values for place, group in arrays.items() for name, values in group.items()})
    document = ManifestDocument.model_construct(
        digest=record.digest,
        dims=list(chain.dims),
        sample_dim=chain.sample_dim,
        input_dtype=chain.input_dtype.name,
        output_dtype=chain.output_dtype.name,
        nan=record.nan_policy,
        sizes=dict(record.sizes),
        chain=[_step_entry(fitted, arrays[f"chain.{index}"]) for index, fitted in enumerate(chain.steps)],
        labels=[
            LabelsEntry(dim=dim, kind=labels_kind(labels), arrays=_entries(arrays[f"labels.{index}"]))
            for index, (dim, labels) in enumerate(record.labels.items())
        ],
        statistics=[
            StatisticsEntry(before_step=part.before_step, per=list(part.per), arrays=_entries(arrays[f"statistics.{index}"]))
            for index, part in enumerate(record.statistics)
        ],
        groups=_groups_entry(record.groups, arrays) if record.groups else None,
        provenance=dict(record.provenance),
        integrity=IntegrityEntry(
            arrays_bytes=len(stored), arrays_sha256=hashlib.sha256(stored).hexdigest(), manifest_sha256=""
        ),
    )
    rendered = render(document)
    if len(rendered) > MANIFEST_MAX_BYTES:
        raise ManifestError("the manifest is too large", found=f"{len(rendered)} bytes", expected=f"{MANIFEST_MAX_BYTES}")
    return {ARRAYS_FILE: stored, MANIFEST_FILE: rendered}


def load_fields(folder: Path) -> tuple[str, dict[str, Any]]:
    """The digest that was recorded and the fields of the record that the files in `folder` hold; raises ManifestError."""
    document = parse(read_text(folder), str(folder / MANIFEST_FILE))
    declared = {f"{place}.{name}": entry for place, group in _declared(document).items() for name, entry in group.items()}
    integrity = document.integrity
    stored = decode(folder / ARRAYS_FILE, declared, integrity.arrays_bytes, integrity.arrays_sha256)
    arrays = {place: {name: stored[f"{place}.{name}"] for name in group} for place, group in _declared(document).items()}
    chain = FittedChain(
        steps=tuple(_restore_step(index, entry, arrays[f"chain.{index}"]) for index, entry in enumerate(document.chain)),
        dims=tuple(document.dims),
        sample_dim=document.sample_dim,
        input_dtype=np.dtype(document.input_dtype),
        output_dtype=np.dtype(document.output_dtype),
    )
    labels = {
        entry.dim: decode_labels(arrays[f"labels.{index}"], entry.kind, entry.dim)
        for index, entry in enumerate(document.labels)
    }
    statistics = tuple(
        FittedStatistics(entry.before_step, tuple(entry.per), _restore_statistics(arrays[f"statistics.{index}"], document.nan))
        for index, entry in enumerate(document.statistics)
    )
    return document.digest, {
        "chain": chain,
        "sizes": document.sizes,
        "labels": labels,
        "statistics": statistics,
        "groups": _restore_groups(document.groups, chain, arrays) if document.groups else None,
        "nan_policy": document.nan,
        "provenance": document.provenance,
    }


def _arrays_of(record: ManifestRecord) -> dict[str, _Arrays]:
    """Every array of the record, by the place of what it belongs to and its name there."""
    groups: dict[str, _Arrays] = {}
    for index, fitted in enumerate(record.chain.steps):
        groups[f"chain.{index}"] = {name: np.asarray(values) for name, values in fitted.parameters.items()}
    for index, labels in enumerate(record.labels.values()):
        groups[f"labels.{index}"] = encode_labels(labels)
    for index, part in enumerate(record.statistics):
        groups[f"statistics.{index}"] = dict(part.statistics.arrays())
    if record.groups:
        groups["groups.labels"] = encode_labels(record.groups.labels)
        groups.update({f"groups.{index}": record.groups.stacked(index) for index in range(len(record.chain.steps))})
    return groups


def _declared(document: ManifestDocument) -> dict[str, Mapping[str, ArrayEntry]]:
    """The arrays that a document declares, grouped as `_arrays_of` groups them."""
    groups: dict[str, Mapping[str, ArrayEntry]] = {}
    groups.update({f"chain.{index}": entry.parameters for index, entry in enumerate(document.chain)})
    groups.update({f"labels.{index}": entry.arrays for index, entry in enumerate(document.labels)})
    groups.update({f"statistics.{index}": entry.arrays for index, entry in enumerate(document.statistics)})
    if document.groups:
        groups["groups.labels"] = document.groups.labels
        groups.update({f"groups.{index}": entries for index, entries in enumerate(document.groups.parameters)})
    return groups


def _groups_content(groups: Groups) -> dict[str, Any]:
    return {
        "by": groups.by,
        "unseen": groups.unseen,
        "labels": {"kind": labels_kind(groups.labels), "arrays": arrays_digest(encode_labels(groups.labels))},
        "parameters": [arrays_digest(groups.stacked(index)) for index in range(len(groups.chains[0].steps))],
    }


def _groups_entry(groups: Groups, arrays: Mapping[str, _Arrays]) -> GroupsEntry:
    return GroupsEntry(
        by=groups.by,
        unseen=groups.unseen,
        kind=labels_kind(groups.labels),
        labels=_entries(arrays["groups.labels"]),
        parameters=[_entries(arrays[f"groups.{index}"]) for index in range(len(groups.chains[0].steps))],
    )


def _restore_groups(entry: GroupsEntry, chain: FittedChain, arrays: Mapping[str, _Arrays]) -> Groups:
    labels = decode_labels(arrays["groups.labels"], entry.kind, entry.by)
    parameters = [arrays[f"groups.{index}"] for index in range(len(entry.parameters))]
    return Groups(entry.by, labels, entry.unseen, unstacked(chain, parameters, len(labels)))


def _entries(arrays: _Arrays) -> dict[str, ArrayEntry]:
    return {name: describe(values) for name, values in arrays.items()}


def _step_entry(fitted: FittedStep, parameters: _Arrays) -> StepEntry:
    options = fitted.step.model_dump(mode="json")
    return StepEntry(name=fitted.step.name, options=options, per=list(fitted.per), parameters=_entries(parameters))


def _restore_step(index: int, entry: StepEntry, parameters: _Arrays) -> FittedStep:
    where = f"chain.{index}.{entry.name}"
    try:
        fitted = _known_step(entry.name, where).model_validate(entry.options).restore(parameters)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ManifestError(
            "the manifest holds an option that the step refuses", where=f"{where}.{place}", found=first["msg"]
        ) from None
    if fitted.per != tuple(entry.per):
        raise ManifestError("the manifest's dims do not fit its step", where=where, found=entry.per, expected=list(fitted.per))
    return fitted


def _known_step(name: str, where: str) -> type[Step]:
    if name not in STEPS:
        near = difflib.get_close_matches(name, STEPS, n=3) or sorted(STEPS)
        raise ManifestError("the manifest holds an unknown step", where=where, found=name, expected=", ".join(near))
    return STEPS[name]


def _restore_statistics(arrays: _Arrays, nan_policy: str) -> Statistics:
    return Statistics.from_arrays(arrays, nan_policy)


def read_text(folder: Path) -> bytes:
    """What the `manifest.json` in `folder` holds; raises ManifestError where it is not there or too large."""
    path = folder / MANIFEST_FILE
    try:
        size_bytes = path.stat().st_size
        content = path.read_bytes() if size_bytes <= MANIFEST_MAX_BYTES else None
    except (OSError, ValueError) as error:
        _refuse_collection(folder)
        raise ManifestError(
            "no manifest there",
            where=str(path).replace("\0", "\\0"),
            found=getattr(error, "strerror", None) or error,
            expected=f"a folder with {MANIFEST_FILE} and {ARRAYS_FILE}",
            remedy="give the folder that the fit wrote",
        ) from None
    if content is None:
        raise ManifestError(
            "the manifest is too large", where=str(path), found=f"{size_bytes} bytes", expected=f"{MANIFEST_MAX_BYTES}"
        )
    return content


def _refuse_collection(folder: Path) -> None:
    if "\0" not in str(folder) and (folder / COLLECTION_FILE).is_file():
        members = sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST_FILE}"))
        raise ManifestError(
            "a collection of manifests, one for each array, is no single manifest",
            where=str(folder),
            expected=f"a folder with {MANIFEST_FILE} and {ARRAYS_FILE}",
            remedy=f"ManifestCollection.load(path), or the folder of one array in it: {some_of(members)}",
        )
