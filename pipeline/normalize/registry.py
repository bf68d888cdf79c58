"""Every step there is, by the name that a user writes.

Not here: what they do (one family a file).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pipeline.normalize.clip_percentiles import ClipPercentiles
from pipeline.normalize.dtype_range import DtypeRange
from pipeline.normalize.elementwise import Affine, Clip, Log1p
from pipeline.normalize.library_size import LibrarySize
from pipeline.normalize.minmax import MaxAbs, MinMax
from pipeline.normalize.missing import FillNa
from pipeline.normalize.nodata import Nodata
from pipeline.normalize.pearson_residuals import PearsonResiduals
from pipeline.normalize.power import Power
from pipeline.normalize.quantile import Quantile
from pipeline.normalize.robust import Robust
from pipeline.normalize.sample_scaling import SampleMinMax, SampleZScore
from pipeline.normalize.select import Select
from pipeline.normalize.standard import ZScore
from pipeline.normalize.step import Step
from pipeline.normalize.unit_norm import UnitNorm
from pipeline.normalize.variance_stabilizing import Anscombe, Arcsinh
from pipeline.normalize.whiten import Whiten

_KINDS: tuple[type[Step], ...] = (
    *(MinMax, ZScore, MaxAbs, DtypeRange, UnitNorm, Log1p, Affine, Clip, Nodata),
    *(Robust, ClipPercentiles, Quantile, Power),
    *(Arcsinh, Anscombe, FillNa, LibrarySize, PearsonResiduals, SampleZScore, SampleMinMax, Whiten),
    Select,
)

STEPS: Mapping[str, type[Step]] = MappingProxyType({kind.name: kind for kind in _KINDS})
