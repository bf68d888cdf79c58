"""Buckets that hold one value many times and others seldom, told apart.

Not here: how the value is found (`kernel_ties.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.statistics.buckets import Buckets, lengths_of
from pipeline.statistics.distribution import Distribution, Floats, Frequencies, Integers, from_entries


def split_ties(buckets: Buckets, counts: Frequencies, set_bits: Frequencies, given: Distribution) -> Distribution:
    """`given`, which has an entry for each of the buckets, with more for those that are mostly one value.

    Of such a bucket that value, exactly, and what is beside it. As it is not known on which side of the value the few others
    are, as many of its occurrences as there are others, or a few more, are put with them on either side: all that are left
    are the value for certain.

    Parameters
    ----------
    buckets : Buckets
    counts : ndarray of int64 or float64
        Shape (entries,): what counts as their counts.
    set_bits : ndarray of int64 or float64
        Shape (features, 4, 46), as `FloatHistogram` has them.
    given : Distribution
    """
    from pipeline.statistics.kernel_ties import find_ties

    if given.radius is None or given.even is None:
        return given
    ties, loose = np.empty_like(buckets.keys), np.empty(buckets.keys.shape)
    find_ties((buckets.keys, buckets.sizes, counts, buckets.ends), set_bits, ties, loose)
    found = np.flatnonzero(loose >= 0)
    if not len(found):
        return given
    features = np.repeat(np.arange(len(buckets.ends)), lengths_of(buckets.ends))
    values, radius, even = given.values.copy(), given.radius.copy(), given.even.copy()
    own: NDArray[Any] = counts.copy()
    values[found], radius[found], even[found] = numbers(ties[found]), 0.0, False
    others = (loose[found] if counts.dtype.kind == "f" else np.ceil(loose[found])).astype(counts.dtype)
    last = buckets.keys[found] + ((np.int64(1) << buckets.sizes[found].astype(np.int64)) - 1)
    split: list[tuple[Integers, Floats, NDArray[Any]]] = []
    for end in (buckets.keys[found], last):
        beside = (others > 0) & (end != ties[found])
        own[found[beside]] -= others[beside]
        split.append((found[beside], (numbers(end[beside]) - values[found[beside]]) / 2, others[beside]))
    at, half, many = (np.concatenate(each) for each in zip(*split, strict=True))
    return from_entries(
        given.feature_shape,
        np.insert(features, at, features[at]),
        np.insert(values, at, values[at] + half),
        np.insert(own, at, many),
        np.insert(radius, at, np.abs(half) + np.spacing(np.abs(values[at]))),
        np.insert(even, at, False),
    )


def numbers(keys: Integers) -> Floats:
    """The numbers that keys stand for."""
    patterns = keys ^ ((keys >> 63) & np.int64(2**63 - 1))
    return patterns.view(np.float64)
