"""Several arrays of one output: one claim, one commit, so that either all of them open or none does.

Not here: how one of them is written (`zarr_sink.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from pipeline.errors import ConfigError
from pipeline.sink.around import Cut, arrays_to_cut
from pipeline.sink.documents import array_documents
from pipeline.sink.extent import Extent
from pipeline.sink.layout import Compressors, resolve_layout
from pipeline.sink.zarr_sink import ZarrSink, begin_output
from pipeline.source.store import StoreLike
from pipeline.source.zarr_source import ZarrSource


@dataclass(frozen=True)
class Part:
    """One array of an output that is to be begun.

    Parameters
    ----------
    template : ZarrSource
        The input.
    dtype : numpy.dtype
        Of the normalized values.
    extent : Extent
        The dims of the output.
    chunks, shards : sequence of int, optional
        See `resolve_layout`.
    """

    template: ZarrSource
    dtype: np.dtype[np.generic]
    extent: Extent
    chunks: Sequence[int] | None = None
    shards: Sequence[int] | None = None


@dataclass(frozen=True)
class ZarrSinks:
    """The arrays of one output that is being written; as a context abandoned at the end, which changes nothing after a commit.

    Parameters
    ----------
    sinks : mapping of str to ZarrSink
        By the arrays' names.
    """

    sinks: Mapping[str, ZarrSink]

    def __getitem__(self, name: str) -> ZarrSink:
        return self.sinks[name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._first.abandon()

    def commit(self) -> None:
        """Make the output one that opens, once every chunk of every array is there.

        Raises
        ------
        WriteError
            As `ZarrSink.commit`; the output then does not open.
        """
        for sink in self.sinks.values():
            sink.check_written()
        self._first.commit()

    @property
    def _first(self) -> ZarrSink:
        return next(iter(self.sinks.values()))


def create_outputs(
    parts: Mapping[str, Part], store: StoreLike, compressors: Compressors | None = None, overwrite: bool = False
) -> ZarrSinks:
    """Begin an output that is a store with several of its arrays normalized, and copy everything around them.

    Parameters
    ----------
    parts : mapping of str to Part
        All of one store; at least one.
    store, compressors, overwrite
        As for `create_output`.

    Raises
    ------
    ConfigError, OutputExistsError, WriteError
        As `create_output`.
    """
    cuts, documents = arrays_cut(parts), {}
    for part in parts.values():
        layout = resolve_layout(part.template, part.dtype, part.chunks, part.shards, compressors, part.extent)
        documents[part.template.array] = array_documents(part.template, part.dtype, layout, part.extent)
    first = begin_output(next(iter(parts.values())).template, store, documents, cuts, overwrite)
    return ZarrSinks({name: first.beside(part.template.array) for name, part in parts.items()})


def arrays_cut(parts: Mapping[str, Part]) -> dict[str, Cut]:
    """The arrays around all of `parts` that lie along a dim of which one of them keeps a part, by path.

    Raises
    ------
    ConfigError
        Where two of the parts would have to keep the same of such a dim and do not, or both have a dim that the input has not,
        of different sizes.
    """
    _check_new_dims(parts)
    own = {part.template.array: part for part in parts.values()}
    found: dict[str, Cut] = {}
    for name, part in parts.items():
        for path, cut in arrays_to_cut(part.template, part.extent.kept).items():
            fits = _agree(own[path].extent, part.extent) if path in own else path not in found or _same(found[path], cut)
            if not fits:
                raise ConfigError(
                    "two arrays that share a dim keep different parts of it",
                    where=f"arrays.{name}.normalize",
                    found=path,
                    expected=f"the same {', '.join(part.extent.kept)} in both",
                    remedy="select the same names in both, or normalize them in two runs",
                )
            if path not in own:
                found[path] = cut
    return found


def _check_new_dims(parts: Mapping[str, Part]) -> None:
    sizes: dict[str, int] = {}
    for name, part in parts.items():
        for dim, size in part.extent.sizes.items():
            if dim not in part.template.dims and sizes.setdefault(dim, size) != size:
                raise ConfigError(
                    "two arrays with another number of components along one dim",
                    where=f"arrays.{name}.normalize",
                    found=f"{size} along {dim}",
                    expected=f"{sizes[dim]}, or a dim of its own",
                    remedy="name the dim otherwise in one of them: whiten's component_dim",
                )


def _agree(one: Extent, other: Extent) -> bool:
    """Whether `one` has, along the dims of which `other` keeps a part, the same part, or nothing at all."""
    shared = {dim: positions for dim, positions in other.kept.items() if dim in one.sizes}
    return all(np.array_equal(one.kept.get(dim, np.arange(one.sizes[dim])), positions) for dim, positions in shared.items())


def _same(one: Cut, other: Cut) -> bool:
    return all(
        (mine is None) == (yours is None) and (mine is None or yours is None or np.array_equal(mine, yours))
        for mine, yours in zip(one.kept, other.kept, strict=True)
    )
