"""How an output array is stored: chunks, shards and compressors, from what a user wrote and what the input has.

Not here: its metadata documents (`documents.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeAlias

import numpy as np

from pipeline.errors import ConfigError
from pipeline.sink.extent import Extent
from pipeline.source.chunks import chunk_key_encoding
from pipeline.source.zarr_source import ZarrSource

Codec: TypeAlias = Mapping[str, Any]
Compressors: TypeAlias = str | Sequence[Codec]

LZ4: Codec = {"name": "blosc", "configuration": {"cname": "lz4", "clevel": 5, "shuffle": "bitshuffle"}}
COMPRESSORS: Mapping[str, tuple[Codec, ...]] = {
    "lz4": (LZ4,),
    "zstd": ({"name": "zstd", "configuration": {"level": 3}},),
    "gzip": ({"name": "gzip", "configuration": {"level": 5}},),
    "none": (),
}
CODEC_NAMES = ("blosc", "zstd", "gzip")
BLOSC_SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")
BLOSC_BYTES_AT_MOST = 2**31 - 17


@dataclass(frozen=True)
class Layout:
    """How an array is stored.

    Parameters
    ----------
    chunks : tuple of int
    shards : tuple of int, optional
    compressors : tuple of mappings
        Each with `name` and `configuration`, as Zarr format 3 has them.
    """

    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    compressors: tuple[Codec, ...]

    @property
    def unit(self) -> tuple[int, ...]:
        """The shape of what is stored as one object."""
        return self.shards or self.chunks


def resolve_layout(
    template: ZarrSource,
    dtype: np.dtype[Any],
    chunks: Sequence[int] | None = None,
    shards: Sequence[int] | None = None,
    compressors: Compressors | None = None,
    extent: Extent | None = None,
) -> Layout:
    """The layout of an output that has the format of `template`.

    Parameters
    ----------
    template : ZarrSource
        The input.
    dtype : numpy.dtype
        Of the output.
    chunks : sequence of int, optional
        Those of the input by default.
    shards : sequence of int, optional
        Whole multiples of the chunks; format 3 only. Those of the input by default, and none where `chunks` is given.
    compressors : str or sequence of mappings, optional
        ``lz4`` (the default: Blosc with LZ4 level 5 and bitshuffle, chosen for speed), ``zstd`` (level 3), ``gzip``
        (level 5) or ``none``; or ``[{name: blosc | zstd | gzip, configuration: {…}}]``.
    extent : Extent, optional
        The dims of the output; those of `template` by default.

    Raises
    ------
    ConfigError
        Where they do not fit the array, its format or each other.
    """
    array, extent = template.zarr_array, extent or Extent.of(template)
    own_shards = None if array.shards is None or chunks is not None else extent.along(template, array.shards)
    chosen_shards = own_shards if shards is None else shards
    layout = Layout(
        tuple(max(1, size) for size in (extent.along(template, array.chunks) if chunks is None else chunks)),
        None if chosen_shards is None else tuple(chosen_shards),
        resolve_compressors(compressors, array.metadata.zarr_format),
    )
    for name, sizes in (("chunks", chunks), ("shards", shards)):
        _check_sizes(f"output.{name}", sizes, len(extent.sizes))
    _check_shards(layout, array.metadata.zarr_format)
    _check_blosc(layout, dtype)
    return layout


def resolve_compressors(compressors: Compressors | None, zarr_format: int) -> tuple[Codec, ...]:
    """`compressors` as mappings with `name` and `configuration`; raises ConfigError where they are something else."""
    if compressors is None:
        return COMPRESSORS["lz4"]
    if isinstance(compressors, str):
        if compressors not in COMPRESSORS:
            raise _unknown(compressors, COMPRESSORS)
        return COMPRESSORS[compressors]
    codecs = tuple(_codec(each) for each in compressors)
    if zarr_format == 2 and len(codecs) > 1:
        raise ConfigError(
            "Zarr format 2 has one compressor", where="output.compressors", found=f"{len(codecs)}", expected="at most one"
        )
    return codecs


def creation_options(template: ZarrSource, layout: Layout) -> dict[str, Any]:
    """`layout` as `zarr.create_array` takes it for the format of `template`."""
    zarr_format = template.zarr_array.metadata.zarr_format
    codecs = [dict(codec) for codec in layout.compressors]
    return {
        "chunks": layout.chunks,
        "shards": layout.shards,
        "compressors": codecs if zarr_format == 3 else [_format_2(codec) for codec in codecs] or None,
        "zarr_format": zarr_format,
        "chunk_key_encoding": chunk_key_encoding(template.zarr_array),
    }


def _codec(given: Codec | str) -> Codec:
    """`given` with the keys `name` and `configuration`; format 2 writes `id` and the options beside it."""
    if isinstance(given, str):
        given = {"name": given}
    rest = {key: value for key, value in given.items() if key not in ("name", "id", "configuration")}
    name = given.get("name", given.get("id"))
    if name not in CODEC_NAMES:
        raise _unknown(str(name), CODEC_NAMES)
    if rest and "configuration" in given:
        raise ConfigError("unknown key", where="output.compressors", found=", ".join(rest), expected="name, configuration")
    return {"name": name, "configuration": {**rest, **(given.get("configuration") or {})}}


def _format_2(codec: Codec) -> dict[str, Any]:
    """`codec` as format 2 spells it: the name among the options, and Blosc's shuffle as a number."""
    options = {"id": codec["name"], **codec["configuration"]}
    options.pop("typesize", None)
    if options.get("shuffle") in BLOSC_SHUFFLES:
        options["shuffle"] = BLOSC_SHUFFLES.index(options["shuffle"])
    return options


def _unknown(name: str, known: Mapping[str, Any] | Sequence[str]) -> ConfigError:
    close = get_close_matches(name, list(known), 1)
    return ConfigError(
        "unknown compressor",
        where="output.compressors",
        found=name,
        expected=", ".join(known),
        remedy=f"use {close[0]!r}" if close else None,
    )


def _check_sizes(where: str, sizes: Sequence[int] | None, ndim: int) -> None:
    if sizes is not None and (len(sizes) != ndim or any(size < 1 for size in sizes)):
        raise ConfigError(
            "sizes that do not fit the array", where=where, found=list(sizes), expected=f"{ndim} sizes, each 1 or more"
        )


def _check_shards(layout: Layout, zarr_format: int) -> None:
    if layout.shards is None:
        return
    if zarr_format == 2:
        raise ConfigError(
            "Zarr format 2 has no shards, and the output keeps the input's format",
            where="output.shards",
            found=list(layout.shards),
            remedy="leave output.shards out",
        )
    if any(shard % chunk for shard, chunk in zip(layout.shards, layout.chunks, strict=True)):
        raise ConfigError(
            "shards that do not hold whole chunks",
            where="output.shards",
            found=list(layout.shards),
            expected=f"a multiple of the chunks {list(layout.chunks)} along every dim",
        )


def _check_blosc(layout: Layout, dtype: np.dtype[Any]) -> None:
    chunk_bytes = math.prod(layout.chunks) * dtype.itemsize
    if chunk_bytes > BLOSC_BYTES_AT_MOST and any(codec["name"] == "blosc" for codec in layout.compressors):
        raise ConfigError(
            "chunks larger than Blosc can compress",
            where="output.chunks",
            found=f"{list(layout.chunks)} of {dtype} are {chunk_bytes} bytes",
            expected=f"at most {BLOSC_BYTES_AT_MOST} bytes",
            remedy="set smaller output.chunks, or output.compressors: zstd",
        )
