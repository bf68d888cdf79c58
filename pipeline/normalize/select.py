"""Keeping some of the features, the most variable or those named: `select`, the step that changes the size of a dim.

Not here: the scores (`pipeline.statistics`), and what becomes of labels and of the output's size (`chain.py`, `sink/`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr, model_validator

from pipeline.errors import ConfigError, DataError, ManifestError
from pipeline.normalize.features import check_dims
from pipeline.normalize.names import Count, unknown_name
from pipeline.normalize.step import FittedStep, Floats, Input, Parameters, Step, frozen_parameters, stored_parameters

if TYPE_CHECKING:
    from pipeline.statistics.describe import Statistics

By: TypeAlias = Literal["variance", "mean_absolute_deviation"]

_SHOWN_NAMES = 3


class Select(Step):
    """Keep the features that vary most along one dim, or those that are named.

    ``y = x[kept]``, in the order of the input. The k features with the largest variance (ddof 1) or the largest mean absolute
    deviation ``sum(|x - mean|) / n`` are those of ``pandas.DataFrame.var().nlargest(k)`` and of
    ``(table - table.mean()).abs().mean().nlargest(k)``; the latter is how Way and Greene (2018, Pac Symp Biocomput 23:80)
    chose genes. The steps after it see, and new data comes out with, these features alone. Variances are exact, so that only
    equal ones tie: of those the first features are kept.

    - The mean absolute deviation takes a read of its own, after the one that gives the mean, unless the values are integers
      whose histogram is gathered.
    - NaN and infinities are left out of a feature's score and stay what they are in the output.
    - Constant features have score 0. A feature with too few values has no score and is never among the k.
    - With `fit.by` the same features are kept in every group: those of all samples together.
    - Raises DataError where fewer than k features have a score.

    Inverse: none, the other features are not kept.

    Parameters
    ----------
    dim : str
        The dim of the features, not the sample dim. A chain has one `select` along a dim.
    k : int, optional
        How many features are kept.
    by : str, optional
        `variance` (by default) or `mean_absolute_deviation`; with `k` only.
    names : list of str or int, optional
        Labels of the features to keep, instead of `k`; their order does not matter.
    file : str, optional
        Path of a text file with one label a line, instead of `names`; read when the chain is bound, and then `names`.

    Examples
    --------
    >>> fitted = Select(dim="gene", k=2).restore({"kept": np.array([1.0, 0.0, 1.0])})
    >>> fitted(np.array([[5.0, 6.0, 7.0]]), ("cell", "gene")).tolist()
    [[5.0, 7.0]]
    """

    name: ClassVar[str] = "select"
    summary: ClassVar[str] = "Keep the features that vary most along one dim, or those that are named."
    formula: ClassVar[str] = "y = x[kept], the k of largest variance or mean |x - mean|, in the order of x"
    reference: ClassVar[str] = "Way and Greene 2018, Pac Symp Biocomput 23:80-91; pandas, DataFrame.var and nlargest"
    inverse_note: ClassVar[str] = "none, the other features are not kept"
    elementwise: ClassVar[bool] = False

    dim: str = Field(description="the name of one dim")
    k: Annotated[Count, Field(ge=1)] | None = Field(default=None, description="a whole number from 1 on")
    by: By | None = Field(default=None, description="variance or mean_absolute_deviation")
    names: tuple[str | int, ...] | None = Field(default=None, description="a list of labels of the dim")
    file: str | None = Field(default=None, description="the path of a text file with one label a line")

    _positions: tuple[int, ...] | None = PrivateAttr(default=None)
    _size: int = PrivateAttr(default=0)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum(given is not None for given in (self.k, self.names, self.file)) != 1:
            raise ValueError("exactly one of k, names and file")
        if self.by is not None and self.k is None:
            raise ValueError("by only with k: names need no ranking")
        if self.names is not None and (not self.names or len(set(self.names)) < len(self.names)):
            raise ValueError("at least one name, and each once")
        return self

    @property
    def fitted_per(self) -> tuple[str, ...] | None:
        return None if self.k is None else (self.dim,)

    @property
    def whole_dims(self) -> frozenset[str]:
        return frozenset({self.dim})

    @property
    def selected_dim(self) -> str:
        return self.dim

    @property
    def needs_deviation(self) -> bool:
        return self.by == "mean_absolute_deviation"

    @property
    def _count(self) -> int:
        """How many features are kept."""
        return len(self.names or ()) if self.k is None else self.k

    def output_sizes(self, sizes: Mapping[str, int]) -> dict[str, int]:
        return {dim: self._count if dim == self.dim else size for dim, size in sizes.items()}

    def bind(self, given: Input) -> Self:
        """The same with names found among the labels of the dim, those of `file` read.

        Raises
        ------
        ConfigError
            Where the dim is unknown or has fewer than k features, or names are not among its labels.
        """
        check_dims((self.dim,), given.dims, f"{self.name}.dim")
        if self.dim == given.sample_dim:
            raise ConfigError(
                "samples are not features",
                where=f"{self.name}.dim",
                found=self.dim,
                expected=f"one of {', '.join(dim for dim in given.dims if dim != given.sample_dim)}",
                remedy="choose samples by fit.where",
            )
        if self.dim in given.selected:
            raise ConfigError(
                "a second selection along one dim", where=self.name, found=self.dim, remedy="put both into one step"
            )
        size = given.sizes.get(self.dim)
        if self.k is not None:
            if size is not None and self.k > size:
                raise ConfigError(
                    "fewer features than are to be kept", where=f"{self.name}.k", found=self.k, expected=f"at most {size}"
                )
            return self
        return self._with_names(given)

    def _with_names(self, given: Input) -> Self:
        names = self.names if self.file is None else _read_names(Path(self.file), f"{self.name}.file")
        labels = given.labels_of(self.dim) if given.labels_of else None
        bound = self.model_copy(update={"names": tuple(names or ()), "file": None})
        if labels is None:
            if given.labels_of:
                raise ConfigError(
                    "names of features without labels",
                    where=f"{self.name}.{'names' if self.file is None else 'file'}",
                    found=f"no labels along {self.dim}",
                    expected=f"a one-dimensional array {self.dim!r} beside the data",
                    remedy="store the labels there, or select by k",
                )
            return bound
        bound._positions, bound._size = _places(bound.names or (), labels, f"{self.name}.names"), len(labels)
        return bound

    def fit(self, statistics: Statistics | None) -> FittedSelect:
        if self.k is None:
            if self._positions is None:
                raise TypeError("select is not bound to labels")
            kept = np.zeros(self._size)
            kept[list(self._positions)] = 1.0
            return type(self).model_validate(self.model_dump()).restore({"kept": kept})
        if statistics is None or len(statistics.feature_shape) != 1:
            raise TypeError(f"select needs statistics per {[self.dim]}")
        statistics.check()
        scores = self._scores(statistics)
        found = int(np.isfinite(scores).sum())
        if found < self.k:
            raise DataError(
                "fewer features with a score than are to be kept",
                where=self.name,
                found=f"{found} of {scores.size} features with a {(self.by or 'variance').replace('_', ' ')}",
                expected=f"at least k = {self.k}",
                remedy="lower k, or put fillna before it",
            )
        kept = np.zeros(scores.size)
        kept[np.argsort(-scores, kind="stable")[: self.k]] = 1.0
        return FittedSelect(self, (self.dim,), frozen_parameters(kept=kept))

    def _scores(self, statistics: Statistics) -> Floats:
        if not self.needs_deviation:
            return statistics.variance(ddof=1)
        if statistics.deviation is not None:
            return statistics.deviation
        if statistics.distribution is None or statistics.distribution.relative_error:
            raise TypeError("select by mean_absolute_deviation needs deviations")
        mean = statistics.mean()
        return np.where(np.isnan(mean), np.nan, statistics.distribution.mean_absolute_deviation(np.nan_to_num(mean)))

    def restore(self, parameters: Parameters) -> FittedSelect:
        stored = stored_parameters(self, (self.dim,), parameters, ("kept",))
        kept, expected = stored["kept"], self._count
        if not np.isin(kept, (0.0, 1.0)).all() or kept.sum() != expected:
            raise ManifestError(
                "stored parameters that are no selection",
                where=f"{self.name}.kept",
                found=f"{int((kept == 1).sum())} of {kept.size} kept",
                expected=f"1 for {expected} features, 0 for the others",
            )
        return FittedSelect(self, (self.dim,), stored)


@dataclass(frozen=True, eq=False)
class FittedSelect(FittedStep):
    """`Select` with the parameter kept: 1 for a feature that is kept, 0 for the others."""

    step: Select

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        return np.asarray(self.parameters["kept"] == 1.0)

    def keeps(self, dim: str) -> NDArray[np.bool_] | None:
        return self.mask if dim == self.step.dim else None

    def output_sizes(self, sizes: Mapping[str, int]) -> dict[str, int]:
        left = int(np.count_nonzero(self.mask))
        return {dim: left if dim == self.step.dim else size for dim, size in sizes.items()}

    def __call__(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        return np.ascontiguousarray(np.compress(self.mask, values, axis=dims.index(self.step.dim)))

    @property
    def why_not_invertible(self) -> str:
        return "the other features are not kept"


def _read_names(path: Path, where: str) -> tuple[str, ...]:
    """The lines of a text file without those that are empty; ConfigError where it cannot be read or names one twice."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        found = getattr(error, "strerror", None) or error
        raise ConfigError(
            "the file of names cannot be read", where=where, found=f"{path}: {found}", expected="UTF-8 text"
        ) from None
    names = tuple(line.strip() for line in lines if line.strip())
    twice = [name for name, count in Counter(names).items() if count > 1]
    if not names or twice:
        found = f"{twice[0]!r} more than once" if twice else "no names"
        raise ConfigError("not a list of names", where=where, found=found, expected="one name a line, each once")
    return names


def _places(names: tuple[str | int, ...], labels: NDArray[Any], where: str) -> tuple[int, ...]:
    """Where the labels `names` stand among `labels`, ascending; a name that is text also matches the number it spells."""
    known = [_spelled(label) for label in labels.tolist()]
    counts = Counter(known)
    wanted = {_spelled(name): name for name in names}
    if len(wanted) < len(names):
        raise ConfigError("a feature is named twice", where=where, found=f"{len(names)} names of {len(wanted)} features")
    unknown = [name for spelled, name in wanted.items() if spelled not in counts]
    if len(unknown) == 1:
        raise unknown_name("no feature of this name", unknown[0], _few(known), where)
    if unknown:
        shown = ", ".join(repr(name) for name in unknown[:_SHOWN_NAMES]) + (", …" if len(unknown) > _SHOWN_NAMES else "")
        raise ConfigError(
            f"{len(unknown)} of {len(names)} names are no features", where=where, found=shown, expected="labels of the dim"
        )
    twice = [name for spelled, name in wanted.items() if counts[spelled] > 1]
    if twice:
        raise ConfigError("a name of several features", where=where, found=twice[0], expected="labels that occur once")
    return tuple(at for at, label in enumerate(known) if label in wanted)


def _few(known: list[str]) -> list[str]:
    """`known` where it can be listed in a message."""
    return known if len(known) <= 50 else [*known[:_SHOWN_NAMES], f"… ({len(known)} labels)"]


def _spelled(label: Any) -> str:
    whole = isinstance(label, float) and math.isfinite(label) and label == int(label)
    return str(int(label)) if whole else str(label)
