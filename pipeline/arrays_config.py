"""A configuration of several arrays of one store, each with a chain; it stands for one ordinary configuration for each.

Not here: the sections that it shares with an ordinary one (`config.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Self

from pydantic import ByteSize, Field, model_validator

from pipeline.block import DEFAULT_BLOCK_BYTES
from pipeline.config import (
    Bytes,
    Cluster,
    Codecs,
    Config,
    FitConfig,
    LocalClusterConfig,
    Names,
    OutputConfig,
    Place,
    Section,
    Sizes,
    SourceConfig,
    Steps,
    Text,
    manifest_beside,
    parse_config,
)
from pipeline.document import override, read_document
from pipeline.dtypes import DTYPES, DtypeName
from pipeline.errors import ConfigError, OutputExistsError, PipelineError

OF_ONE_ARRAY = {
    "source.array": "name the array as a key of arrays",
    "source.dims": "set arrays.NAME.dims",
    "source.sample_dim": "set arrays.NAME.sample_dim",
    "normalize": "set arrays.NAME.normalize",
    "output.dtype": "set arrays.NAME.dtype",
    "output.chunks": "set arrays.NAME.chunks",
    "output.shards": "set arrays.NAME.shards",
}


class EachArrayConfig(Section):
    """How one array is read, fitted, normalized and laid out."""

    normalize: Steps
    dims: Names | None = Field(default=None, description="a list of one name for each dim of the array")
    sample_dim: Text | None = Field(default=None, description="the name of one of the dims")
    fit: FitConfig = Field(
        default_factory=FitConfig, description=f"a mapping with any of the keys {', '.join(FitConfig.model_fields)}"
    )
    dtype: DtypeName | None = Field(default=None, description=", ".join(DTYPES))
    chunks: Sizes | None = Field(default=None, description="a list of one size for each dim, 1 or more")
    shards: Sizes | None = Field(default=None, description="a list of one size for each dim, 1 or more")


class StoreConfig(Section):
    """Which store is read."""

    store: Place = Field(description="path or URL of a Zarr store")
    missing_chunks: Literal["error", "fill"] = Field(default="error", description="error or fill")


class ArraysOutputConfig(Section):
    """Where the normalized store and the manifests go."""

    store: Place = Field(description="path or URL of the store to write")
    manifest: Place = Field(default_factory=manifest_beside, description="path of the folder of manifests to write")
    compressors: Codecs | None = Field(
        default=None, description="lz4, zstd, gzip, none, or a list such as [{name: zstd, configuration: {level: 3}}]"
    )
    overwrite: bool = Field(default=False, description="true or false")


class ArraysConfig(Section):
    """A whole configuration of several arrays: what `zarrnorm run`, `fit` and `plan` are told.

    Examples
    --------
    >>> arrays = {"images": {"normalize": ["maxabs"]}, "X": {"normalize": ["log1p"], "dtype": "float32"}}
    >>> raw = {"source": {"store": "in.zarr"}, "arrays": arrays, "output": {"store": "out.zarr"}}
    >>> {name: (each.source.array, each.output.dtype) for name, each in parse_config(raw, ArraysConfig).each.items()}
    {'images': ('images', None), 'X': ('X', 'float32')}
    """

    source: StoreConfig = Field(description="a mapping with the key store")
    arrays: dict[Text, EachArrayConfig] = Field(
        min_length=1, description="a mapping from the names of arrays to mappings with the key normalize"
    )
    output: ArraysOutputConfig = Field(description="a mapping with the key store")
    fit: FitConfig = Field(
        default_factory=FitConfig, description=f"a mapping with any of the keys {', '.join(FitConfig.model_fields)}"
    )
    cluster: Cluster = Field(default_factory=LocalClusterConfig, description="a mapping with the key kind: local or address")
    block_bytes: Bytes = Field(
        default=ByteSize(DEFAULT_BLOCK_BYTES), description="a number of bytes, such as 134217728 or 128MiB"
    )

    @model_validator(mode="after")
    def _each_is_right(self) -> Self:
        for name in self.arrays:
            if any(part in ("", ".", "..") for part in name.split("/")):
                raise ConfigError(
                    "not the path of an array",
                    where=f"arrays.{name}",
                    found=name,
                    expected="names with one slash between them, none of them . or ..",
                )
        _ = self.each
        return self

    @property
    def each(self) -> dict[str, Config]:
        """The ordinary configuration that each array would have alone; `fit` is the array's own where it has one."""
        found = {}
        for name, given in self.arrays.items():
            with of_array(name):
                found[name] = Config(
                    source=SourceConfig(
                        store=self.source.store,
                        array=name,
                        dims=given.dims,
                        sample_dim=given.sample_dim,
                        missing_chunks=self.source.missing_chunks,
                    ),
                    fit=given.fit if "fit" in given.model_fields_set else self.fit,
                    normalize=given.normalize,
                    output=OutputConfig(
                        store=self.output.store,
                        manifest=self.output.manifest,
                        dtype=given.dtype,
                        chunks=given.chunks,
                        shards=given.shards,
                        compressors=self.output.compressors,
                        overwrite=self.output.overwrite,
                    ),
                    cluster=self.cluster,
                    block_bytes=self.block_bytes,
                )
        return found


def load_run_config(path: str, overrides: Sequence[str]) -> Config | ArraysConfig:
    """The configuration in a YAML file, of one array or, where it has the key `arrays`, of several; see `load_config`.

    Raises
    ------
    ConfigError
    """
    document = override(read_document(path), overrides)
    if isinstance(document, Mapping) and document.get("arrays") is not None:
        _refuse_keys_of_one(document)
        return parse_config(document, ArraysConfig)
    return parse_config(document, Config)


@contextmanager
def of_array(name: str) -> Iterator[None]:
    """Adds to an error which array it was met in; a path in an array's own configuration becomes that in the one of several."""
    try:
        yield
    except OutputExistsError:
        raise  # the output is that of all arrays
    except PipelineError as error:
        error.where = _where(name, error.where)
        for key in OF_ONE_ARRAY:
            field = key.partition(".")[2]
            if error.remedy is not None and field:
                error.remedy = error.remedy.replace(key, f"arrays.{name}.{field}")
        raise


def _where(name: str, where: str | None) -> str:
    section, _, rest = (where or "").partition(".")
    if section in ("normalize", "fit"):
        return f"arrays.{name}.{where}"
    if where in OF_ONE_ARRAY:
        return f"arrays.{name}.{rest}"
    if where is None:
        return f"array {name}"
    return where if where.startswith("output.") or f":{name}" in where else f"array {name}, {where}"


def _refuse_keys_of_one(document: Mapping[str, Any]) -> None:
    """Raise ConfigError for what would be said of one array where there are several."""
    for key, remedy in OF_ONE_ARRAY.items():
        section, _, field = key.partition(".")
        holder = document.get(section)
        given = holder if not field else holder.get(field) if isinstance(holder, Mapping) else None
        if given is not None:
            raise ConfigError(
                "does not go with arrays", where=key, found=given, expected="nothing where there are arrays", remedy=remedy
            )
