"""Products of rows with a matrix whose bits depend on the row and the matrix alone: not on BLAS, threads, or other rows.

Not here: what the matrix stands for (`whiten.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.normalize.step import Floats

MANTISSA_BITS = 53
SLICES = 3

Exponents: TypeAlias = NDArray[np.intc]


@dataclass(frozen=True, eq=False)
class SlicedMatrix:
    """A matrix cut into slices of whole numbers, so small that no product with rows cut alike is ever rounded.

    The method of Ozaki et al. (2012, doi:10.1007/s11075-011-9478-1). A row of length n times a column of it is the sum of six
    products of slices; with ``(53 - log2(n)) / 2`` bits a slice, each of them is a whole number of at most 2^53, exact in
    whatever order, with whatever instructions and on however many threads a BLAS adds it up. (A plain BLAS product of the
    same row differs in its last bits with the row's place among other rows.) What is left out lies below
    ``n * 2**-58`` of the largest element of the row times that of the column, which is less than a plain product is off by.

    Parameters
    ----------
    slices : tuple of three ndarrays of float64
        Whole numbers; the shape of the matrix, (length, columns).
    exponents : ndarray of int
        Of each column: it is ``(slices[0] + slices[1] * 2**-bits + ...) * 2**(exponent - bits)``.
    bits : int
        The size of a slice.

    Examples
    --------
    >>> matrix = SlicedMatrix.cut(np.array([[1.0, 0.5], [0.0, 2.0]]))
    >>> multiply(np.array([[3.0, 4.0]]), matrix)
    array([[3. , 9.5]])
    """

    slices: tuple[Floats, ...]
    exponents: Exponents
    bits: int

    @classmethod
    def cut(cls, matrix: Floats) -> SlicedMatrix:
        """The slices of `matrix`, which is finite, of shape (length, columns)."""
        bits = slice_bits(len(matrix))
        exponents = _exponents(matrix, axis=0)
        return cls(_cut(matrix, exponents, bits), exponents, bits)


def slice_bits(length: int) -> int:
    """The most bits such that `length` products of two numbers of so many bits have a sum of at most 2^53.

    Examples
    --------
    >>> slice_bits(784), slice_bits(1)
    (21, 26)
    """
    return (MANTISSA_BITS - (length - 1).bit_length()) // 2


def multiply(rows: Floats, matrix: SlicedMatrix) -> Floats:
    """``rows @ matrix``.

    Parameters
    ----------
    rows : ndarray of float64
        Finite, of shape (rows, length).
    matrix : SlicedMatrix

    Returns
    -------
    ndarray of float64
        Shape (rows, columns); infinite where it overflows.
    """
    exponents = _exponents(rows, axis=1)[:, np.newaxis]
    one, two, three = _cut(rows, exponents, matrix.bits)
    first, second, third = matrix.slices
    with np.errstate(all="ignore"):  # some BLAS leave flags behind
        leading = one @ first
        middle = one @ second + two @ first
        trailing = one @ third + two @ second + three @ first
        total = np.ldexp(np.ldexp(trailing, -matrix.bits) + middle, -matrix.bits) + leading
        return np.asarray(np.ldexp(total, exponents + matrix.exponents - 2 * matrix.bits))


def _exponents(matrix: Floats, axis: int) -> Exponents:
    """The least e such that all magnitudes along `axis` are below 2^e."""
    _, exponents = np.frexp(np.abs(matrix).max(axis=axis, initial=0.0))
    return np.asarray(exponents)


def _cut(matrix: Floats, exponents: Exponents, bits: int) -> tuple[Floats, ...]:
    """Whole numbers of at most 2^bits, each slice the rounded rest of the one before it times 2^bits."""
    slices = []
    rest = np.ldexp(matrix, bits - exponents)
    for _ in range(SLICES):
        slices.append(np.rint(rest))
        rest = np.ldexp(rest - slices[-1], bits)
    return tuple(slices)
