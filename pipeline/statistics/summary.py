"""What every summary is: a commutative monoid over blocks, with arrays out and in.

Not here: any particular summary, and what is derived from one (`describe.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.block import Block


class Summary(Protocol):
    """Mergeable sufficient statistics of some values, one set for every feature.

    Immutable. `merge` is associative and commutative with `empty` as its identity, and bit for bit so: a summary is
    a function of the multiset of values it was given, never of how they were partitioned or ordered.

    A *feature* is one position along the dims that are kept; `feature_shape` has one size for each of those dims, in
    the array's order, and is `()` where one set of statistics is kept for everything.

    Attributes
    ----------
    name : str
        Key of `SUMMARIES`.
    bitwise : bool
        Whether the laws hold bit for bit; where not, the docstring gives the bound within which they hold.
    whole_features : bool
        Whether a block must hold all features, because what is summarized are relations between them.
    """

    name: ClassVar[str]
    bitwise: ClassVar[bool]
    whole_features: ClassVar[bool]

    @property
    def feature_shape(self) -> tuple[int, ...]: ...

    @classmethod
    def empty(cls, feature_shape: tuple[int, ...], dtype: np.dtype[Any], among: int | None = None) -> Self:
        """The summary of no values of `dtype`.

        The features may be a part of so many, `among`; by default they are all. It matters only to a summary that keeps less of
        each feature where there are more, and such parts are merged only with parts of as many.
        """
        ...

    def update(self, values: NDArray[Any], feature_axes: tuple[int, ...]) -> Self:
        """This summary merged with that of `values`, whose `feature_axes` (ascending) are kept and others reduced."""
        ...

    def merge(self, other: Self) -> Self:
        """The summary of the values of both."""
        ...

    def sum_features(self, axes: tuple[int, ...]) -> Self:
        """The summary that would have been kept without the feature axes `axes`."""
        ...

    @classmethod
    def join(cls, parts: Sequence[tuple[Block, Self]], feature_shape: tuple[int, ...]) -> Self:
        """One summary from those of disjoint boxes of features that tile `feature_shape`."""
        ...

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The whole state, canonical: equal states give equal arrays, bit for bit."""
        ...

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The summary that gave `arrays`; raises ManifestError where they do not fit together."""
        ...
