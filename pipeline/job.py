"""What is to be fitted, on what: the source opened, the steps bound to it, the samples selected.

Not here: any read of the data, and who asks (`run.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.block import DEFAULT_BLOCK_BYTES
from pipeline.config import Config, FitArguments, SourceConfig, parse_config
from pipeline.errors import ConfigError, ManifestError, SourceError
from pipeline.gather import EVERYTHING, NOT_COUNTED
from pipeline.manifest import Grouping, Groups, Unseen, as_labels
from pipeline.normalize.cast import default_output_dtype
from pipeline.normalize.chain import FittedChain, bind_chain, parse_chain
from pipeline.normalize.grouped import UNSEEN, Codes
from pipeline.normalize.step import FittedStep, Input, Step
from pipeline.source.kinds import is_dataset
from pipeline.source.open import open_source, stored_place
from pipeline.source.reader import MissingChunks
from pipeline.source.select import Scope, select_samples
from pipeline.source.source import Source
from pipeline.source.weights import sample_weights
from pipeline.source.wrap import wrap_array
from pipeline.source.zarr_source import ZarrSource


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
    scope : Scope
        How these samples were asked for.
    grouping : Grouping, optional
        What separate statistics are kept by, and the labels among the selected samples.
    codes : ndarray of int32, shape (samples,), optional
        Which of those labels each sample has, selected or not; `UNSEEN` where none.
    labels : mapping of str to ndarray
        Along the dims that the steps depend on, as a manifest keeps them.
    weights : (str, ndarray of float64 of shape (samples,)), optional
        The name of the samples' weights, and how much each of them weighs; those that weigh nothing are not fitted on.
    """

    source: Source
    steps: tuple[Step, ...]
    selected: NDArray[np.bool_] | None
    nan_policy: str
    output_dtype: np.dtype[Any]
    block_bytes: int
    scope: Scope
    labels: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    grouping: Grouping | None = None
    codes: Codes | None = None
    weights: tuple[str, NDArray[np.float64]] | None = None

    def chain(self, steps: Sequence[FittedStep], output_dtype: Any = np.float64) -> FittedChain:
        """The fitted steps as a function of this job's values."""
        source = self.source
        return FittedChain(tuple(steps), source.dims, source.sample_dim, source.dtype, np.dtype(output_dtype))

    def groups(self, fitted: Mapping[int, Sequence[FittedStep]]) -> Groups | None:
        """The chains of the groups from the steps fitted to each, by its code; None where there are no groups."""
        if self.grouping is None:
            return None
        chains = tuple(self.chain(steps, self.output_dtype) for code, steps in sorted(fitted.items()) if code != EVERYTHING)
        return Groups(self.grouping.by, self.grouping.labels, self.grouping.unseen, chains)

    @property
    def group_count(self) -> int:
        """How many groups have statistics of their own; 1 where all samples are together."""
        return 1 if self.grouping is None else len(self.grouping.labels)

    @property
    def chain_count(self) -> int:
        """How many chains are fitted: one of all samples together, and one of each group."""
        return 1 if self.grouping is None else 1 + len(self.grouping.labels)

    @property
    def weight_count(self) -> int:
        """How many different weights have summaries of their own; 1 where samples have none."""
        return 1 if self.weights is None else len(np.unique(self.weights[1][self.weights[1] > 0]))

    @property
    def fitted_codes(self) -> Codes | None:
        """The group of each sample, `NOT_COUNTED` where it is not fitted on; None where all are, in one group."""
        if self.selected is None:
            return self.codes
        codes = np.zeros(self.selected.shape, np.int32) if self.codes is None else self.codes
        return np.where(self.selected, codes, np.int32(NOT_COUNTED))

    @property
    def selected_codes(self) -> Codes | None:
        """As `fitted_codes`, all samples that are fitted on in one group."""
        return None if self.selected is None else np.where(self.selected, np.int32(0), np.int32(NOT_COUNTED))

    def require_seen(self) -> None:
        """Raise InputMismatchError where some sample has a label that no selected one has, and that is not allowed."""
        if self.grouping is not None and self.codes is not None and (self.codes == UNSEEN).any():
            self.grouping.codes(self.source.coordinate(self.grouping.by)[1])

    @property
    def sizes(self) -> dict[str, int]:
        return dict(zip(self.source.dims, self.source.shape, strict=True))

    @property
    def samples(self) -> int:
        """How many samples are fitted on."""
        return self.sizes[self.source.sample_dim] if self.selected is None else int(self.selected.sum())

    @property
    def fitted_on(self) -> dict[str, Any]:
        """How the samples were asked for, and how many they are: JSON types, for the manifest."""
        weights = {} if self.weights is None else {"weights": self.weights[0]}
        return {**self.scope.to_json(), **weights, "samples": self.samples}


def make_job(
    source: Source,
    normalize: Sequence[Mapping[str, Any] | str],
    where: Mapping[str, Any] | None = None,
    nan_policy: str = "skip",
    dtype: Any = None,
    block_bytes: int = DEFAULT_BLOCK_BYTES,
    *,
    samples: slice | None = None,
    fraction: float | None = None,
    seed: int = 0,
    by: str | None = None,
    unseen: Unseen = "error",
    weights: str | None = None,
) -> Job:
    """The job of fitting the chain `normalize` on `source`; see `pipeline.fit` for the parameters.

    Raises
    ------
    ConfigError
        Where a step is unknown or does not fit the source, or where groups or weights make no sense.
    DataError
        Where weights are negative or not finite, or all 0.
    SourceError
        Where no sample is selected, `by` is no label of the samples, or labels that the manifest would keep are of no one kind.
    """
    scope = Scope(where, samples, fraction, seed)
    sizes = dict(zip(source.dims, source.shape, strict=True))
    given = Input(source.dims, source.sample_dim, source.dtype, sizes, source.labels)
    steps = bind_chain(parse_chain(normalize), given)
    selected = select_samples(source, scope)
    weighed = None
    if weights is not None:
        _check_weighable(steps)
        weighed = sample_weights(source, weights, selected)
        selected = weighed > 0
    output_dtype = np.dtype(dtype) if dtype is not None else default_output_dtype(source.dtype)
    _check_groups(steps, output_dtype, by, unseen)
    grouping, codes = _grouped(source, selected, by, unseen) if by is not None else (None, None)
    return Job(
        source=source,
        steps=steps,
        selected=selected,
        nan_policy=nan_policy,
        output_dtype=output_dtype,
        block_bytes=block_bytes,
        scope=scope,
        labels=_kept_labels(source, steps),
        grouping=grouping,
        codes=codes,
        weights=None if weights is None or weighed is None else (weights, weighed),
    )


def _check_groups(steps: Sequence[Step], output_dtype: np.dtype[Any], by: str | None, unseen: str) -> None:
    """Raise ConfigError where groups, or what becomes of an unseen label, make no sense for this chain."""
    policies = get_args(Unseen)
    if unseen not in policies:
        raise ConfigError("wrong value", where="fit.unseen", found=repr(unseen), expected=", ".join(policies))
    if by is None and unseen != "error":
        raise ConfigError(
            "no label can be unseen without groups", where="fit.unseen", found=unseen, remedy="set fit.by as well"
        )
    if by is not None and all(step.fitted_per is None for step in steps):
        names = ", ".join(step.name for step in steps)
        raise ConfigError("nothing is fitted, so no group can differ", where="fit.by", found=names, remedy="leave out fit.by")
    if unseen == "nan" and output_dtype.kind != "f":
        raise ConfigError(
            "integers have no NaN for an unseen label",
            where="fit.unseen",
            found=f"output dtype {output_dtype}",
            expected="a floating output dtype",
        )


def _check_weighable(steps: Sequence[Step]) -> None:
    """Raise ConfigError where a step is fitted to what is not weighted."""
    unweighted = [step.name for step in steps if step.fitted_per is not None and "covariance" in step.requires]
    unweighted += [f"{step.name} by mean_absolute_deviation" for step in steps if step.needs_deviation]
    if unweighted:
        raise ConfigError(
            "covariances and mean absolute deviations are not weighted",
            where="fit.weights",
            found=", ".join(unweighted),
            expected="steps that are fitted to moments or quantiles",
            remedy="leave out fit.weights, or do that in a run of its own",
        )


def _grouped(source: Source, selected: NDArray[np.bool_] | None, by: str, unseen: Unseen) -> tuple[Grouping, Codes]:
    """The distinct labels of the selected samples, and which of them each sample has."""
    dim, labels = source.coordinate(by)
    if dim != source.sample_dim:
        raise SourceError(
            "this coordinate does not label samples", where=f"fit.by {by}", found=f"dim {dim}", expected=source.sample_dim
        )
    try:
        grouping = Grouping.of(labels if selected is None else labels[selected], by, unseen)
    except ManifestError as error:
        raise SourceError(
            error.what,
            where=f"fit.by {by}",
            found=error.found,
            expected=error.expected,
            remedy=error.remedy or "leave those samples out by fit.where",
        ) from None
    return grouping, grouping.places(labels)


def config_job(config: Config, source: Source) -> Job:
    """The job that `config` describes, on its source."""
    fit = config.fit
    return make_job(
        source,
        config.normalize,
        fit.where,
        fit.nan,
        config.output.dtype,
        int(config.block_bytes),
        samples=fit.samples.as_slice if fit.samples else None,
        fraction=fit.fraction,
        seed=fit.seed,
        by=fit.by,
        unseen=fit.unseen,
        weights=fit.weights,
    )


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
    _refuse_none(arguments)
    where = arguments.get("where")
    plain = {
        **{name: given.item() if isinstance(given, np.generic) else given for name, given in arguments.items()},
        "dtype": _dtype_name(arguments.get("dtype")),
        "where": dict(where) if isinstance(where, Mapping) else where,
        "samples": _slice_ends(arguments.get("samples")),
    }
    return parse_config(plain, FitArguments)


def _refuse_none(arguments: Mapping[str, Any]) -> None:
    """Raise ConfigError for a None that is no value of its argument: not taken for the default, as of a seed it means none."""
    for name, option in FitArguments.model_fields.items():
        if name in arguments and arguments[name] is None and option.default is not None and not option.is_required():
            raise ConfigError(
                "wrong value",
                where=name,
                found="None",
                expected=option.description,
                remedy=f"leave it out for {option.default!r}",
            )


def _slice_ends(samples: Any) -> Any:
    """A slice as the mapping that a configuration has; anything else as it is, to be refused."""
    if not isinstance(samples, slice):
        return samples
    ends = {"start": samples.start, "stop": samples.stop, "step": samples.step}
    return {name: end.item() if isinstance(end, np.generic) else end for name, end in ends.items() if end is not None}


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


def holds_arrays(data: Any) -> bool:
    """Whether `data` may hold several arrays: an xarray.Dataset, a mapping, or a store."""
    store, path = stored_place(data)
    return is_dataset(data) or isinstance(data, Mapping) or (store is not None and path is None)


def arrays_of(data: Any, array: str | None, names: Iterable[Any]) -> dict[str, tuple[Any, str | None]]:
    """What `as_source` takes for each of the arrays `names` of `data`: the array, or the store and the array's path.

    Raises
    ------
    ConfigError, SourceError
        Where names are none, or an array is not there.
    """
    wanted = list(names)
    if array is not None or not wanted or not all(isinstance(name, str) and name for name in wanted):
        raise ConfigError(
            "steps of several arrays name them",
            where="normalize" if array is None else "array",
            found=wanted if array is None else repr(array),
            expected="a mapping from names of arrays to lists of steps, and no array",
        )
    if stored_place(data)[0] is not None:
        return {name: (data, name) for name in wanted}
    held = data.data_vars if is_dataset(data) else data
    missing = [name for name in wanted if name not in held]
    if missing:
        raise SourceError("no such array", where="normalize", found=", ".join(missing), expected=", ".join(map(str, held)))
    return {name: (held[name], None) for name in wanted}


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
