"""What `manifest.json` may say: a strict, versioned schema and the exact text it is written as.

Not here: the arrays (`arrays.py`), the folder (`folder.py`) and what the words mean (`record.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from pipeline.dtypes import DtypeName
from pipeline.errors import ManifestError
from pipeline.statistics.describe import NAN_POLICIES

SCHEMA_VERSION = 1
MANIFEST_FILE = "manifest.json"
ARRAYS_FILE = "arrays.safetensors"
COLLECTION_FILE = "collection.json"
_LINE_LENGTH = 100

Hexdigest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Size = Annotated[int, Field(ge=0, lt=2**63)]
Name = Annotated[str, Field(min_length=1)]


def _one_of(names: tuple[str, ...]) -> AfterValidator:
    def check(value: str) -> str:
        if value not in names:
            raise ValueError(f"{value!r} is none of {', '.join(names)}")
        return value

    return AfterValidator(check)


NanPolicy = Annotated[str, _one_of(NAN_POLICIES)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Entry = TypeVar("Entry", bound=_Entry)


class ArrayEntry(_Entry):
    """Type and shape of one array of the arrays file."""

    dtype: DtypeName
    shape: list[Size]


class StepEntry(_Entry):
    """One fitted step: its name, its options as bound, and its parameters, whose dims are `per`."""

    name: Name
    options: dict[str, Any]
    per: list[Name]
    parameters: dict[Name, ArrayEntry]


class StatisticsEntry(_Entry):
    """The sufficient statistics that were gathered before step `before_step`."""

    before_step: Size
    per: list[Name]
    arrays: dict[Name, ArrayEntry]


class LabelsEntry(_Entry):
    """The labels along one dim; their arrays are `labels.<place in the list>.<name>`."""

    dim: Name
    kind: Literal["strings", "integers", "floats"]
    arrays: dict[Name, ArrayEntry]


class GroupsEntry(_Entry):
    """The groups that samples fall into by a label; of each step the parameters of all groups, the groups as first axis."""

    by: Name
    unseen: Literal["error", "global", "nan"]
    kind: Literal["strings", "integers", "floats"]
    labels: dict[Name, ArrayEntry]
    parameters: list[dict[Name, ArrayEntry]]


class IntegrityEntry(_Entry):
    """Digests of both files; `manifest_sha256` is that of this file with itself left empty."""

    arrays_bytes: Size
    arrays_sha256: Hexdigest
    manifest_sha256: Hexdigest | Literal[""]


class ManifestDocument(_Entry):
    """`manifest.json`, schema version 1."""

    schema_version: Literal[1] = 1
    digest: Hexdigest
    dims: Annotated[list[Name], Field(min_length=1)]
    sample_dim: Name
    input_dtype: DtypeName
    output_dtype: DtypeName
    nan: NanPolicy
    sizes: dict[Name, Size]
    chain: list[StepEntry]
    labels: list[LabelsEntry]
    statistics: list[StatisticsEntry]
    groups: GroupsEntry | None = None
    provenance: dict[str, Any]
    integrity: IntegrityEntry


class MemberEntry(_Entry):
    """One array of a collection: its name, the folder of its manifest, that manifest's digest and its file's sha256."""

    name: Name
    folder: Annotated[str, Field(pattern="^[0-9]+-[A-Za-z0-9_-]*$")]
    digest: Hexdigest
    manifest_sha256: Hexdigest


class CollectionIntegrityEntry(_Entry):
    """The digest of this file with itself left empty."""

    manifest_sha256: Hexdigest | Literal[""]


class CollectionDocument(_Entry):
    """`collection.json`, schema version 1."""

    schema_version: Literal[1] = 1
    digest: Hexdigest
    arrays: Annotated[list[MemberEntry], Field(min_length=1)]
    integrity: CollectionIntegrityEntry


def render_collection(document: CollectionDocument) -> bytes:
    """The text of `collection.json`, its own digest filled in."""
    return _seal(document.model_dump(mode="json"))


def render(document: ManifestDocument) -> bytes:
    """The text of `manifest.json`, its own digest filled in."""
    fields = document.model_dump(mode="json")
    if document.groups is None:
        del fields["groups"]
    return _seal(fields)


def parse(content: bytes, where: str) -> ManifestDocument:
    """What the text of a `manifest.json` says.

    Parameters
    ----------
    content : bytes
        The whole file.
    where : str
        Its path, for messages.

    Raises
    ------
    ManifestError
        Where the text is cut short or altered in any byte, or of another schema version.
    """
    return parse_as(ManifestDocument, content, where)


def parse_as(model: type[Entry], content: bytes, where: str) -> Entry:
    """`parse` for a document of any schema."""
    try:
        fields = json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ManifestError(
            "not a manifest: the file is cut short or no JSON",
            where=where,
            found=error,
            remedy="copy the manifest again or fit again",
        ) from None
    _check_version(fields, where)
    _check_seal(fields, content, where)
    return validated(model, fields, where)


def validated(model: type[Entry], fields: Mapping[str, Any], where: str) -> Entry:
    """`fields` as `model`; raises ManifestError with the place, from `where` on, of the first that is wrong."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ManifestError("the manifest does not follow its schema", where=f"{where}: {place}", found=first["msg"]) from None


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def _check_version(fields: Any, where: str) -> None:
    version = fields.get("schema_version") if isinstance(fields, dict) else None
    if type(version) is not int or version < 1:
        raise ManifestError("not a manifest of this program", where=where, expected='an object with "schema_version"')
    if version != SCHEMA_VERSION:
        raise ManifestError(
            "manifest of another schema version",
            where=where,
            found=f"schema version {version}",
            expected=f"schema version {SCHEMA_VERSION}",
            remedy="use a version of this program that knows it, or fit again",
        )


def _check_seal(fields: dict[str, Any], content: bytes, where: str) -> None:
    integrity = fields.get("integrity")
    stated = integrity.get("manifest_sha256") if isinstance(integrity, dict) else None
    try:
        intact = isinstance(stated, str) and _seal(fields) == content
    except (ValueError, RecursionError):
        intact = False
    if not intact:
        raise ManifestError(
            "the manifest was altered after it was written",
            where=where,
            expected="the text that its sha256 was taken of",
            remedy="copy the manifest again or fit again",
        )


def _seal(fields: dict[str, Any]) -> bytes:
    """The text of `fields` with the digest of the text without that digest put in, ending in a newline."""
    unsealed = {**fields, "integrity": {**fields["integrity"], "manifest_sha256": ""}}
    sha256 = hashlib.sha256(_text(unsealed)).hexdigest()
    return _text({**fields, "integrity": {**fields["integrity"], "manifest_sha256": sha256}})


def _text(fields: dict[str, Any]) -> bytes:
    return (readable_json(fields) + "\n").encode("ascii")


def readable_json(value: Any, indent: str = "") -> str:
    """JSON in which whatever fits into one line is in one line; a function of the value and its order of keys alone."""
    line = json.dumps(value, allow_nan=False)
    if len(indent) + len(line) <= _LINE_LENGTH or not isinstance(value, dict | list):
        return line
    deeper = indent + "  "
    if isinstance(value, dict):
        items = [f"{json.dumps(key)}: {readable_json(item, deeper)}" for key, item in value.items()]
    else:
        items = [readable_json(item, deeper) for item in value]
    start, end = "{}" if isinstance(value, dict) else "[]"
    return start + "\n" + ",\n".join(deeper + item for item in items) + "\n" + indent + end
