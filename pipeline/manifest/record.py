"""Everything that determines a transformation, and where it came from, as one immutable value that is saved and loaded.

Not here: how it is applied to new data (`pipeline.inference`).
"""

from __future__ import annotations

import json
import math
import operator
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from numpy.typing import NDArray

from pipeline.errors import ConfigError, ManifestError
from pipeline.manifest.codec import check_fields, content_of, load_fields, save_files
from pipeline.manifest.digest import content_digest
from pipeline.manifest.folder import check_writable, folder_path, write_folder
from pipeline.manifest.gathered import FittedStatistics
from pipeline.manifest.groups import Groups
from pipeline.manifest.labels import as_labels
from pipeline.manifest.schema import readable_json
from pipeline.normalize.chain import FittedChain
from pipeline.normalize.step import FittedStep

SMALL_PARAMETER_SIZE = 64


@dataclass(frozen=True, eq=False, repr=False)
class ManifestRecord:
    """A fitted chain with the statistics behind it, the sizes and labels it holds for, and its provenance.

    Parameters
    ----------
    chain : FittedChain
        The steps with their parameters, the dims in the data's order, the sample dim, the input and output dtypes.
    sizes : mapping of str to int
        Size of every dim that parameters, statistics or whole-vector steps depend on, and of no other (`needed_dims`).
    labels : mapping of str to array_like
        Labels along some of those dims: strings, integers or floats. Kept as `as_labels` gives them.
    statistics : tuple of FittedStatistics
        What was gathered, in the order of the steps; empty where nothing was fitted.
    nan_policy : str
        'skip', 'error' or 'propagate'.
    provenance : mapping
        Paths, chunking, versions, times: whatever is worth recording and does not determine the transformation. JSON types.
    groups : Groups, optional
        The chain of each group of samples, where samples are normalized by group; `chain` is then that of all of them together.

    Raises
    ------
    ManifestError
        Where these do not fit together.
    """

    chain: FittedChain
    sizes: Mapping[str, int]
    labels: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    statistics: tuple[FittedStatistics, ...] = ()
    nan_policy: str = "skip"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    groups: Groups | None = None

    def __post_init__(self) -> None:
        order = self.chain.dims
        sizes = {dim: _size(self.sizes[dim], dim) for dim in order if dim in self.sizes}
        labels = {dim: as_labels(self.labels[dim], dim) for dim in order if dim in self.labels}
        self._check_dims(sizes, labels)
        self._check_shapes(sizes, labels)
        if self.groups is not None:
            self.groups.check(self.chain)
        object.__setattr__(self, "sizes", sizes)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "statistics", tuple(self.statistics))
        object.__setattr__(self, "provenance", _as_json(self.provenance))
        check_fields(self)

    def __repr__(self) -> str:
        steps = " → ".join(step.step.name for step in self.chain.steps) or "nothing"
        return f"<{type(self).__name__} of {', '.join(self.chain.dims)}: {steps}; digest {self.digest[:12]}>"

    @classmethod
    def build(
        cls,
        chain: FittedChain,
        sizes: Mapping[str, int],
        labels: Mapping[str, NDArray[Any]],
        statistics: Iterable[FittedStatistics] = (),
        nan_policy: str = "skip",
        provenance: Mapping[str, Any] | None = None,
        groups: Groups | None = None,
    ) -> Self:
        """The record of a fit, given sizes and labels of all dims of the data: what the chain does not need is left out."""
        gathered = tuple(statistics)
        needed = needed_dims(chain, gathered)
        return cls(
            chain=chain,
            sizes={dim: sizes[dim] for dim in needed},
            labels={dim: labels[dim] for dim in needed if dim in labels},
            statistics=gathered,
            nan_policy=nan_policy,
            provenance=provenance or {},
            groups=groups,
        )

    @cached_property
    def digest(self) -> str:
        """Hexadecimal sha256 of what determines the transformation.

        That is the schema version, the steps' names, bound options (those that differ from their defaults, so that an option
        which a later version adds changes no digest) and parameters, the statistics, dims, sample dim, sizes, labels, input and
        output dtype, NaN policy and, where there are groups, what they are by, their labels and parameters, and what becomes of
        unseen labels. The provenance is not part of it.
        """
        return content_digest(content_of(self))

    @property
    def held_bytes(self) -> int:
        """How much memory the parameters take, those of every group."""
        return sum(chain.held_bytes for chain in (self.chain, *(self.groups.chains if self.groups else ())))

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write the folder `path`: `manifest.json` and `arrays.safetensors`, at once and whole.

        Parameters
        ----------
        path : path-like
            A folder that does not exist yet. Missing parents are made.
        overwrite : bool
            Replace an older manifest.

        Raises
        ------
        ConfigError
            Where `path` cannot be one.
        OutputExistsError
            Where something is at `path` already.
        WriteError
            Where the file system refuses.
        """
        write_folder(folder_path(path, ConfigError), save_files(self), overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote.

        Parameters
        ----------
        path : path-like
            The manifest's folder.

        Raises
        ------
        ManifestError
            Where it is missing, cut short, altered in any byte, of another schema version, or holds an unknown step.
        """
        folder = folder_path(path, ManifestError)
        digest, fields = load_fields(folder)
        record = cls(**fields)
        if record.digest != digest:
            raise ManifestError(
                "the manifest does not hold what its digest was taken of",
                where=str(folder),
                found=record.digest,
                expected=digest,
            )
        return record

    def to_json(self) -> dict[str, Any]:
        """What there is to show, as JSON types.

        Returns
        -------
        dict
            `digest`; `chain`: a list of `{name, options, per, parameters}`, where `parameters` is None if one of them has more
            than 64 values; `statistics`: those of the first gathering, keys as `scipy.stats.describe` and the counts, None for
            what is unavailable, and `{}` where nothing was gathered because no step needed it; `unavailable`: the reasons;
            `before_step` and `per` of these statistics (None where there are none); `nan`, `dims`, `sample_dim`, `sizes`,
            `labels` (where a step keeps a part of a dim or makes one also `output_dims`, `output_sizes` and `output_labels`),
            `input_dtype`, `output_dtype`, `groups` (None, or `by`, `unseen` and `labels`), `provenance`.
        """
        first = self.statistics[0] if self.statistics else None
        return {
            "digest": self.digest,
            "chain": [_step_json(step) for step in self.chain.steps],
            "statistics": first.statistics.to_json() if first else {},
            "unavailable": dict(first.statistics.unavailable()) if first else {},
            "before_step": first.before_step if first else None,
            "per": list(first.per) if first else None,
            "nan": self.nan_policy,
            "dims": list(self.chain.dims),
            "sample_dim": self.chain.sample_dim,
            "sizes": dict(self.sizes),
            "labels": {dim: _shown(labels.tolist()) for dim, labels in self.labels.items()},
            **self._output_json(),
            "input_dtype": self.chain.input_dtype.name,
            "output_dtype": self.chain.output_dtype.name,
            "groups": self.groups and _groups_json(self.groups),
            "provenance": dict(self.provenance),
        }

    def _output_json(self) -> dict[str, Any]:
        dims = self.chain.output_dims
        if not self.chain.kept and dims == self.chain.dims:
            return {}
        labels = {dim: _shown(labels.tolist()) for dim, labels in self.output_labels.items()}
        return {"output_dims": list(dims), "output_sizes": self.output_sizes, "output_labels": labels}

    def sizes_before(self, index: int, sizes: Mapping[str, int] | None = None) -> dict[str, int]:
        """The sizes of what reaches step `index`, along dims that are needed or that the steps before it make."""
        left = dict(self.sizes if sizes is None else sizes)
        for step in self.chain.steps[:index]:
            left = step.output_sizes(left)
        return left

    def labels_before(self, index: int) -> dict[str, NDArray[Any]]:
        """The labels of what reaches step `index`; dims that a step makes have none."""
        left = dict(self.labels)
        for step in self.chain.steps[:index]:
            kept = {dim: step.keeps(dim) for dim in step.output_sizes(dict.fromkeys(left, 0)) if dim in left}
            left = {dim: left[dim] if mask is None else left[dim][mask] for dim, mask in kept.items()}
        return left

    @property
    def output_labels(self) -> dict[str, NDArray[Any]]:
        """The labels of the output: those of the input that are left, along the dims that are left."""
        return self.labels_before(len(self.chain.steps))

    @property
    def output_sizes(self) -> dict[str, int]:
        """The sizes of the output along the dims of `sizes` that are left, and along those that a step makes."""
        return self.sizes_before(len(self.chain.steps))

    def _check_dims(self, sizes: Mapping[str, int], labels: Mapping[str, NDArray[Any]]) -> None:
        dims, sample_dim = self.chain.dims, self.chain.sample_dim
        if len(set(dims)) != len(dims) or sample_dim not in dims:
            raise ManifestError(
                "dims must be distinct and hold the sample dim", found=f"dims {dims}, sample dim {sample_dim!r}"
            )
        needed = needed_dims(self.chain, self.statistics)
        if set(self.sizes) != set(needed) or sample_dim in needed:
            raise ManifestError(
                "sizes are kept of the dims that the chain depends on", found=sorted(self.sizes), expected=sorted(needed)
            )
        for dim in self.labels:
            if dim not in sizes or len(labels[dim]) != sizes[dim]:
                found = f"{len(labels[dim])} labels" if dim in labels else "no such dim"
                raise ManifestError(
                    "labels that do not fit the sizes", where=dim, found=found, expected=sizes.get(dim, "no labels")
                )

    def _check_shapes(self, sizes: Mapping[str, int], labels: Mapping[str, NDArray[Any]]) -> None:
        for index, step in enumerate(self.chain.steps):
            for name, values in step.parameters.items():
                dims = step.parameter_dims(name)
                own = {dim: size for dim, size in zip(dims, values.shape, strict=False) if dim not in step.per}
                _check_shape(f"chain.{index}.{name}", values.shape, dims, {**own, **self.sizes_before(index, sizes)})
        for gathered in self.statistics:
            where = f"statistics before step {gathered.before_step}"
            left = self.sizes_before(gathered.before_step, sizes)
            _check_shape(where, gathered.statistics.feature_shape, gathered.per, left)
            if gathered.before_step > len(self.chain.steps):
                raise ManifestError(
                    "statistics of a step that is not there", where=where, expected=f"{len(self.chain.steps)} steps"
                )
            if gathered.statistics.nan_policy != self.nan_policy:
                raise ManifestError(
                    "statistics of another NaN policy",
                    where=where,
                    found=gathered.statistics.nan_policy,
                    expected=self.nan_policy,
                )


def check_destination(path: str | os.PathLike[str], overwrite: bool) -> None:
    """That a manifest could be saved as `path` now: to be asked before the work that ends in `save`. Leaves nothing.

    Raises
    ------
    ConfigError, OutputExistsError, WriteError
        As `ManifestRecord.save`.
    """
    check_writable(folder_path(path, ConfigError), overwrite)


def needed_dims(chain: FittedChain, statistics: Iterable[FittedStatistics] = ()) -> tuple[str, ...]:
    """The dims, in the data's order, whose size new data must share: those of parameters, statistics and whole-vector steps."""
    needed = {dim for step in chain.steps for dim in (*step.per, *step.whole_dims)}
    needed.update(dim for gathered in statistics for dim in gathered.per)
    return tuple(dim for dim in chain.dims if dim in needed)


def _check_shape(where: str, shape: tuple[int, ...], per: tuple[str, ...], sizes: Mapping[str, int]) -> None:
    expected = tuple(sizes.get(dim, -1) for dim in per)
    if tuple(shape) != expected:
        raise ManifestError(
            "an array does not have the shape of its dims", where=where, found=f"{shape}", expected=f"{expected} for {per}"
        )


def _step_json(step: FittedStep) -> dict[str, Any]:
    small = all(values.size <= SMALL_PARAMETER_SIZE for values in step.parameters.values())
    parameters = {name: _finite(values.tolist()) for name, values in step.parameters.items()} if small else None
    return {
        "name": step.step.name,
        "options": step.step.model_dump(mode="json"),
        "per": list(step.per),
        "parameters": parameters,
    }


def _groups_json(groups: Groups) -> dict[str, Any]:
    return {"by": groups.by, "unseen": groups.unseen, "labels": groups.labels.tolist()}


def _size(size: object, dim: str) -> int:
    try:
        return operator.index(size)  # type: ignore[arg-type]
    except TypeError:
        raise ManifestError("a size that is no integer", where=dim, found=repr(size), expected="0 or more") from None


def _shown(labels: list[Any]) -> list[Any]:
    """`labels` as JSON types: what is no finite number is None."""
    return [None if isinstance(label, float) and not math.isfinite(label) else label for label in labels]


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value if abs(value) < float("inf") else None


def _as_json(provenance: Mapping[str, Any]) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = json.loads(readable_json(json.loads(json.dumps(dict(provenance), allow_nan=False))))
    except (TypeError, ValueError, RecursionError) as error:
        raise ManifestError(
            "the provenance is not JSON", found=error, expected="strings, finite numbers, lists, objects"
        ) from None
    return plain
