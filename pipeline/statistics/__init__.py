"""What is known of data: mergeable summaries, one a file, and the statistics that follow from them.

Not here: reading the data, and what is made of the statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

from pipeline.statistics.covariance import CovarianceSums
from pipeline.statistics.describe import Statistics, derive_affine
from pipeline.statistics.deviations import Deviations
from pipeline.statistics.distribution import Distribution
from pipeline.statistics.float_histogram import FloatHistogram
from pipeline.statistics.histogram import Histogram
from pipeline.statistics.moments import Moments

AnySummary: TypeAlias = Moments | Histogram | FloatHistogram | CovarianceSums | Deviations

SUMMARIES: Mapping[str, type[AnySummary]] = MappingProxyType(
    {summary.name: summary for summary in (Moments, Histogram, FloatHistogram, CovarianceSums, Deviations)}
)

__all__ = [
    "SUMMARIES",
    "CovarianceSums",
    "Deviations",
    "Distribution",
    "FloatHistogram",
    "Histogram",
    "Moments",
    "Statistics",
    "derive_affine",
]
