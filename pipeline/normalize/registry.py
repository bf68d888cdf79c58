"""Every step there is, by the name that a user writes.

Not here: what they do (one family a file).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pipeline.normalize.dtype_range import DtypeRange
from pipeline.normalize.elementwise import Affine, Clip, Log1p
from pipeline.normalize.minmax import MaxAbs, MinMax
from pipeline.normalize.standard import ZScore
from pipeline.normalize.step import Step
from pipeline.normalize.unit_norm import UnitNorm

_KINDS: tuple[type[Step], ...] = (MinMax, ZScore, MaxAbs, DtypeRange, UnitNorm, Log1p, Affine, Clip)

STEPS: Mapping[str, type[Step]] = MappingProxyType({kind.name: kind for kind in _KINDS})
