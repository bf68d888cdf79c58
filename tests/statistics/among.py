"""Histograms as they are of one of many features, whose lists are shorter. Not here: what must hold of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.block import Block
from pipeline.statistics.distribution import Distribution
from pipeline.statistics.float_histogram import FloatHistogram

MANY_FEATURES = 4096  # as many as make lists as short as they get


def histogram_among(values: NDArray[Any], features: int = MANY_FEATURES) -> FloatHistogram:
    """The histogram of `values` as those of the first of so many features, of which the others have none."""
    first = FloatHistogram.empty((1,), values.dtype).update(values[:, np.newaxis], (1,))
    others = FloatHistogram.empty((features - 1,), values.dtype)
    return FloatHistogram.join([(Block((0,), (1,)), first), (Block((1,), (features,)), others)], (features,))


def distribution_among(values: NDArray[Any], features: int = MANY_FEATURES) -> Distribution:
    """The distribution of `values` alone, counted as those of one of so many features."""
    return histogram_among(values, features).distribution().take_features(0, np.array([0])).sum_features((0,))
