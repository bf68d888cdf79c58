"""How much each sample weighs in a fit, from a coordinate. Not here: what is made of it (`pipeline.statistics.weighted`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, DataError, SourceError
from pipeline.source.source import Source

WEIGHTS_AT_MOST = 1024


def sample_weights(source: Source, name: str, selected: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    """The weight of each sample, 0 for one that is not fitted on.

    Each weight that occurs has summaries of its own, which is what keeps the statistics exact; hence there may be no more than
    `WEIGHTS_AT_MOST` different ones.

    Parameters
    ----------
    source : Source
    name : str
        A coordinate along the sample dim: finite numbers from 0 on, or booleans; 0 leaves a sample out.
    selected : ndarray of bool, shape (samples,), optional
        The samples that are fitted on; the weights of others may be anything.

    Raises
    ------
    SourceError
        Where there is no such coordinate, or it is not one of numbers along the sample dim.
    DataError
        Where weights are negative or not finite, or all 0.
    ConfigError
        Where there are too many different weights.
    """
    dim, values = source.coordinate(name)
    where = f"fit.weights {name}"
    if dim != source.sample_dim:
        raise SourceError("this coordinate does not label samples", where=where, found=f"dim {dim}", expected=source.sample_dim)
    if values.dtype.kind not in "biuf":
        raise SourceError(
            "weights that are no numbers", where=where, found=f"dtype {values.dtype}", expected="numbers from 0 on"
        )
    given = values.astype(np.float64) + 0.0
    weights = given if selected is None else np.where(selected, given, 0.0)
    _check_usable(weights, where)
    different = len(np.unique(weights[weights > 0]))
    if different > WEIGHTS_AT_MOST:
        raise ConfigError(
            "too many different weights",
            where=where,
            found=f"{different} different weights",
            expected=f"{WEIGHTS_AT_MOST} at most, since each has summaries of its own",
            remedy="round the weights, for example to 3 digits, and store them as another coordinate",
        )
    return weights


def _check_usable(weights: NDArray[np.float64], where: str) -> None:
    kinds = {"NaN": np.isnan(weights), "infinite": np.isinf(weights), "negative": np.isfinite(weights) & (weights < 0)}
    counts = {kind: int(which.sum()) for kind, which in kinds.items()}
    found = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    if found:
        raise DataError(
            "weights that are not finite numbers from 0 on",
            where=where,
            found=f"{found}, of {len(weights)} samples",
            expected="finite numbers, 0 or more",
            remedy="mend them, or leave those samples out by fit.where",
        )
    if not (weights > 0).any():
        raise DataError(
            "no sample has a weight above 0", where=where, found="0 everywhere", expected="one weight above 0 at least"
        )
