"""How much memory the parameters of steps take, before these are fitted.

Not here: what fitted ones take (`step.py`), and what else a run holds (`pipeline.plan`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.normalize.step import Step

ITEM_BYTES = np.dtype(np.float64).itemsize


@dataclass(frozen=True)
class ParameterBytes:
    """How much memory parameters take.

    Parameters
    ----------
    stored : int
        The parameters themselves, as a manifest keeps them.
    derived : int
        What the steps make of them, and keep, to be called.
    """

    stored: int = 0
    derived: int = 0

    @property
    def total(self) -> int:
        return self.stored + self.derived


def parameter_bytes(steps: Sequence[Step], sizes: Mapping[str, int]) -> list[ParameterBytes]:
    """What the parameters of each of `steps` take at most once it is fitted, those of one group.

    Parameters
    ----------
    steps : sequence of Step
        Bound.
    sizes : mapping of str to int
        The dims, in order, and sizes of what they are given.
    """
    found = []
    for step in steps:
        features = math.prod(sizes[dim] for dim in step.fitted_per or ())
        values = math.prod(sizes.values()) // max(1, features)
        stored, derived = step.parameter_count(features, values), step.derived_count(features)
        found.append(ParameterBytes() if step.fitted_per is None else ParameterBytes(stored * ITEM_BYTES, derived * ITEM_BYTES))
        sizes = step.output_sizes(sizes)
    return found


def together(parts: Iterable[ParameterBytes], groups: int = 1) -> ParameterBytes:
    """What `parts` take, of so many groups each."""
    found = list(parts)
    return ParameterBytes(groups * sum(each.stored for each in found), groups * sum(each.derived for each in found))
