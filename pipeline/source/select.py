"""Which samples a fit uses, from the labels beside the array. Not here: reading the samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.source.source import Source

Label: TypeAlias = str | bool | int | float
SHOWN_LABELS = 8


def select_samples(source: Source, where: Mapping[str, Label | Sequence[Label]] | None) -> NDArray[np.bool_] | None:
    """Which positions along the sample dim have the wanted label in every coordinate that `where` names.

    Parameters
    ----------
    source : Source
    where : mapping of str to a label or a sequence of labels, optional
        For each coordinate along the sample dim the values that count.

    Returns
    -------
    ndarray of bool, shape (samples,), or None where nothing is asked

    Raises
    ------
    SourceError
        Where a coordinate does not exist or runs along another dim, or where no sample is left.
    """
    if not where:
        return None
    samples = source.shape[source.dims.index(source.sample_dim)]
    selected = np.ones(samples, dtype=bool)
    for name, wanted in where.items():
        dim, labels = source.coordinate(name)
        if dim != source.sample_dim:
            raise SourceError(
                "this coordinate does not label samples", where=name, found=f"dim {dim}", expected=f"dim {source.sample_dim}"
            )
        values: list[Any] = list(wanted) if isinstance(wanted, (list, tuple)) else [wanted]
        matches = [_matches(labels, value) for value in values]
        unmatched = [str(value) for value, match in zip(values, matches, strict=True) if not match.any()]
        if unmatched or not values:
            shown = ", ".join(str(label) for label in np.unique(labels.astype(str))[:SHOWN_LABELS])
            raise SourceError(
                "no sample has this label",
                where=f"fit.where.{name}",
                found=", ".join(unmatched) or "no label",
                expected=f"labels such as {shown}",
            )
        selected &= np.logical_or.reduce(matches)
    if not selected.any():
        raise SourceError(
            "no sample is selected", where="fit.where", found=" and ".join(where), expected="a sample with all of them"
        )
    return selected


def _matches(labels: NDArray[Any], wanted: Label) -> NDArray[np.bool_]:
    if labels.dtype.kind in "OUST":
        return np.asarray(labels.astype(str) == str(wanted))
    return np.zeros(labels.shape, bool) if isinstance(wanted, str) else np.asarray(labels == wanted)
