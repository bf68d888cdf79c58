"""What is known of data: mergeable summaries, one a file, and the statistics that follow from them.

Not here: reading the data, and what is made of the statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pipeline.statistics.describe import Statistics, derive_affine
from pipeline.statistics.histogram import Histogram
from pipeline.statistics.moments import Moments

SUMMARIES: Mapping[str, type[Moments] | type[Histogram]] = MappingProxyType(
    {summary.name: summary for summary in (Moments, Histogram)}
)

__all__ = ["SUMMARIES", "Histogram", "Moments", "Statistics", "derive_affine"]
