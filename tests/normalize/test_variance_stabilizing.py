"""Arcsinh and anscombe at the edges, the base of log1p, and NaN replaced."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.normalize import parse_chain
from pipeline.normalize.elementwise import Log1p
from pipeline.normalize.missing import FillNa
from pipeline.normalize.variance_stabilizing import Anscombe, Arcsinh

NAN, INF = np.nan, np.inf
SAMPLE = ("sample",)


def test_arcsinh_is_odd_linear_near_zero_and_logarithmic_far_from_it():
    """Against the definition log(x + sqrt(x² + 1)), to 1e-14."""
    values = np.array([0.25, 1.0, 3.0, 500.0, 1e8])
    expected = [math.log(x / 5 + math.hypot(x / 5, 1)) for x in values]
    step = Arcsinh(cofactor=5).fit()
    np.testing.assert_allclose(step(values, SAMPLE), expected, rtol=1e-14)
    np.testing.assert_array_equal(step(-values, SAMPLE), -step(values, SAMPLE))
    np.testing.assert_array_equal(Arcsinh().fit()(np.array([1e-300, INF, -INF, NAN]), SAMPLE), [1e-300, INF, -INF, NAN])


def test_arcsinh_overflow_is_an_error(chain_of):
    chain = chain_of([{"arcsinh": {"cofactor": 0.1}}], np.ones((1, 1)))
    for function, value in ((chain, 1e308), (chain.inverse, 1000.0)):
        with pytest.raises(DataError, match="overflow float64") as caught:
            function(np.array([[value]]))
        assert caught.value.where == "normalize.0.arcsinh"


@pytest.mark.parametrize("mean", [10, 100, 10_000])
def test_anscombe_gives_poisson_counts_unit_variance(mean):
    """To 3 %: 20,000 counts know a variance to 1 %."""
    counts = np.random.default_rng(mean).poisson(mean, 20_000).astype(np.float64)
    assert abs(Anscombe().fit()(counts, SAMPLE).var() - 1) < 0.03


def test_anscombe_and_its_algebraic_inverse():
    """Exact to 1e-15, relative to x + 3/8."""
    step = Anscombe().fit()
    counts = np.array([-0.375, 0.0, 0.625, 7.0, 1e6, INF, NAN])
    output = step(counts, SAMPLE)
    np.testing.assert_array_equal(output[[0, 2, 5, 6]], [0.0, 2.0, INF, NAN])
    np.testing.assert_allclose(step.inverse(output, SAMPLE), counts, rtol=1e-15, atol=4e-16)
    np.testing.assert_array_equal(step.inverse(np.array([-1.0, 0.0]), SAMPLE), [-0.375, -0.375])


@pytest.mark.parametrize("wrong", [-0.5, -INF])
def test_anscombe_refuses_what_has_no_root(wrong, chain_of):
    values = np.array([[1.0], [wrong], [NAN]])
    with pytest.raises(DataError, match="below -3/8") as caught:
        chain_of(["anscombe"], values)(values)
    assert (caught.value.where, caught.value.found) == ("normalize.0.anscombe", f"1 of 3 values, the least {wrong}")


@pytest.mark.parametrize("base", [2.0, 10.0, 1.5])
def test_log1p_with_a_base_is_the_quotient_of_scanpy(base):
    """`np.log1p(x) / np.log(base)`, bit for bit."""
    counts = np.array([0.0, 1.0, 9.0, 1e-9, 1e6, INF, NAN])
    step = Log1p(base=base).fit()
    np.testing.assert_array_equal(step(counts, SAMPLE), np.log1p(counts) / np.log(base))
    np.testing.assert_allclose(step.inverse(step(counts, SAMPLE), SAMPLE), counts, rtol=1e-14)


def test_log1p_without_a_base_is_what_it_was():
    assert Log1p().model_dump(exclude_defaults=True) == {}
    np.testing.assert_array_equal(Log1p().fit()(np.array([2.0]), SAMPLE), np.log1p([2.0]))


def test_fillna_replaces_nan_only():
    values = np.array([NAN, 0.0, -INF, INF, -NAN, 3.0])
    np.testing.assert_array_equal(FillNa().fit()(values, SAMPLE), [0.0, 0.0, -INF, INF, 0.0, 3.0])
    np.testing.assert_array_equal(FillNa(value=-1).fit()(values, SAMPLE), [-1.0, 0.0, -INF, INF, -1.0, 3.0])


def test_statistics_see_what_was_filled(chain_of):
    values = np.array([[1.0], [NAN], [NAN], [3.0]])
    np.testing.assert_array_equal(
        chain_of(["fillna", {"minmax": {"per": ["feature"]}}], values)(values), [[1 / 3], [0.0], [0.0], [1.0]]
    )


@pytest.mark.parametrize(
    ("entry", "where"),
    [
        ({"log1p": {"base": 1}}, "log1p.base"),
        ({"log1p": {"base": INF}}, "log1p.base"),
        ({"arcsinh": {"cofactor": 0}}, "arcsinh.cofactor"),
        ({"arcsinh": {"cofactor": True}}, "arcsinh.cofactor"),
        ({"fillna": {"value": NAN}}, "fillna.value"),
        ({"anscombe": {"inverse": "unbiased"}}, "anscombe.inverse"),
    ],
)
def test_options_are_validated(entry, where):
    with pytest.raises(ConfigError) as caught:
        parse_chain([entry])
    assert caught.value.where == f"normalize.0.{where}"
