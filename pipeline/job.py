"""What is to be fitted, on what: the source opened, the steps bound to it, the samples selected.

Not here: any read of the data, and who asks (`run.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.block import DEFAULT_BLOCK_BYTES
from pipeline.config import Config, FitArguments, SourceConfig, parse_config
from pipeline.errors import ConfigError, ManifestError, SourceError
from pipeline.manifest import as_labels
from pipeline.normalize.cast import default_output_dtype
from pipeline.normalize.chain import FittedChain, bind_chain, parse_chain
from pipeline.normalize.step import FittedStep, Input, Step
from pipeline.source.open import open_source, stored_place
from pipeline.source.select import select_samples
from pipeline.source.source import Source
from pipeline.source.wrap import wrap_array
from pipeline.source.zarr_source import MissingChunks, ZarrSource


@dataclass(frozen=True)
class Job:
    """What is to be fitted, on what.

    Parameters
    ----------
    source : Source
    steps : tuple of Step
        Bound to the source.
    selected : ndarray of bool, optional
        The samples that are fitted on.
    nan_policy : str
        `skip`, `error` or `propagate`.
    output_dtype : numpy.dtype
    block_bytes : int
    where : mapping
        As the user wrote it, for the manifest.
    labels : mapping of str to ndarray
        Along the dims that the steps depend on, as a manifest keeps them.
    """

    source: Source
    steps: tuple[Step, ...]
    selected: NDArray[np.bool_] | None
    nan_policy: str
    output_dtype: np.dtype[Any]
    block_bytes: int
    where: Mapping[str, Any] | None
    labels: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def chain(self, steps: Sequence[FittedStep], output_dtype: Any = np.float64) -> FittedChain:
        """The fitted steps as a function of this job's values."""
        source = self.source
        return FittedChain(tuple(steps), source.dims, source.sample_dim, source.dtype, np.dtype(output_dtype))

    @property
    def sizes(self) -> dict[str, int]:
        return dict(zip(self.source.dims, self.source.shape, strict=True))

    @property
    def samples(self) -> int:
        """How many samples are fitted on."""
        return self.sizes[self.source.sample_dim] if self.selected is None else int(self.selected.sum())


def make_job(
    source: Source,
    normalize: Sequence[Mapping[str, Any] | str],
    where: Mapping[str, Any] | None = None,
    nan_policy: str = "skip",
    dtype: Any = None,
    block_bytes: int = DEFAULT_BLOCK_BYTES,
) -> Job:
    """The job of fitting the chain `normalize` on `source`; see `pipeline.fit` for the parameters.

    Raises
    ------
    ConfigError
        Where a step is unknown or does not fit the source.
    SourceError
        Where `where` selects nothing, or labels that the manifest would keep are of no one kind.
    """
    steps = bind_chain(parse_chain(normalize), Input(source.dims, source.sample_dim, source.dtype))
    return Job(
        source=source,
        steps=steps,
        selected=select_samples(source, where),
        nan_policy=nan_policy,
        output_dtype=np.dtype(dtype) if dtype is not None else default_output_dtype(source.dtype),
        block_bytes=block_bytes,
        where=where,
        labels=_kept_labels(source, steps),
    )


def config_job(config: Config, source: Source) -> Job:
    """The job that `config` describes, on its source."""
    return make_job(source, config.normalize, config.fit.where, config.fit.nan, config.output.dtype, int(config.block_bytes))


def open_config_source(config: SourceConfig, dims: tuple[str, ...] | None) -> ZarrSource:
    """The source that `config` names, its dims `dims` where the store names none."""
    return open_source(config.store, config.array, dims, config.sample_dim, config.missing_chunks)


def check_arguments(client: Any = None, **arguments: Any) -> FitArguments:
    """The arguments of `pipeline.fit`, checked by the rules of a configuration before anything is opened.

    Raises
    ------
    ConfigError
        With the argument's name, what was found and what was expected.
    """
    _check_client(client)
    where, block_bytes = arguments.get("where"), arguments.get("block_bytes")
    plain = {
        **arguments,
        "dtype": _dtype_name(arguments.get("dtype")),
        "where": dict(where) if isinstance(where, Mapping) else where,
        "block_bytes": block_bytes.item() if isinstance(block_bytes, np.integer) else block_bytes,
    }
    return parse_config(plain, FitArguments)


def as_source(
    data: Any,
    array: str | None = None,
    dims: Sequence[str] | None = None,
    sample_dim: str | None = None,
    missing_chunks: MissingChunks = "error",
) -> Source:
    """A source over whatever `pipeline.fit` takes: a store, or an array of Zarr, NumPy, xarray or Dask.

    Raises
    ------
    SourceError, ConfigError
        Where it is something else, or an array within an array is asked for.
    """
    store, path = stored_place(data)
    if store is not None and path is None:
        return open_source(store, array, dims, sample_dim, missing_chunks)
    source: Source = (
        wrap_array(data, dims, sample_dim) if store is None else open_source(store, path, dims, sample_dim, missing_chunks)
    )
    if array is not None:
        raise ConfigError(
            "an array has no arrays in it",
            where="array",
            found=repr(array),
            expected="no array, where the data is not a store",
            remedy="leave it out, or give the store",
        )
    return source


def _kept_labels(source: Source, steps: Sequence[Step]) -> dict[str, NDArray[Any]]:
    """The labels that a manifest of `steps` keeps, in the form in which it does."""
    dims = {dim for step in steps for dim in (*(step.fitted_per or ()), *step.whole_dims)}
    found = {dim: source.labels(dim) for dim in source.dims if dim in dims}
    try:
        return {dim: as_labels(labels, dim) for dim, labels in found.items() if labels is not None}
    except ManifestError as error:
        raise SourceError(
            error.what, where=error.where, found=error.found, expected=error.expected, remedy=error.remedy
        ) from None


def _check_client(client: Any) -> None:
    distributed = sys.modules.get("distributed")
    if client is None or (distributed is not None and isinstance(client, distributed.Client)):
        return
    raise ConfigError(
        "not a Dask client",
        where="client",
        found=repr(client),
        expected="a distributed.Client, or None to run in this process",
        remedy=f"distributed.Client({client!r})" if isinstance(client, str) else None,
    )


def _dtype_name(dtype: Any) -> Any:
    """The name of the type that `dtype` means to NumPy; what means none as it is, to be refused."""
    if dtype is None:
        return None
    try:
        return np.dtype(dtype).name
    except (TypeError, ValueError, SyntaxError):
        return dtype
