"""Statistics together with where in a chain they were gathered. Not here: how they are gathered (`pipeline.fitting`)."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.statistics.describe import Statistics


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
