"""The dims of an output, where a chain keeps a part of its input's, or puts others in their place.

Not here: what becomes of the arrays around (`around.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.source.zarr_source import ZarrSource

Kept: TypeAlias = Mapping[str, NDArray[np.intp]]


@dataclass(frozen=True, eq=False)
class Extent:
    """The dims of an output and what it keeps of its input's.

    Parameters
    ----------
    sizes : mapping of str to int
        The dims, in order, with their sizes.
    kept : mapping of str to ndarray of intp
        For each dim of which the output has a part, the positions in the input that it has.
    """

    sizes: Mapping[str, int]
    kept: Kept = field(default_factory=dict)

    @classmethod
    def of(cls, template: ZarrSource) -> Self:
        """That of an output with all the dims of `template`."""
        return cls(dict(zip(template.dims, template.shape, strict=True)))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.sizes.values())

    def along(self, template: ZarrSource, unit: tuple[int, ...]) -> tuple[int, ...]:
        """`unit`, such as the chunks of `template`, for the output: everything along a dim that `template` does not have."""
        own = dict(zip(template.dims, unit, strict=True))
        return tuple(own.get(dim, size) for dim, size in self.sizes.items())
