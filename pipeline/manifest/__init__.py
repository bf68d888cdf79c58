"""A fitted chain, the statistics behind it and its provenance, with a digest, as a folder that is checked when it is read.

Not here: how it is applied to new data (`pipeline.inference`).
"""

from pipeline.manifest.gathered import QUANTILE_ERROR, RANK_ERROR, FittedStatistics
from pipeline.manifest.groups import Grouping, Groups, Unseen
from pipeline.manifest.labels import as_labels
from pipeline.manifest.record import ManifestRecord, check_destination, needed_dims
from pipeline.manifest.schema import SCHEMA_VERSION

__all__ = [
    "QUANTILE_ERROR",
    "RANK_ERROR",
    "SCHEMA_VERSION",
    "FittedStatistics",
    "Grouping",
    "Groups",
    "ManifestRecord",
    "Unseen",
    "as_labels",
    "check_destination",
    "needed_dims",
]
