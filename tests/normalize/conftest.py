"""What the tests of the steps share: statistics of small arrays, fitted steps and fitted chains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod

import numpy as np
import pytest

from pipeline.normalize import FittedChain, FittedStep, Input, bind_chain, default_output_dtype, parse_chain, run_steps
from pipeline.statistics.covariance import CovarianceSums
from pipeline.statistics.describe import Statistics
from pipeline.statistics.distribution import Distribution, from_entries
from pipeline.statistics.moments import Moments


def _statistics(values, dims, per, nan_policy="skip", requires=frozenset()) -> Statistics:
    axes = tuple(axis for axis, dim in enumerate(dims) if dim in per)
    shape = tuple(values.shape[axis] for axis in axes)
    statistics = Moments.empty(shape, values.dtype).update(values, axes).statistics(nan_policy)
    covariance = CovarianceSums.empty(shape, values.dtype).update(values, axes) if "covariance" in requires else None
    return replace(statistics, distribution=exact_distribution(values, axes), covariance=covariance)


def exact_distribution(values, axes) -> Distribution:
    """The finite values of every feature, sorted and counted; `axes` are the feature axes."""
    moved = np.moveaxis(np.asarray(values, np.float64), axes, range(len(axes)))
    shape = moved.shape[: len(axes)]
    lists = [np.unique(each[np.isfinite(each)], return_counts=True) for each in moved.reshape(prod(shape), -1)]
    found, counts = (np.concatenate(parts) for parts in zip(*lists, strict=True))
    ends = np.cumsum([len(each) for each, _ in lists])
    return Distribution(shape, found + 0.0, counts.astype(np.int64), ends.astype(np.int64))


def _chain(entries, values, dims=("sample", "feature"), output_dtype=None, nan_policy="skip") -> FittedChain:
    """`entries` fitted to `values`, whose first dim is the sample dim; every step sees what the steps before it put out."""
    steps: list[FittedStep] = []
    left = dict(zip(dims, values.shape, strict=True))
    for step in bind_chain(parse_chain(entries), Input(dims, dims[0], values.dtype)):
        seen = run_steps(steps, np.array(values, np.float64), dims) if steps else values
        fit = _observing if step.observes else _fitted
        steps.append(fit(step, seen, tuple(left), nan_policy))
        left = step.output_sizes(left)
    dtype = default_output_dtype(values.dtype) if output_dtype is None else np.dtype(output_dtype)
    return FittedChain(tuple(steps), dims, dims[0], values.dtype, dtype)


def _fitted(step, values, dims, nan_policy) -> FittedStep:
    statistics = None if step.fitted_per is None else _statistics(values, dims, step.fitted_per, nan_policy, step.requires)
    return step.fit(statistics)


def _observing(step, values, dims, nan_policy) -> FittedStep:
    """`step` fitted to what it observes, and that to what it observes."""
    below = step.observes
    observer = _observing(below, values, dims, nan_policy) if below.observes else _fitted(below, values, dims, nan_policy)
    seen = run_steps([observer], np.array(values, np.float64), dims)
    return step.fit_observed(_statistics(seen, dims, step.fitted_per, nan_policy), observer)


@pytest.fixture
def statistics_of() -> Callable[..., Statistics]:
    """`statistics_of(values, dims, per, nan_policy, requires)`: with a covariance only where that is among `requires`."""
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


@pytest.fixture
def rounded_statistics() -> Callable[..., Statistics]:
    """`rounded_statistics(values)`: statistics per column with a distribution whose values are rounded to 8 binary digits."""

    def make(values) -> Statistics:
        exact = exact_distribution(values, (1,))
        mantissa, exponent = np.frexp(exact.values)
        rounded = np.ldexp(np.rint(mantissa * 2**8), exponent - 8)
        radius = np.where(rounded == exact.values, 0.0, np.abs(rounded) * 2.0**-8)
        features = np.repeat(np.arange(len(exact.ends)), np.diff(exact.ends, prepend=0))
        distribution = from_entries(exact.feature_shape, features, rounded, exact.counts, radius)
        return replace(_statistics(values, ("sample", "feature"), ("feature",)), distribution=distribution)

    return make


@pytest.fixture(scope="session")
def exact_statistics() -> Callable[..., Statistics]:
    """`exact_statistics(values)` of a list of values; as a fixture of the session it goes with hypothesis."""
    return lambda values: _statistics(values, ("sample",), ())
