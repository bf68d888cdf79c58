"""Products that are the same bits wherever a row stands, and as near to the exact product as float64 gets."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.normalize.products import SlicedMatrix, multiply, slice_bits

ROOT = Path(__file__).parents[2]
DIGEST = """
import hashlib, numpy as np
from pipeline.normalize.products import SlicedMatrix, multiply
rng = np.random.default_rng(3)
rows, matrix = rng.standard_normal((37, 301)), rng.standard_normal((301, 301))
print(hashlib.sha256(multiply(rows, SlicedMatrix.cut(matrix)).tobytes()).hexdigest())
"""


@pytest.mark.parametrize("length", [1, 2, 3, 1024, 1025, 60_000])
def test_slices_never_sum_to_more_than_float64_counts_exactly(length):
    bits = slice_bits(length)
    assert length * 2 ** (2 * bits) <= 2**53 < length * 2 ** (2 * bits + 4)


@pytest.mark.parametrize(("length", "columns"), [(1, 1), (7, 3), (255, 40), (300, 17)])
def test_every_subset_of_rows_gives_the_same_bits(length, columns):
    """A plain BLAS product does not: 255 and 300 are lengths for which that was seen."""
    rng = np.random.default_rng(length)
    rows = rng.standard_normal((70, length)) * 10.0 ** rng.integers(-9, 9, (70, length))
    matrix = SlicedMatrix.cut(rng.standard_normal((length, columns)) * 10.0 ** rng.integers(-9, 9, (length, columns)))
    whole = multiply(rows, matrix)
    assert np.concatenate([multiply(row[np.newaxis], matrix) for row in rows]).tobytes() == whole.tobytes()

    @settings(derandomize=True, max_examples=30, deadline=None)
    @given(chosen=st.lists(st.integers(0, 69), min_size=1, max_size=140))
    def check(chosen):
        assert multiply(rows[chosen], matrix).tobytes() == whole[chosen].tobytes()

    check()


def test_any_number_of_threads_and_any_kernel_give_the_same_bits():
    settings_of_blas = [("1", ""), ("2", ""), ("1", "Haswell"), ("2", "Nehalem")]
    digests = {_digest(threads, kernel) for threads, kernel in settings_of_blas}
    assert len(digests) == 1


def _digest(threads, kernel):
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONPATH": str(ROOT)}
    environment |= {"OPENBLAS_CORETYPE": kernel} if kernel else {}
    done = subprocess.run([sys.executable, "-c", DIGEST], env=environment, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("spread", [0, 8])
def test_nearer_to_the_exact_product_than_float64_promises(spread):
    """Off by no more than one rounding, and 2^-50 of the largest element of the row times that of the column."""
    rng = np.random.default_rng(spread)
    rows = rng.standard_normal((3, 40)) * 10.0 ** rng.integers(-spread, spread + 1, (3, 40))
    matrix = rng.standard_normal((40, 4)) * 10.0 ** rng.integers(-spread, spread + 1, (40, 4))
    product = multiply(rows, SlicedMatrix.cut(matrix))
    for row, results in zip(rows, product, strict=True):
        for column, result in zip(matrix.T, results, strict=True):
            exact = sum(Fraction(x) * Fraction(w) for x, w in zip(row.tolist(), column.tolist(), strict=True))
            slack = Fraction(abs(row).max()) * Fraction(abs(column).max()) / 2**50
            assert abs(Fraction(float(result)) - exact) <= abs(exact) / 2**52 + slack


@pytest.mark.parametrize("exponents", [(-1074, 600), (1000, -1000), (500, 500), (-600, -400)])
def test_magnitudes_at_the_ends_of_float64(exponents):
    row, column = np.array([[3.0, -4.0, 0.0]]), np.array([[1.0], [0.5], [7.0]])
    product = multiply(np.ldexp(row, exponents[0]), SlicedMatrix.cut(np.ldexp(column, exponents[1])))
    np.testing.assert_array_equal(product, np.ldexp([[1.0]], sum(exponents)))


def test_zeros_and_overflow():
    matrix = SlicedMatrix.cut(np.zeros((2, 2)))
    np.testing.assert_array_equal(multiply(np.array([[1.0, 2.0]]), matrix), [[0.0, 0.0]])
    assert np.isinf(multiply(np.array([[1e300]]), SlicedMatrix.cut(np.array([[1e300]])))).all()
