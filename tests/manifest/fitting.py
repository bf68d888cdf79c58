"""The smallest fit: the real steps and summaries on an array in memory, nothing planned and nothing derived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.manifest import FittedStatistics, ManifestRecord
from pipeline.normalize.chain import FittedChain, bind_chain, parse_chain
from pipeline.normalize.step import Input
from pipeline.statistics.covariance import CovarianceSums
from pipeline.statistics.describe import Statistics
from pipeline.statistics.float_histogram import FloatHistogram
from pipeline.statistics.moments import Moments

Record = TypeVar("Record", bound=ManifestRecord)
Entries = Sequence[Mapping[str, Any] | str]


def fit_record(
    entries: Entries,
    values: NDArray[Any],
    dims: tuple[str, ...],
    labels: Mapping[str, Any] | None = None,
    nan_policy: str = "skip",
    output_dtype: str = "float64",
    kind: type[Record] = ManifestRecord,  # type: ignore[assignment]
) -> Record:
    """The record of a fit, step by step."""
    given = Input(dims=dims, sample_dim=dims[0], dtype=values.dtype)
    steps = bind_chain(parse_chain(entries), given)
    chain = FittedChain((), dims, dims[0], values.dtype, np.dtype(output_dtype))
    gathered = []
    for index, step in enumerate(steps):
        statistics = None
        if step.fitted_per is not None:
            so_far = values if index == 0 else replace(chain, output_dtype=np.dtype(np.float64))(values)
            axes = tuple(axis for axis, dim in enumerate(chain.output_dims) if dim in step.fitted_per)
            statistics = _statistics(so_far, axes, step.requires, nan_policy)
            gathered.append(FittedStatistics(index, step.fitted_per, statistics))
        fitted = (*chain.steps, step.fit(statistics))
        chain = FittedChain(fitted, dims, dims[0], values.dtype, chain.output_dtype)
    sizes = dict(zip(dims, values.shape, strict=True))
    return kind.build(chain, sizes, labels or {}, gathered, nan_policy, {"made": "by a test"})


def _statistics(values: NDArray[Any], axes: tuple[int, ...], requires: frozenset[str], nan_policy: str) -> Statistics:
    """What there is to fit to, of `values` with the feature axes `axes`."""
    shape = tuple(values.shape[axis] for axis in axes)
    statistics = Moments.empty(shape, values.dtype).update(values, axes).statistics(nan_policy)
    if "distribution" in requires:
        buckets = FloatHistogram.empty(shape, values.dtype).update(values, axes)
        statistics = replace(statistics, distribution=buckets.distribution())
    if "covariance" in requires:
        statistics = replace(statistics, covariance=CovarianceSums.empty(shape, values.dtype).update(values, axes))
    return statistics


def _expression() -> NDArray[np.float32]:
    values = np.random.default_rng(7).gamma(2.0, 3.0, size=(20, 4)).astype(np.float32)
    values[:, 2] = 5.0
    values.flags.writeable = False
    return values


EXPRESSION = _expression()
"""20 cells of 4 genes, one of them constant."""
GENES = ["TP53", "MYC", "Größe", ""]


def make_record() -> ManifestRecord:
    """A chain with a stateless step, one fitted per gene and one fitted to everything."""
    entries: Entries = ["log1p", {"zscore": {"per": ["gene"]}}, {"minmax": {"per": [], "range": [-0.5, 0.5]}}]
    return fit_record(entries, EXPRESSION, ("cell", "gene"), {"gene": GENES})
