"""Exact sums of powers, kept as fixed-point numbers of 32-bit words.

Not here: how data are added up (`accumulate.py`) and what is derived from the sums (`describe.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import EllipsisType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.block import Block
from pipeline.errors import ManifestError
from pipeline.statistics.arrays import take

POWERS = (1, 2, 3, 4)
WORD_BITS = 32
WORD_MASK = 2**WORD_BITS - 1

Words: TypeAlias = NDArray[np.uint32]
Limbs: TypeAlias = NDArray[np.int64]
Index: TypeAlias = tuple[slice, ...] | EllipsisType


@dataclass(frozen=True, eq=False)
class PowerSums:
    """Σx, Σx², Σx³ and Σx⁴ of every feature, exactly.

    Every finite float64 and every integer is a whole multiple of some power of two, and so are the sums of their powers.
    Such a sum is kept in two's complement, as words that stand for 2^(32·(low + j)): adding is then associative, nothing
    is ever rounded, and the order of adding leaves no trace.

    Canonical: the words of a power span the smallest window that holds the sums of all features, so that equal sums
    have equal arrays. A power whose sums are all zero has no words, and `low` 0.

    Parameters
    ----------
    words : tuple of ndarray of uint32
        For each power 1 to 4 an array of shape (word count,) + feature shape, least significant word first.
    lows : tuple of int
        For each power, the position of its first word in units of 32 bits.

    Examples
    --------
    >>> sums = PowerSums.from_integers(([3, -1], [5, 1], [9, -1], [17, 1]), (0, 0, 0, 0), (2,))
    >>> (sums + sums).to_integers(1)
    ([6, -2], 0)
    """

    words: tuple[Words, ...]
    lows: tuple[int, ...]

    @property
    def feature_shape(self) -> tuple[int, ...]:
        return self.words[0].shape[1:]

    @classmethod
    def zero(cls, feature_shape: tuple[int, ...]) -> PowerSums:
        """The sums of no values."""
        return cls(tuple(np.zeros((0, *feature_shape), np.uint32) for _ in POWERS), (0,) * len(POWERS))

    @classmethod
    def from_limbs(cls, limbs: Sequence[Limbs], lows: Sequence[int]) -> PowerSums:
        """The sums given as words that may overlap: `limbs` are laid out like `words`, signed and below 2^62 in magnitude."""
        pairs = [_canonical(power, low) for power, low in zip(limbs, lows, strict=True)]
        return cls(tuple(words for words, _ in pairs), tuple(low for _, low in pairs))

    @classmethod
    def from_integers(
        cls, sums: Sequence[Sequence[int]], exponents: Sequence[int], feature_shape: tuple[int, ...]
    ) -> PowerSums:
        """The sums `integer · 2^exponent`: for each power one integer a feature, in C order, and one exponent."""
        limbs = [_limbs_of(power, exponent % WORD_BITS, feature_shape) for power, exponent in zip(sums, exponents, strict=True)]
        return cls.from_limbs(limbs, [exponent // WORD_BITS for exponent in exponents])

    def to_integers(self, power: int) -> tuple[list[int], int]:
        """(one integer a feature in C order, exponent): the sum of that power is `integer · 2^exponent`."""
        words = self.words[power - 1]
        count = words.shape[0]
        if count == 0:
            return [0] * prod(self.feature_shape), 0
        raw = np.ascontiguousarray(words.reshape(count, -1).T).astype("<u4").tobytes()
        width = 4 * count
        integers = [int.from_bytes(raw[at : at + width], "little", signed=True) for at in range(0, len(raw), width)]
        return integers, WORD_BITS * self.lows[power - 1]

    def common_integers(self) -> tuple[list[list[int]], int]:
        """(integers of the four powers, unit): the sum of power k is `integer · 2^(k·unit)`."""
        present = [power for power in POWERS if len(self.words[power - 1])]
        unit = min((WORD_BITS * self.lows[power - 1] // power for power in present), default=0)
        common = [[0] * prod(self.feature_shape) for _ in POWERS]
        for power in present:
            integers, exponent = self.to_integers(power)
            common[power - 1] = [integer << (exponent - power * unit) for integer in integers]
        return common, unit

    def __add__(self, other: PowerSums) -> PowerSums:
        return self._gather([(..., self), (..., other)], self.feature_shape)

    def sum_features(self, axes: tuple[int, ...]) -> PowerSums:
        """The sums without the feature axes `axes`."""
        behind = tuple(axis + 1 for axis in axes)
        return self.from_limbs([_signed(words).sum(axis=behind) for words in self.words], self.lows)

    def take_features(self, axis: int, positions: NDArray[np.intp]) -> PowerSums:
        """The sums of the features at `positions` along one feature axis."""
        return self.from_limbs([_signed(words).take(positions, axis=axis + 1) for words in self.words], self.lows)

    @classmethod
    def join(cls, parts: Sequence[tuple[Block, PowerSums]], feature_shape: tuple[int, ...]) -> PowerSums:
        """The sums of disjoint boxes of features that tile `feature_shape`."""
        return cls._gather([(box.slices, sums) for box, sums in parts], feature_shape)

    @classmethod
    def _gather(cls, parts: Sequence[tuple[Index, PowerSums]], feature_shape: tuple[int, ...]) -> PowerSums:
        windows = [_gather([(index, sums.words[k], sums.lows[k]) for index, sums in parts], feature_shape) for k in range(4)]
        return cls.from_limbs([limbs for limbs, _ in windows], [low for _, low in windows])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The whole state: `sum1` to `sum4`, the words of each power, and `sum_lows`."""
        named: dict[str, NDArray[Any]] = {f"sum{power}": self.words[power - 1] for power in POWERS}
        return {**named, "sum_lows": np.array(self.lows, np.int64)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], feature_shape: tuple[int, ...]) -> PowerSums:
        """The sums that gave `arrays`; raises ManifestError where they do not fit together."""
        words = tuple(take(arrays, f"sum{power}", np.uint32) for power in POWERS)
        lows = take(arrays, "sum_lows", np.int64, (len(POWERS),))
        for power, array in zip(POWERS, words, strict=True):
            if array.ndim != len(feature_shape) + 1 or array.shape[1:] != feature_shape:
                expected = ("words", *feature_shape)
                raise ManifestError("array of the wrong shape", where=f"sum{power}", found=array.shape, expected=expected)
        return cls(words, tuple(int(low) for low in lows))


def _signed(words: Words) -> Limbs:
    """The same number with only the topmost word negative, so that limbs can be added."""
    limbs = words.astype(np.int64)
    if len(limbs):
        limbs[-1] = words[-1].view(np.int32)
    return limbs


def _gather(parts: Sequence[tuple[Index, Words, int]], feature_shape: tuple[int, ...]) -> tuple[Limbs, int]:
    """(limbs, low): the sum of `parts`, each at its place among the features."""
    filled = [(index, words, low) for index, words, low in parts if len(words)]
    low = min((low for _, _, low in filled), default=0)
    high = max((low + len(words) for _, words, low in filled), default=0)
    limbs = np.zeros((high - low, *feature_shape), np.int64)
    for index, words, first in filled:
        window = limbs[first - low : first - low + len(words)]
        target = window if index is ... else window[(slice(None), *index)]
        target += _signed(words)
    return limbs, low


def _canonical(limbs: Limbs, low: int) -> tuple[Words, int]:
    """The words of `limbs` with carries done, cut to the smallest window, and their low."""
    words = _carried(limbs)
    used = words.reshape(len(words), -1).any(axis=1)
    if not used.any():
        return words[:0], 0
    first, last = int(np.argmax(used)), len(words) - 1
    while last > first and _is_sign(words[last], words[last - 1]):
        last -= 1
    return words[first : last + 1].copy(), low + first


def _carried(limbs: Limbs) -> Words:
    """Two's complement words of `limbs`, with two more than they have: no carry is lost."""
    words = np.empty((len(limbs) + 2, *limbs.shape[1:]), np.uint32)
    carry = np.zeros(limbs.shape[1:], np.int64)
    for position in range(len(words)):
        total = limbs[position] + carry if position < len(limbs) else carry
        words[position] = total & WORD_MASK
        carry = total >> WORD_BITS
    return words


def _is_sign(word: Words, below: Words) -> bool:
    """Whether `word` only repeats the sign of the word `below` it, in every feature."""
    return bool(np.array_equal(word, np.where(below >> 31, np.uint32(WORD_MASK), np.uint32(0))))


def _limbs_of(integers: Sequence[int], shift: int, feature_shape: tuple[int, ...]) -> Limbs:
    """The words of `integer · 2^shift`, sign-extended to a common number of words."""
    shifted = [integer << shift for integer in integers]
    count = max((integer.bit_length() for integer in shifted), default=0) // WORD_BITS + 1
    raw = b"".join(integer.to_bytes(4 * count, "little", signed=True) for integer in shifted)
    words = np.frombuffer(raw, "<u4").reshape(len(shifted), count).T
    return _signed(words.astype(np.uint32).reshape(count, *feature_shape))
