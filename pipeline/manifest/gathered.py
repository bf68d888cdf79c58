"""Statistics together with where in a chain they were gathered. Not here: how they are gathered (`pipeline.fitting`).

`QUANTILE_ERROR` is a key of a manifest's provenance: for each step that was fitted to quantiles, as `1.robust`, the
`relative_error` of the distribution that they were taken from, in the worst feature and group; 0.0 where it was exact.
`RANK_ERROR` is another, for its `rank_error`: which part of the values is below a quantile is off by no more.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.statistics.describe import Statistics

QUANTILE_ERROR = "quantile_relative_error"
RANK_ERROR = "quantile_rank_error"


@dataclass(frozen=True, eq=False)
class FittedStatistics:
    """Sufficient statistics of the values that reach one step.

    Parameters
    ----------
    before_step : int
        Index of that step in the chain; the number of steps for those of the chain's output.
    per : tuple of str
        The dims that were kept, in the data's order.
    statistics : Statistics
        Raw and mergeable, one set per feature.
    """

    before_step: int
    per: tuple[str, ...]
    statistics: Statistics
