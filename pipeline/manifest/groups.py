"""The groups that samples fall into by a label (plate, donor, batch), and the chain that was fitted to each.

Not here: how samples go through the chains of their groups (`normalize/grouped.py`).
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputMismatchError, ManifestError
from pipeline.manifest.labels import as_labels
from pipeline.normalize.chain import FittedChain
from pipeline.normalize.grouped import UNSEEN, Codes, GroupedChain
from pipeline.normalize.step import FittedStep, Parameters

Unseen: TypeAlias = Literal["error", "global", "nan"]
UNSEEN_POLICIES: tuple[Unseen, ...] = ("error", "global", "nan")
_SHOWN_LABELS = 3
_COMPARED_LABELS = 10_000


@dataclass(frozen=True, eq=False)
class Grouping:
    """What samples are grouped by, and the labels of the groups.

    Parameters
    ----------
    by : str
        Name of the coordinate along the sample dim that tells a sample's group.
    labels : array_like, shape (groups,)
        One for each group, no two equal; kept as `as_labels` gives them.
    unseen : {'error', 'global', 'nan'}
        What becomes of a sample with another label: it is refused, goes through the chain of all samples together, or
        becomes NaN.

    Raises
    ------
    ManifestError
        Where these do not fit together.

    Examples
    --------
    >>> Grouping("plate", ["P1", "P2"]).codes(["P2", "P1", "P2"])
    array([1, 0, 1], dtype=int32)
    """

    by: str
    labels: NDArray[Any]
    unseen: Unseen = "error"

    def __post_init__(self) -> None:
        labels = as_group_labels(self.labels, self.by)
        if self.unseen not in UNSEEN_POLICIES:
            raise ManifestError("no such policy", where="unseen", found=self.unseen, expected=", ".join(UNSEEN_POLICIES))
        if labels.ndim != 1 or not len(labels) or len(set(labels.tolist())) < len(labels) or _missing(labels):
            raise ManifestError("groups need labels that differ", where=self.by, found=f"{len(labels)} labels")
        object.__setattr__(self, "labels", labels)

    @classmethod
    def of(cls, given: Any, by: str, unseen: Unseen = "error") -> Self:
        """The grouping by the distinct labels among `given`, one for each sample, in ascending order."""
        labels = as_group_labels(given, by)
        if missing := _missing(labels):
            raise ManifestError(
                "samples without a label", where=by, found=f"{missing} NaN or None", expected="a label for each"
            )
        return cls(by, as_labels(sorted(set(labels.tolist())), by), unseen)

    def places(self, given: Any) -> Codes:
        """Which group each of the `given` labels is that of, `UNSEEN` where of none.

        Parameters
        ----------
        given : array_like of shape (samples,) or one label

        Returns
        -------
        ndarray of int32, shape (samples,) or ()

        Raises
        ------
        InputMismatchError
            Where these are no labels.
        """
        try:
            labels = as_group_labels(given, self.by)
        except ManifestError as error:
            raise InputMismatchError(
                error.what, where=self.by, found=error.found, expected=error.expected, remedy=error.remedy
            ) from None
        known = {label: code for code, label in enumerate(self.labels.tolist())}
        listed = labels.reshape(-1).tolist()
        return np.array([known.get(label, UNSEEN) for label in listed], dtype=np.int32).reshape(labels.shape)

    def codes(self, given: Any) -> Codes:
        """As `places`; raises InputMismatchError for a label of no group where the policy is `error`."""
        places = self.places(given)
        if self.unseen == "error" and (places == UNSEEN).any():
            raise self._unseen(as_group_labels(given, self.by).reshape(-1)[places.reshape(-1) == UNSEEN].tolist(), places.size)
        return places

    def _unseen(self, labels: list[Any], count: int) -> InputMismatchError:
        distinct = list(dict.fromkeys(labels))
        known = [str(label) for label in self.labels[:_COMPARED_LABELS].tolist()]
        near = difflib.get_close_matches(str(distinct[0]), known, n=_SHOWN_LABELS) or known[:_SHOWN_LABELS]
        more = ", …" if len(distinct) > _SHOWN_LABELS else ""
        return InputMismatchError(
            f"{len(labels)} of {count} samples have a label that was not fitted",
            where=self.by,
            found=", ".join(repr(label) for label in distinct[:_SHOWN_LABELS]) + more,
            expected=f"one of the {len(self.labels)} fitted, such as {', '.join(near)}",
            remedy="leave those samples out, or fit with unseen 'global' or 'nan'",
        )


@dataclass(frozen=True, eq=False)
class Groups(Grouping):
    """A grouping and the chain of each of its groups.

    Parameters
    ----------
    chains : tuple of FittedChain
        In the order of the labels; all have the same steps and options.
    """

    chains: tuple[FittedChain, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.chains) != len(self.labels):
            found, expected = f"{len(self.chains)} chains", f"{len(self.labels)} chains, one for each label"
            raise ManifestError("groups need one chain each", where=self.by, found=found, expected=expected)

    def chain(self, overall: FittedChain, codes: Codes) -> GroupedChain:
        """The function of samples whose groups are `codes`; `overall` is the chain of all samples together."""
        return GroupedChain(overall, self.chains, codes, self.unseen)

    def stacked(self, index: int) -> dict[str, NDArray[np.float64]]:
        """The parameters of step number `index`, each with the groups as its first axis.

        Where groups differ in the size of a dim of the parameter's own, as in quantiles of few samples, NaN fill it up at the
        end; the step's `restore` takes them away.
        """
        names = self.chains[0].steps[index].parameters
        return {name: _stack([chain.steps[index].parameters[name] for chain in self.chains]) for name in names}

    def check(self, overall: FittedChain) -> None:
        """That every group's chain differs from `overall`, the chain of all samples together, in parameters only.

        Raises
        ------
        ManifestError
        """
        expected = _signature(overall)
        for label, chain in zip(self.labels.tolist(), self.chains, strict=True):
            if _signature(chain) != expected:
                raise ManifestError(
                    "a group's chain differs from that of all samples in more than the numbers",
                    where=f"{self.by} {label!r}",
                    found=_described(chain),
                    expected=_described(overall),
                )


def unstacked(overall: FittedChain, parameters: Sequence[Parameters], count: int) -> tuple[FittedChain, ...]:
    """The chains of `count` groups, from the parameters that `Groups.stacked` gave for each step.

    Raises
    ------
    ManifestError
        Where they do not fit the steps of `overall`, the chain of all samples together.
    """
    if len(parameters) != len(overall.steps):
        raise ManifestError(
            "parameters of groups that do not fit the chain", found=f"{len(parameters)} steps", expected=f"{len(overall.steps)}"
        )
    steps = [_restored(fitted, stacked, count) for fitted, stacked in zip(overall.steps, parameters, strict=True)]
    return tuple(replace(overall, steps=tuple(each[code] for each in steps)) for code in range(count))


def _stack(arrays: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    if len({array.shape for array in arrays}) == 1:
        return np.stack(arrays)
    stacked = np.full((len(arrays), *np.max([array.shape for array in arrays], axis=0)), np.nan)
    for code, array in enumerate(arrays):
        stacked[code][tuple(slice(size) for size in array.shape)] = array
    return stacked


def _restored(fitted: FittedStep, stacked: Parameters, count: int) -> list[FittedStep]:
    if not stacked and not fitted.parameters:
        return [fitted] * count
    if set(stacked) != set(fitted.parameters) or any(values.shape[:1] != (count,) for values in stacked.values()):
        raise ManifestError(
            "parameters of groups that do not fit together",
            where=fitted.step.name,
            found=", ".join(f"{name} {values.shape}" for name, values in stacked.items()) or "none",
            expected=f"{', '.join(fitted.parameters)}, each with {count} groups first",
        )
    return [fitted.step.restore({name: values[code] for name, values in stacked.items()}) for code in range(count)]


def as_group_labels(given: Any, by: str) -> NDArray[Any]:
    """`given`, one label or one for each sample, as `as_labels` gives them; booleans as 0 and 1, and no negative zero.

    Where samples have no label but None these stay among the others as objects.

    Raises
    ------
    ManifestError
        Where these are no labels.
    """
    array = np.asarray(given) if hasattr(given, "__array__") else np.array(given, dtype=object)
    known = np.array([item is not None for item in array], bool) if array.dtype == object and array.ndim == 1 else None
    if known is not None and not known.all():
        labels = np.full(len(array), None, dtype=object)
        labels[known] = as_group_labels(array[known], by)
        return labels
    if array.dtype == np.bool_ or (array.dtype == object and array.size and _all_bool(array)):
        array = array.astype(np.int64)
    if array.dtype.kind in "mM":
        raise ManifestError(
            "dates and durations do not group",
            where=by,
            found=str(array.dtype),
            expected="strings, integers, floats or booleans",
            remedy="write them as strings",
        )
    labels = as_labels(array if array.ndim else array.reshape(1), by)
    labels = as_labels(labels + 0.0, by) if labels.dtype.kind == "f" else labels
    return labels if array.ndim else labels.reshape(())


def _all_bool(array: NDArray[Any]) -> bool:
    return all(isinstance(item, bool | np.bool_) for item in array.ravel().tolist())


def _missing(labels: NDArray[Any]) -> int:
    if labels.dtype == object:
        return sum(label is None for label in labels.ravel())
    return int(np.isnan(labels).sum()) if labels.dtype.kind == "f" else 0


def _signature(chain: FittedChain) -> tuple[Any, ...]:
    steps = [(fitted.step, fitted.per, _feature_shapes(fitted)) for fitted in chain.steps]
    return steps, chain.dims, chain.sample_dim, chain.input_dtype, chain.output_dtype


def _feature_shapes(fitted: FittedStep) -> dict[str, tuple[int, ...]]:
    """The sizes along the data's dims of each parameter, and how many dims it has; sizes of its own dims may differ."""
    return {name: (*values.shape[: len(fitted.per)], values.ndim) for name, values in fitted.parameters.items()}


def _described(chain: FittedChain) -> str:
    steps = (
        f"{fitted.step.name} {', '.join(f'{name} {values.shape}' for name, values in fitted.parameters.items())}".strip()
        for fitted in chain.steps
    )
    return f"{' → '.join(steps)}; {chain.input_dtype} to {chain.output_dtype}"
