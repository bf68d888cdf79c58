"""What a user may write in a configuration: its sections, strict and immutable, and what is said where one is wrong.

Not here: YAML itself (`document.py`), and the options of a step, which the step itself validates.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias, TypeVar, cast, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ByteSize,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from pipeline.block import DEFAULT_BLOCK_BYTES
from pipeline.document import override, read_document
from pipeline.dtypes import DTYPES, DtypeName
from pipeline.errors import ConfigError

ERRORS_SHOWN = 5
FOUND_CHARACTERS = 80
STORE_SUFFIX = ".zarr"
MANIFEST_SUFFIX = ".manifest"

Label: TypeAlias = str | int | float | bool

LONGEST_NAME_BYTES = 255
LONGEST_PATH_BYTES = 4095

_OWN_ERRORS = ("label", "step", "codec", "text", "place")


def _labels(value: object) -> tuple[Label, ...]:
    """One or several labels as Python's own types, whatever they were given as."""
    plain = _plain(value)
    labels = [_plain(each) for each in (plain if isinstance(plain, (list, tuple)) else [plain])]
    for each in labels:
        if not isinstance(each, (str, int, float)) or (isinstance(each, float) and not math.isfinite(each)):
            raise PydanticCustomError("label", "not a label")
    if not labels:
        raise PydanticCustomError("label", "no label")
    return tuple(labels)


def _plain(value: Any) -> Any:
    """NumPy numbers, strings and arrays as those of Python; dates as ISO text, bytes as the text that they are."""
    if getattr(getattr(value, "dtype", None), "kind", None) == "M":
        value = value.astype(str)
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, datetime) and value.tzinfo is not None:
        value = value.astimezone(UTC).replace(tzinfo=None)
    return value.isoformat() if isinstance(value, date) else value


def _text(value: str) -> str:
    if "\0" in value:
        raise PydanticCustomError("text", "text with a NUL character")
    return value


def _place(value: str) -> str:
    parts = os.fsencode(value).split(b"/")
    if max(map(len, parts)) > LONGEST_NAME_BYTES or sum(map(len, parts)) + len(parts) > LONGEST_PATH_BYTES:
        raise PydanticCustomError("place", "a name or a path that is too long")
    return value


def _step(value: object) -> dict[str, dict[str, Any] | str]:
    if isinstance(value, str):
        return {value: {}}
    if not isinstance(value, Mapping):
        raise PydanticCustomError("step", "not a step")
    if len(value) != 1:
        raise PydanticCustomError("step", "not one step but {count}", {"count": len(value)})
    name, given = next(iter(value.items()))
    options: Any = {} if given is None else given
    if not isinstance(name, str) or not isinstance(options, (Mapping, str)):
        raise PydanticCustomError("step", "not a step")
    return {name: options if isinstance(options, str) else dict(options)}


def _codecs(value: object) -> str | tuple[dict[str, Any], ...]:
    """A ready name as it is; codecs as mappings, each with its name. Which of them there are, the sink knows."""
    if isinstance(value, str):
        return value
    codecs: Sequence[Any] = value if isinstance(value, (list, tuple)) else [value]
    named = [{"name": each} if isinstance(each, str) else each for each in codecs]
    if not all(isinstance(each, Mapping) and ("name" in each or "id" in each) for each in named):
        raise PydanticCustomError("codec", "not a codec")
    return tuple(dict(each) for each in named)


def manifest_beside(validated: dict[str, Any]) -> str:
    """Where the manifest goes by default: beside the output's store."""
    store: str = validated["store"].rstrip("/")
    return store.removesuffix(STORE_SUFFIX) + MANIFEST_SUFFIX


def _cluster_kind(value: object) -> object:
    return value.get("kind", "local") if isinstance(value, Mapping) else getattr(value, "kind", "local")


Text = Annotated[str, Field(min_length=1), AfterValidator(_text)]
Place = Annotated[Text, AfterValidator(_place)]
Positive = Annotated[int, Field(ge=1)]
Index = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**64)]
Names = Annotated[tuple[Text, ...], Field(strict=False, min_length=1)]
Sizes = Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)]
Labels = Annotated[tuple[Label, ...], PlainValidator(_labels)]
Codecs = Annotated[str | tuple[dict[str, Any], ...], PlainValidator(_codecs)]
Bytes = Annotated[ByteSize, Field(ge=1)]
Steps = Annotated[
    tuple[Annotated[dict[str, dict[str, Any] | str], PlainValidator(_step)], ...],
    Field(
        strict=False,
        min_length=1,
        description="a list of steps, each a name or one name with its options, such as minmax: {range: [0, 1]}",
    ),
]


class Section(BaseModel):
    """A part of a configuration: unknown keys and values of another type are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ArrayConfig(Section):
    """Which array is meant, and how it is read."""

    path: ClassVar[str] = "source."

    array: Text | None = Field(default=None, description="name of an array in the store")
    dims: Names | None = Field(default=None, description="a list of one name for each dim of the array")
    sample_dim: Text | None = Field(default=None, description="the name of one of the dims")
    missing_chunks: Literal["error", "fill"] = Field(default="error", description="error or fill")

    @model_validator(mode="after")
    def _dims_agree(self) -> Self:
        dims = self.dims or ()
        if len(set(dims)) != len(dims):
            raise ConfigError("a dim is named twice", where=f"{self.path}dims", found=list(dims), expected="different names")
        if dims and self.sample_dim is not None and self.sample_dim not in dims:
            raise ConfigError(
                "unknown dim",
                where=f"{self.path}sample_dim",
                found=self.sample_dim,
                expected=", ".join(dims),
                remedy=_nearest(self.sample_dim, dims),
            )
        return self


class SamplesConfig(Section):
    """A slice along the sample dim, as Python's; what reaches beyond the last sample ends there."""

    start: Index = Field(default=0, description="a position, 0 or more")
    stop: Positive | None = Field(default=None, description="a position above start")
    step: Positive = Field(default=1, description="a number, 1 or more")

    @model_validator(mode="after")
    def _holds_something(self) -> Self:
        if self.stop is not None and self.stop <= self.start:
            raise ConfigError(
                "an empty slice", where="fit.samples.stop", found=self.stop, expected=f"a position above start, {self.start}"
            )
        return self

    @property
    def as_slice(self) -> slice:
        return slice(self.start, self.stop, self.step)


class SourceConfig(ArrayConfig):
    """Which array of which store is read."""

    store: Place = Field(description="path or URL of a Zarr store")


class FitConfig(Section):
    """What is fitted on: the samples that satisfy `where`, `samples` and `fraction` alike, each of them optional."""

    where: dict[str, Labels] | None = Field(
        default=None, description="a mapping from a label's name to a value or a list of values"
    )
    samples: SamplesConfig | None = Field(default=None, description="a mapping with any of the keys start, stop and step")
    fraction: Fraction | None = Field(default=None, description="a number above 0 and at most 1")
    seed: Seed = Field(default=0, description="a whole number from 0 to 2**64 - 1")
    by: Text | None = Field(default=None, description="the name of a label of the samples, such as plate")
    unseen: Literal["error", "global", "nan"] = Field(
        default="error", description="error, global or nan: what becomes of a label that was not fitted"
    )
    weights: Text | None = Field(default=None, description="the name of a coordinate of the samples that holds their weights")
    nan: Literal["skip", "error", "propagate"] = Field(default="skip", description="skip, error or propagate")
    describe: bool | None = Field(default=None, description="true or false")


class ApplyOutputConfig(Section):
    """Where the normalized store goes, and how it is laid out."""

    store: Place = Field(description="path or URL of the store to write")
    chunks: Sizes | None = Field(default=None, description="a list of one size for each dim, 1 or more")
    shards: Sizes | None = Field(default=None, description="a list of one size for each dim, 1 or more")
    compressors: Codecs | None = Field(
        default=None, description="lz4, zstd, gzip, none, or a list such as [{name: zstd, configuration: {level: 3}}]"
    )
    overwrite: bool = Field(default=False, description="true or false")


class OutputConfig(ApplyOutputConfig):
    """Where the normalized store and the manifest go, of which dtype the store is, and how it is laid out."""

    manifest: Place = Field(default_factory=manifest_beside, description="path of the manifest to write")
    dtype: DtypeName | None = Field(default=None, description=", ".join(DTYPES))


class LocalClusterConfig(Section):
    """Threads of this process, so many for each of the workers; or, with `processes`, workers of Dask on this machine."""

    kind: Literal["local"] = Field(default="local", description="local or address")
    workers: Positive = Field(default=1, description="a number of workers, 1 or more")
    threads_per_worker: Positive | None = Field(default=None, description="a number of threads, 1 or more")
    processes: bool = Field(default=False, description="true or false")


class AddressClusterConfig(Section):
    """A Dask scheduler that is running already."""

    kind: Literal["address"] = Field(default="address", description="local or address")
    address: Text = Field(description="the address of a Dask scheduler, such as tcp://host:8786")


ClusterConfig: TypeAlias = LocalClusterConfig | AddressClusterConfig
_CLUSTERS: Mapping[str, type[Section]] = {"local": LocalClusterConfig, "address": AddressClusterConfig}
Cluster = Annotated[
    Annotated[LocalClusterConfig, Tag("local")] | Annotated[AddressClusterConfig, Tag("address")],
    Discriminator(_cluster_kind),
]


class ApplyConfig(Section):
    """What an application of a manifest to new data is told."""

    source: SourceConfig = Field(description="a mapping with the key store")
    output: ApplyOutputConfig = Field(description="a mapping with the key store")
    cluster: Cluster = Field(default_factory=LocalClusterConfig, description="a mapping with the key kind: local or address")
    block_bytes: Bytes = Field(
        default=ByteSize(DEFAULT_BLOCK_BYTES), description="a number of bytes, such as 134217728 or 128MiB"
    )

    @model_validator(mode="after")
    def _places_apart(self) -> Self:
        check_apart({"source.store": self.source.store, "output.store": self.output.store})
        return self


class Config(ApplyConfig):
    """A whole configuration: what `zarrnorm run`, `fit` and `plan` are told.

    Examples
    --------
    >>> config = parse_config({"source": {"store": "in.zarr"}, "normalize": ["log1p"], "output": {"store": "out.zarr"}}, Config)
    >>> config.output.manifest, config.normalize, config.cluster.kind
    ('out.manifest', ({'log1p': {}},), 'local')
    """

    output: OutputConfig = Field(description="a mapping with the key store")
    fit: FitConfig = Field(
        default_factory=FitConfig, description=f"a mapping with any of the keys {', '.join(FitConfig.model_fields)}"
    )
    normalize: Steps
    hold_input: bool = Field(default=False, description="true or false")

    @model_validator(mode="after")
    def _manifest_apart(self) -> Self:
        manifest = {"output.manifest": self.output.manifest}
        check_apart({"source.store": self.source.store, **manifest})
        check_apart({"output.store": self.output.store, **manifest})
        return self


class FitArguments(ArrayConfig, FitConfig):
    """The arguments of `pipeline.fit`, by the rules of a configuration; `dtype` by its name."""

    path: ClassVar[str] = ""

    normalize: Steps
    dtype: DtypeName | None = Field(default=None, description=", ".join(DTYPES))
    block_bytes: Bytes = Field(
        default=ByteSize(DEFAULT_BLOCK_BYTES), description="a number of bytes, such as 134217728 or '128MiB'"
    )


AnyConfig = TypeVar("AnyConfig", bound=Section)


def check_apart(places: Mapping[str, str]) -> None:
    """Refuse two places of which one lies in the other: writing one would alter or remove the other.

    Parameters
    ----------
    places : mapping of str to str
        Two paths or URLs by their configuration path.

    Raises
    ------
    ConfigError
    """
    (first, outer), (second, inner) = places.items()
    parts = [_parts(outer), _parts(inner)]
    shorter = min(len(each) for each in parts)
    if parts[0][:shorter] == parts[1][:shorter]:
        raise ConfigError(
            f"{first} and {second} are not apart",
            where=second,
            found=inner,
            expected=f"a place neither in nor around {outer}",
            remedy=f"choose another {second}",
        )


def _parts(place: str) -> list[str]:
    local = place.removeprefix("file://")
    if "://" not in local:
        local = os.path.realpath(local).rstrip(os.sep)
    return local.rstrip("/").split(os.sep if "://" not in local else "/")


def load_config(path: str, overrides: Sequence[str], model: type[AnyConfig]) -> AnyConfig:
    """The configuration in a YAML file, with some values replaced. Relative paths in it mean the current directory.

    Parameters
    ----------
    path : str
        A YAML file.
    overrides : sequence of str
        Each `path=VALUE`, such as `normalize.0.minmax.range=[0,1]`; the value is YAML.
    model : type
        `Config`, or `ApplyConfig` where a manifest says how to normalize.

    Raises
    ------
    ConfigError
    """
    return parse_config(override(read_document(path), overrides), model)


def parse_config(raw: object, model: type[AnyConfig]) -> AnyConfig:
    """`raw`, a mapping of mappings, lists and scalars, as a configuration.

    Raises
    ------
    ConfigError
        With the path of each wrong value, what was found there and what was expected.
    """
    if not isinstance(raw, Mapping):
        keys = ", ".join(model.model_fields)
        raise ConfigError("not a configuration", found=_shown(raw), expected=f"a mapping with the keys {keys}")
    try:
        return model.model_validate({key: value for key, value in raw.items() if value is not None})
    except ValidationError as error:
        raise _as_one([_explain(each, model) for each in _causes(error.errors())]) from None


def _causes(details: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Without what only follows from another; unknown keys, which explain missing ones, come first."""
    inside = {detail["loc"][:-1] for detail in details}
    causes = [
        detail
        for detail in details
        if detail["type"] != "default_factory_not_called" and not (detail["type"] == "too_short" and detail["loc"] in inside)
    ]
    return sorted(causes, key=lambda detail: detail["type"] != "extra_forbidden")


def _as_one(errors: Sequence[ConfigError]) -> ConfigError:
    if len(errors) == 1:
        return errors[0]
    lines = [_on_one_line(error) for error in errors[:ERRORS_SHOWN]]
    if len(errors) > ERRORS_SHOWN:
        lines.append(f"and {len(errors) - ERRORS_SHOWN} more")
    return ConfigError("\n  ".join([f"{len(errors)} wrong values in the configuration", *lines]))


def _on_one_line(error: ConfigError) -> str:
    found = "" if error.found is None else f" {error.found}"
    remedy = "" if error.remedy is None else f" ({error.remedy})"
    return f"{error.where}: {error.what}{found}; expected {error.expected}{remedy}"


def _explain(detail: ErrorDetails, model: type[BaseModel]) -> ConfigError:
    path, section, field = _locate(detail["loc"], model)
    where, kind, found = ".".join(path), detail["type"], detail["input"]
    expected = None if field is None else field.description
    if kind in ("extra_forbidden", "invalid_key"):
        names = list(section.model_fields)
        remedy = _nearest(path[-1], names) or "remove it"
        return ConfigError("unknown key", where=where, found=path[-1], expected=", ".join(names), remedy=remedy)
    if kind == "missing":
        remedy = f"add it, or give --set {where}=…" if issubclass(model, ApplyConfig) else "add it"
        return ConfigError("missing value", where=where, expected=expected, remedy=remedy)
    if kind == "union_tag_invalid":
        kind, kinds = detail["ctx"]["tag"], list(_CLUSTERS)
        near = _nearest(kind, kinds)
        return ConfigError("wrong value", where=f"{where}.kind", found=_shown(kind), expected=" or ".join(kinds), remedy=near)
    what = detail["msg"] if kind in _OWN_ERRORS else "wrong value"
    return ConfigError(what, where=where, found=_shown(found), expected=expected, remedy=_nearest(found, _literals(field)))


def _locate(loc: Sequence[str | int], model: type[BaseModel]) -> tuple[list[str], type[BaseModel], FieldInfo | None]:
    """The path as a user writes it, the section it ends in, and the field, None where the section has no such field."""
    path: list[str] = []
    section, field, entered = model, None, True
    for index, part in enumerate(loc):
        if index == 1 and path == ["cluster"] and part in _CLUSTERS:  # pydantic's name of the kind, not a key
            section, entered = _CLUSTERS[str(part)], True
            continue
        if part != "[key]":
            path.append(str(part))
        if entered:
            field = section.model_fields.get(str(part))
        annotation = None if field is None else field.annotation
        if get_origin(annotation) is dict and len(path) > 1 and path[-2] in section.model_fields:  # the name of a section
            annotation = get_args(annotation)[1]
        entered = isinstance(annotation, type) and issubclass(annotation, Section)
        if entered:
            section = cast("type[Section]", annotation)
    return path, section, field


def _literals(field: FieldInfo | None) -> list[str]:
    annotation = None if field is None else field.annotation
    return [name for literal in (annotation, *get_args(annotation)) for name in get_args(literal) if isinstance(name, str)]


def _nearest(found: object, names: Sequence[str]) -> str | None:
    close = get_close_matches(str(found), names, n=1)
    return f"did you mean '{close[0]}'?" if close else None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= FOUND_CHARACTERS else text[: FOUND_CHARACTERS - 1] + "…"
