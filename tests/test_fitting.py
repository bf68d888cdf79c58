"""What follows from a histogram without a read is what a read would have given."""

from __future__ import annotations

import numpy as np
import pytest
import xarray

from pipeline import fit
from pipeline.errors import DataError
from pipeline.fitting import mapped_distribution
from pipeline.normalize.elementwise import Affine
from pipeline.normalize.standard import ZScore
from pipeline.statistics import Distribution, FloatHistogram

VALUES = np.random.default_rng(3).integers(0, 3, (50, 4)) * np.array([1, 20, 3, 5]) + np.array([0, 100, 7, 200])
CHAIN = [{"minmax": {"per": ["gene"]}}, "log1p", {"zscore": {"per": ["gene"]}}]


@pytest.mark.parametrize("dtype", ["uint8", "int16"])
def test_values_that_only_other_features_have_are_never_asked_about(dtype: str) -> None:
    """0 occurs in the first gene; in the second, whose range is 100 to 140, log1p would refuse it."""
    derived, read = (
        fit(xarray.DataArray(VALUES.astype(kind), dims=("cell", "gene")), normalize=CHAIN) for kind in (dtype, "f8")
    )
    for one, other in zip(derived.chain.steps, read.chain.steps, strict=True):
        for name, values in one.parameters.items():
            assert values.tobytes() == other.parameters[name].tobytes()


@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_an_error_in_what_is_derived_names_the_step_that_met_it(dtype: str) -> None:
    """Also behind a selection, which is put before the others."""
    coarse = {"affine": {"shift": 1e300}} if dtype == "float64" else {"affine": {"shift": -1e4}}
    refusing = [coarse] if dtype == "float64" else [coarse, "log1p"]
    chain = [{"maxabs": {"per": ["gene"]}}, {"select": {"dim": "gene", "k": 2}}, *refusing, {"zscore": {"per": ["gene"]}}]
    values = xarray.DataArray(VALUES.astype(dtype), dims=("cell", "gene"))
    with pytest.raises(DataError) as caught:
        fit(values, normalize=chain)
    assert caught.value.where == ("normalize.2.affine" if dtype == "float64" else "normalize.3.log1p")


def _distribution(values: np.ndarray) -> Distribution:
    return FloatHistogram.empty(values.shape[1:], values.dtype).update(values, tuple(range(1, values.ndim))).distribution()


def test_a_distribution_goes_through_the_step_itself() -> None:
    """To the last bit, where a formula that is equal but for rounding would part ties."""
    values = np.random.default_rng(3).integers(-50, 60, (400, 3)) / 10
    step = ZScore(per=("gene",), gamma=(0.3, -4.0, 0.7), beta=0.1).restore(
        {"mean": np.array([1.1, -2.3, 3.0]), "std": np.array([0.7, 4.9, 1.3]), "gamma": np.array([0.3, -4.0, 0.7])}
    )
    mapped, expected = (
        mapped_distribution(_distribution(values), step, ("gene",)),
        _distribution(step(values, ("cell", "gene"))),
    )
    for name in ("values", "counts", "ends"):
        assert getattr(mapped, name).tobytes() == getattr(expected, name).tobytes()
    assert mapped.origin is not None
    np.testing.assert_allclose(mapped.origin, step(np.zeros((1, 3)), ("cell", "gene"))[0], rtol=1e-15)


def test_features_without_parameters_lose_their_values() -> None:
    step = ZScore(per=("gene",)).restore({"mean": np.array([1.0, np.nan]), "std": np.array([2.0, np.nan])})
    mapped = mapped_distribution(_distribution(np.ones((40, 2))), step, ("gene",))
    assert mapped.nobs().tolist() == [40, 0]
    nothing = mapped_distribution(_distribution(np.full((4, 2), np.nan)), step, ("gene",))
    assert nothing.nobs().tolist() == [0, 0]


def test_the_error_after_it_is_relative_to_the_distance_from_the_origin() -> None:
    values = np.random.default_rng(4).lognormal(0, 9, 200_000)
    distribution = _distribution(values)
    moved = mapped_distribution(distribution, Affine(scale=-2.0, shift=11.0).fit(None), ())
    assert moved.relative_error == distribution.relative_error > 0
    assert moved.origin is not None and float(moved.origin) == 11.0
    probabilities = np.linspace(0, 1, 41)
    exact = np.quantile(values * -2 + 11, probabilities, method="lower")
    found = moved.quantile(np.floor(probabilities * (values.size - 1)) / (values.size - 1))
    assert (np.abs(found - exact) <= moved.relative_error * np.abs(exact - 11.0) * 1.0001).all()
