"""`pipeline.fit`: the fit for those who have arrays at hand, its arguments checked as a configuration is.

Not here: configurations and stores that are written (`run.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypedDict, Unpack, overload

from pipeline.block import DEFAULT_BLOCK_BYTES
from pipeline.cluster import active_client, connect, executor_on
from pipeline.config import LocalClusterConfig
from pipeline.errors import ConfigError
from pipeline.executor import Executor, SerialExecutor
from pipeline.inference import Manifest, ManifestCollection
from pipeline.inference.collection import naming
from pipeline.job import Job, arrays_of, as_source, check_arguments, holds_arrays, make_job
from pipeline.manifest import Unseen
from pipeline.passes import pass_blocks
from pipeline.plan import plan_passes
from pipeline.progress import SilentReporter
from pipeline.run import fit_job
from pipeline.source.lazy import LazySource


class FitOptions(TypedDict, total=False):
    """The options of `fit`, for its two signatures: steps of one array, and steps of several."""

    dims: Sequence[str] | None
    sample_dim: str | None
    where: Mapping[str, Any] | None
    samples: slice | None
    fraction: float | None
    seed: int
    by: str | None
    unseen: Unseen
    weights: str | None
    nan: str
    dtype: Any
    describe: bool
    missing_chunks: Literal["error", "fill"]
    block_bytes: int | str
    client: Any


@overload
def fit(
    data: Any, array: str | None = None, *, normalize: Sequence[Mapping[str, Any] | str], **options: Unpack[FitOptions]
) -> Manifest: ...


@overload
def fit(
    data: Any, *, normalize: Mapping[str, Sequence[Mapping[str, Any] | str]], **options: Unpack[FitOptions]
) -> ManifestCollection: ...


def fit(
    data: Any,
    array: str | None = None,
    *,
    normalize: Sequence[Mapping[str, Any] | str] | Mapping[str, Sequence[Mapping[str, Any] | str]],
    dims: Sequence[str] | None = None,
    sample_dim: str | None = None,
    where: Mapping[str, Any] | None = None,
    samples: slice | None = None,
    fraction: float | None = None,
    seed: int = 0,
    by: str | None = None,
    unseen: Unseen = "error",
    weights: str | None = None,
    nan: str = "skip",
    dtype: Any = None,
    describe: bool = False,
    missing_chunks: Literal["error", "fill"] = "error",
    block_bytes: int | str = DEFAULT_BLOCK_BYTES,
    client: Any = None,
) -> Manifest | ManifestCollection:
    """Fit a chain of normalizations in as few reads of the data as it allows.

    Parameters
    ----------
    data : path, URL, Zarr store, zarr.Array, xarray.DataArray, dask.array.Array or array_like
        Where `normalize` names several arrays also an xarray.Dataset or a mapping of arrays. Memory is foreseen for stores
        and arrays; what Dask holds while it makes a Dask array's chunks comes on top, as in any other use of it.
    array : str, optional
        Path of the array within a store; not needed where there is only one.
    normalize : sequence of mappings, or mapping of str to such a sequence
        The steps, as in a configuration: ``[{"zscore": {"per": ["channel"]}}]``. For several arrays of an xarray.Dataset, a
        mapping of arrays or a store, the steps of each by its name; what is not named is left alone.
    dims : sequence of str, optional
        Names of the dims, where the data does not name them.
    sample_dim : str, optional
        The dim along which there are more and more observations; the first by default.
    where : mapping, optional
        Fit on the samples with these labels only: ``{"split": "train"}``. A boolean coordinate takes True or False, dates take
        dates or ISO text.
    samples : slice, optional
        Fit on these positions along the sample dim only; neither end negative.
    fraction : float, optional
        Fit on about this part of the samples, above 0 and at most 1: which ones is a function of a sample's position and of
        `seed` alone. All three conditions hold at once.
    seed : int
        From 0 to 2**64 - 1.
    by : str, optional
        Name of a coordinate along the sample dim (plate, batch, donor): the samples of each of its values are normalized by
        statistics of their own, gathered in the same reads. The manifest's `transform` then needs the labels of its samples.
    unseen : {'error', 'global', 'nan'}
        What becomes of a sample whose label was not fitted: it is refused, normalized by the statistics of all samples
        together, or becomes NaN.
    weights : str, optional
        Name of a coordinate along the sample dim: how much each sample weighs in moments and quantiles. Finite numbers, 0 or
        more, of 1024 different values at most; 0 leaves a sample out, and a whole number counts the sample that often.
    nan : {'skip', 'error', 'propagate'}
    dtype : dtype-like, optional
        Of what the manifest's `transform` returns. By default a float keeps its own (float16 becomes float32), integers of
        16 bits or fewer give float32 and wider ones float64. For several arrays one for all, or a mapping from their names.
    describe : bool
        Gather statistics even where no step needs them.
    missing_chunks : {'error', 'fill'}
    block_bytes : int or str
        Decoded bytes of one unit of work.
    client : distributed.Client, optional
        Where to run. By default in this process, on all of its cores where there are several blocks; a Dask array on the
        client that is active, where one is, as all that Dask computes.

    Returns
    -------
    Manifest
        Or a ManifestCollection, where `normalize` is a mapping.

    Raises
    ------
    PipelineError
        One of its kinds, see `pipeline.errors`.

    Examples
    --------
    >>> import numpy as np
    >>> manifest = fit(np.array([[0.0, 5.0], [10.0, 6.0]]), dims=["cell", "gene"], normalize=[{"minmax": {"per": ["gene"]}}])
    >>> manifest.transform(np.array([[5.0, 5.5]]))
    array([[0.5, 0.5]])
    """

    def job_of(data: Any, array: str | None, normalize: Any, dtype: Any) -> Job:
        given = check_arguments(
            client,
            array=array,
            normalize=normalize,
            dims=dims,
            sample_dim=sample_dim,
            where=where,
            nan=nan,
            dtype=dtype,
            describe=describe,
            missing_chunks=missing_chunks,
            block_bytes=block_bytes,
            samples=samples,
            fraction=fraction,
            seed=seed,
            by=by,
            unseen=unseen,
            weights=weights,
        )
        source = as_source(data, given.array, given.dims, given.sample_dim, given.missing_chunks)
        positions = given.samples.as_slice if given.samples else None
        scope: dict[str, Any] = {"samples": positions, "fraction": given.fraction, "seed": given.seed}
        groups: dict[str, Any] = {"by": given.by, "unseen": given.unseen, "weights": given.weights}
        return make_job(source, given.normalize, given.where, given.nan, given.dtype, int(given.block_bytes), **scope, **groups)

    if not isinstance(normalize, Mapping) or not holds_arrays(data):
        return _fit_here(job_of(data, array, normalize, dtype), describe, client)
    unknown = set(dtype) - set(normalize) if isinstance(dtype, Mapping) else set()
    if unknown:
        raise ConfigError("no such array", where="dtype", found=", ".join(sorted(unknown)), expected=", ".join(normalize))
    jobs: dict[str, Job] = {}
    for name, (values, path) in arrays_of(data, array, normalize).items():
        with naming(name):
            jobs[name] = job_of(values, path, normalize[name], dtype.get(name) if isinstance(dtype, Mapping) else dtype)
    found: dict[str, Manifest] = {}
    for name, job in jobs.items():
        with naming(name):
            found[name] = _fit_here(job, describe, client)
    return ManifestCollection(found)


def _fit_here(job: Job, describe: bool, client: Any) -> Manifest:
    job.source.check()
    passes = plan_passes(job.steps, job.source, describe)
    if client is None and isinstance(job.source, LazySource):
        client = active_client()
    with _executor(client, small=all(len(pass_blocks(job, each)) <= 1 for each in passes)) as executor:
        return fit_job(job, passes, executor, SilentReporter())


@contextmanager
def _executor(client: Any, small: bool) -> Iterator[Executor]:
    if client is not None:
        yield executor_on(client)
    elif small:
        yield SerialExecutor()
    else:
        with connect(LocalClusterConfig()) as executor:
            yield executor
