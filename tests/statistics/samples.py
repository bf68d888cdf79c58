"""Arrays to summarize, and ways to cut them. Not here: what must hold of the summaries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

FLOATS = ("float16", "float32", "float64")
INTEGERS = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
SMALL_INTEGERS = ("bool", "int8", "uint8", "int16", "uint16")
DTYPES = {
    "moments": FLOATS + INTEGERS,
    "histogram": SMALL_INTEGERS,
    "float_histogram": FLOATS + INTEGERS,
    "covariance": FLOATS + INTEGERS,
    "deviations": FLOATS + INTEGERS,
}

EXTREMES = (0.0, -0.0, 5e-324, -2.5e-310, 1e308, -1.7976931348623157e308, np.nan, np.inf, -np.inf, 1.0, 2.0**-1022)


def elements(dtype: np.dtype[Any], moderate: bool = False) -> st.SearchStrategy[Any]:
    """Anything of `dtype`; of floats often an extreme, or one at mean 1e8, and no extreme ones if `moderate`."""
    if dtype.kind != "f":
        return hnp.from_dtype(dtype)
    largest = np.finfo(dtype).max
    if moderate:
        bound = min(float(largest), 2.0**80)
        return st.floats(-bound, bound, width=8 * dtype.itemsize, allow_subnormal=False)
    extremes = np.array(EXTREMES).clip(-largest, largest).astype(dtype)
    mean = 1e8 if dtype.itemsize > 2 else 2048
    near = (mean + np.linspace(-3, 3, 40)).astype(dtype)
    return st.one_of(hnp.from_dtype(dtype), st.sampled_from(near.tolist()), st.sampled_from(extremes.tolist()))


@st.composite
def arrays(draw: st.DrawFn, dtypes: tuple[str, ...], max_side: int = 5, moderate: bool = False) -> NDArray[Any]:
    """Arrays of three dims, sizes of 0 among them."""
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=max_side))
    if draw(st.integers(0, 9)) == 0:
        shape = (0, *shape[1:])
    return draw(hnp.arrays(dtype, shape, elements=elements(dtype, moderate)))


def axes_of(ndim: int) -> st.SearchStrategy[tuple[int, ...]]:
    """Which axes are kept."""
    return st.sets(st.integers(0, ndim - 1)).map(lambda axes: tuple(sorted(axes)))


def layouts(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The same values laid out in memory in other ways."""
    yield np.asfortranarray(values)
    yield np.ascontiguousarray(values.T).T
    yield np.ascontiguousarray(values[::-1])[::-1]
    spaced = np.zeros(tuple(2 * size for size in values.shape), values.dtype)
    spaced[tuple(slice(None, None, 2) for _ in values.shape)] = values
    yield spaced[tuple(slice(None, None, 2) for _ in values.shape)]
    yield values.astype(values.dtype.newbyteorder(">"))
