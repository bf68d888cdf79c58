"""Which group each of some new samples belongs to, for a manifest that was fitted by group.

Not here: how samples go through the chains of their groups (`pipeline.normalize.grouped`).
"""

from __future__ import annotations

import math
from typing import Any

from pipeline.errors import InputMismatchError, SourceError
from pipeline.manifest import ManifestRecord
from pipeline.normalize.chain import FittedChain
from pipeline.normalize.grouped import GroupedChain
from pipeline.source.source import Source


def chain_by(manifest: ManifestRecord, by: Any, samples: float) -> FittedChain | GroupedChain:
    """The function that normalizes samples with the labels `by`.

    Parameters
    ----------
    manifest : ManifestRecord
    by : array_like of shape (samples,), one label, or None
        One label is that of every sample. None for a manifest without groups.
    samples : float
        How many samples there are, NaN where that is unknown.

    Raises
    ------
    InputMismatchError
        Where labels are missing, too many or too few, or were not fitted and that is not allowed.
    """
    groups = manifest.groups
    if groups is None:
        if by is not None:
            raise InputMismatchError("labels for a manifest that was not fitted by group", where="by", remedy="leave out `by`")
        return manifest.chain
    if by is None:
        raise InputMismatchError(
            f"each {groups.by} is normalized by itself, and the samples have no labels",
            where=groups.by,
            expected=f"the {groups.by} of each sample, or one of all",
            remedy=f"transform(values, by=labels), or a DataArray with the coordinate {groups.by!r} along "
            f"{manifest.chain.sample_dim!r}",
        )
    codes = groups.codes(by)
    if codes.ndim and len(codes) != samples:
        unknown = math.isnan(samples)
        raise InputMismatchError(
            "another number of labels than of samples",
            where=groups.by,
            found=f"{len(codes)} labels",
            expected="one for all samples, as their number is unknown" if unknown else f"{samples:.0f}, or one for all samples",
            remedy="values.compute_chunk_sizes()" if unknown else None,
        )
    return groups.chain(manifest.chain, codes)


def stored_chain_by(manifest: ManifestRecord, source: Source) -> FittedChain | GroupedChain:
    """The function that normalizes the samples of `source`, whose labels are its coordinate of the groups' name.

    Raises
    ------
    InputMismatchError
        Where there is no such coordinate along the sample dim, or a label was not fitted and that is not allowed.
    """
    groups = manifest.groups
    if groups is None:
        return manifest.chain
    try:
        dim, labels = source.coordinate(groups.by)
    except SourceError as error:
        raise InputMismatchError(
            f"each {groups.by} is normalized by itself, and the source does not say which sample is of which",
            where=error.where or groups.by,
            found=error.what,
            expected=error.expected,
            remedy=f"store {groups.by!r} beside the array, with one label for each sample",
        ) from None
    if dim != manifest.chain.sample_dim:
        raise InputMismatchError(
            "this coordinate does not label samples", where=groups.by, found=f"dim {dim}", expected=manifest.chain.sample_dim
        )
    return chain_by(manifest, labels, len(labels))
