"""What the tests of the steps share: statistics of small arrays, fitted steps and fitted chains."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.normalize import FittedChain, FittedStep, Input, bind_chain, default_output_dtype, parse_chain, run_steps
from pipeline.statistics.describe import Statistics
from pipeline.statistics.moments import Moments


def _statistics(values, dims, per, nan_policy="skip") -> Statistics:
    axes = tuple(axis for axis, dim in enumerate(dims) if dim in per)
    shape = tuple(values.shape[axis] for axis in axes)
    return Moments.empty(shape, values.dtype).update(values, axes).statistics(nan_policy)


def _chain(entries, values, dims=("sample", "feature"), output_dtype=None, nan_policy="skip") -> FittedChain:
    """`entries` fitted to `values`, whose first dim is the sample dim; every step sees what the steps before it put out."""
    steps: list[FittedStep] = []
    for step in bind_chain(parse_chain(entries), Input(dims, dims[0], values.dtype)):
        seen = run_steps(steps, np.array(values, np.float64), dims) if steps else values
        statistics = None if step.fitted_per is None else _statistics(seen, dims, step.fitted_per, nan_policy)
        steps.append(step.fit(statistics))
    dtype = default_output_dtype(values.dtype) if output_dtype is None else np.dtype(output_dtype)
    return FittedChain(tuple(steps), dims, dims[0], values.dtype, dtype)


@pytest.fixture
def statistics_of() -> Callable[..., Statistics]:
    """`statistics_of(values, dims, per, nan_policy)`."""
    return _statistics


@pytest.fixture
def chain_of() -> Callable[..., FittedChain]:
    """`chain_of(entries, values, dims, output_dtype, nan_policy)`."""
    return _chain


@pytest.fixture
def fitted() -> Callable[..., FittedStep]:
    """`fitted(entry, values, dims, nan_policy)`: one step fitted to `values`."""

    def fit(entry, values, dims=("sample", "feature"), nan_policy="skip") -> FittedStep:
        return _chain([entry], values, dims, None, nan_policy).steps[0]

    return fit
