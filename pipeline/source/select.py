"""Which samples a fit uses: by their labels, their positions, and by chance. Not here: reading the samples."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.source.labels import as_text
from pipeline.source.source import Source

Label: TypeAlias = str | bool | int | float
SHOWN_LABELS = 8
UNIT = 2.0**-53


@dataclass(frozen=True)
class Scope:
    """Which samples a fit uses: those that satisfy every condition that is given.

    Parameters
    ----------
    where : mapping of str to a label or a sequence of labels, optional
        For each coordinate along the sample dim the values that count. A boolean coordinate takes ``True`` or ``False``.
    samples : slice, optional
        Positions along the sample dim; start and stop are not negative.
    fraction : float, optional
        Above 0 and at most 1: the probability with which each sample is taken, see `uniform`.
    seed : int
        Of that choice, from 0 to 2**64 - 1.
    """

    where: Mapping[str, Label | Sequence[Label]] | None = None
    samples: slice | None = None
    fraction: float | None = None
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """The conditions as JSON types, for a manifest; None for what was not asked."""
        given = self.samples
        return {
            "where": None if self.where is None else {name: _plain(wanted) for name, wanted in self.where.items()},
            "slice": None if given is None else {"start": given.start or 0, "stop": given.stop, "step": given.step or 1},
            "fraction": self.fraction,
            "seed": None if self.fraction is None else self.seed,
        }


def select_samples(source: Source, scope: Scope) -> NDArray[np.bool_] | None:
    """Which positions along the sample dim `scope` takes.

    Returns
    -------
    ndarray of bool, shape (samples,), or None where nothing is asked

    Raises
    ------
    SourceError
        Where a coordinate does not exist or runs along another dim, where slice, fraction or seed are out of range, or where
        no sample is left.
    """
    samples = source.shape[source.dims.index(source.sample_dim)]
    conditions = [_by_label(source, name, wanted) for name, wanted in (scope.where or {}).items()]
    if scope.samples is not None:
        conditions.append(_by_position(scope.samples, samples))
    if scope.fraction is not None:
        conditions.append(_by_chance(scope.fraction, scope.seed, samples))
    if not conditions:
        return None
    selected: NDArray[np.bool_] = np.logical_and.reduce(conditions)
    if not selected.any():
        asked = {name: value for name, value in scope.to_json().items() if value is not None}
        raise SourceError(
            "no sample is selected",
            where="fit",
            found=f"{asked}, of {samples} samples",
            expected="conditions that some sample satisfies together",
        )
    return selected


def uniform(seed: int, count: int) -> NDArray[np.float64]:
    """For the samples 0 to count - 1 a number each, evenly spread in [0, 1): a function of its position and the seed alone.

    Sample i has the i-th output of the generator SplitMix64 that begins with `seed` (Steele, Lea and Flood 2014, Fast
    splittable pseudorandom number generators), its upper 53 bits divided by 2**53. So the choice is the same for any
    chunking, more samples do not change it, and a larger fraction takes what a smaller one took and others.

    Parameters
    ----------
    seed : int
        From 0 to 2**64 - 1.
    count : int

    Returns
    -------
    ndarray of float64, shape (count,)

    Examples
    --------
    >>> uniform(0, 3).round(4).tolist()
    [0.8833, 0.4315, 0.0264]
    """
    return (splitmix64(seed, count) >> np.uint64(11)).astype(np.float64) * UNIT


def splitmix64(seed: int, count: int) -> NDArray[np.uint64]:
    """The first `count` outputs of the generator SplitMix64 that begins with `seed`."""
    steps = np.arange(1, count + 1, dtype=np.uint64)
    mixed = steps * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _by_label(source: Source, name: str, wanted: Label | Sequence[Label]) -> NDArray[np.bool_]:
    dim, labels = source.coordinate(name)
    if dim != source.sample_dim:
        raise SourceError(
            "this coordinate does not label samples", where=name, found=f"dim {dim}", expected=f"dim {source.sample_dim}"
        )
    values: list[Any] = list(wanted) if isinstance(wanted, (list, tuple)) else [wanted]
    matches = [_matches(labels, value) for value in values]
    unmatched = [str(value) for value, match in zip(values, matches, strict=True) if not match.any()]
    if unmatched or not values:
        shown = ", ".join(str(label) for label in np.unique(labels[_known(labels)].astype(str))[:SHOWN_LABELS])
        raise SourceError(
            "no sample has this label",
            where=f"fit.where.{name}",
            found=", ".join(unmatched) or "no label",
            expected=f"labels such as {shown}",
        )
    selected: NDArray[np.bool_] = np.logical_or.reduce(matches)
    return selected


def _matches(labels: NDArray[Any], wanted: Label) -> NDArray[np.bool_]:
    if labels.dtype.kind in "OUST":
        known, found = _known(labels), np.zeros(labels.shape, bool)
        found[known] = as_text(labels[known]).astype(str) == str(wanted)
        return found
    if labels.dtype.kind == "M":
        return _at_time(labels, wanted)
    return np.zeros(labels.shape, bool) if isinstance(wanted, str) else np.asarray(labels == wanted)


def _known(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Which samples have a label."""
    return np.array([label is not None for label in labels.tolist()], bool)


def _at_time(labels: NDArray[Any], wanted: Label) -> NDArray[np.bool_]:
    """Which dates are the one that `wanted` spells, as ISO text; none where that is no date."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a time zone is taken into account
            return np.asarray(labels == np.datetime64(wanted) if isinstance(wanted, str) else np.zeros(labels.shape, bool))
    except ValueError:
        return np.zeros(labels.shape, bool)


def _by_position(positions: slice, samples: int) -> NDArray[np.bool_]:
    start, stop, step = positions.start or 0, positions.stop, 1 if positions.step is None else positions.step
    if start < 0 or (stop is not None and stop <= start) or step < 1:
        raise SourceError(
            "not a slice of the samples",
            where="fit.samples",
            found=f"start {start}, stop {stop}, step {step}",
            expected="0 or more, above start, and 1 or more",
        )
    selected = np.zeros(samples, dtype=bool)
    selected[start:stop:step] = True
    return selected


def _by_chance(fraction: float, seed: int, samples: int) -> NDArray[np.bool_]:
    if not 0 < fraction <= 1 or not 0 <= seed < 2**64:
        raise SourceError(
            "not a fraction of the samples",
            where="fit.fraction",
            found=f"fraction {fraction}, seed {seed}",
            expected="a number above 0 and at most 1, and a seed from 0 to 2**64 - 1",
        )
    return uniform(seed, samples) < fraction


def _plain(wanted: Any) -> Any:
    """Labels as JSON types."""
    if isinstance(wanted, (list, tuple)):
        return [_plain(each) for each in wanted]
    return wanted.item() if isinstance(wanted, np.generic) else wanted
