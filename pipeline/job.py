"""What is to be fitted, on what: the source opened, the steps bound to it, the samples selected.

Not here: any read of the data, and who asks (`run.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.block import DEFAULT_BLOCK_BYTES
from pipeline.config import Config, SourceConfig
from pipeline.normalize.cast import default_output_dtype
from pipeline.normalize.chain import FittedChain, bind_chain, parse_chain
from pipeline.normalize.step import FittedStep, Input, Step
from pipeline.source.open import open_source
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
    """

    source: Source
    steps: tuple[Step, ...]
    selected: NDArray[np.bool_] | None
    nan_policy: str
    output_dtype: np.dtype[Any]
    block_bytes: int
    where: Mapping[str, Any] | None

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
        Where `where` selects nothing.
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
    )


def config_job(config: Config, source: Source) -> Job:
    """The job that `config` describes, on its source."""
    return make_job(source, config.normalize, config.fit.where, config.fit.nan, config.output.dtype, int(config.block_bytes))


def open_config_source(config: SourceConfig, dims: tuple[str, ...] | None) -> ZarrSource:
    """The source that `config` names, its dims `dims` where the store names none."""
    return open_source(config.store, config.array, dims, config.sample_dim, config.missing_chunks)


def as_source(
    data: Any,
    array: str | None = None,
    dims: Sequence[str] | None = None,
    sample_dim: str | None = None,
    missing_chunks: MissingChunks = "error",
) -> Source:
    """A source over whatever `pipeline.fit` takes: an array of NumPy, xarray or Dask, or a store."""
    if hasattr(data, "ndim") and hasattr(data, "dtype"):
        return wrap_array(data, dims, sample_dim)
    return open_source(data, array, dims, sample_dim, missing_chunks)


def labels_of(source: Source) -> dict[str, NDArray[Any]]:
    """The labels along every dim but the sample dim that has some."""
    found = {dim: source.labels(dim) for dim in source.dims if dim != source.sample_dim}
    return {dim: labels for dim, labels in found.items() if labels is not None}
