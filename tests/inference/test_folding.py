"""The batch-normalization view of an affine chain, against the chain itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import InputMismatchError
from pipeline.inference import Manifest
from pipeline.manifest.groups import Groups
from tests.manifest.fitting import Entries, fit_record

EPSILON = np.finfo(np.float64).eps
IMAGE_DIMS = ("sample", "y", "x", "channel")
CHAINS: list[Entries] = [
    [{"zscore": {"per": ["channel"]}}],
    [{"zscore": {"per": ["channel"], "gamma": [2.0, -0.5, 1.0], "beta": [1.0, 2.0, 3.0]}}],
    [{"minmax": {"per": ["channel"], "range": [-0.5, 0.5]}}],
    [{"maxabs": {"per": []}}],
    [{"zscore": {"per": ["y", "x", "channel"]}}, {"affine": {"scale": 3, "shift": -1}}, {"minmax": {"per": ["channel"]}}],
    [{"affine": {"scale": 0.1, "shift": 2}}, {"zscore": {"per": ["x"]}}],
    [{"dtype_range": {"dtype": "uint8"}}, {"zscore": {"per": []}}],
    [{"affine": {}}],
]
every_chain = pytest.mark.parametrize("entries", CHAINS, ids=lambda entries: " ".join(next(iter(each)) for each in entries))


def _images(mean: float = 0.0) -> NDArray[np.float64]:
    return mean + np.random.default_rng(2).normal(40.0, 9.0, (30, 4, 5, 3))


def _manifest(entries: Entries, values: NDArray[Any], dims: tuple[str, ...] = IMAGE_DIMS, dtype: str = "float64") -> Manifest:
    return fit_record(entries, values, dims, output_dtype=dtype, kind=Manifest)


def _magnitude(manifest: Manifest, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the two terms that may cancel come to, in the shape of `values`."""
    scale, shift = manifest.scale_and_shift()
    shape = [manifest.sizes.get(dim, 1) for dim in manifest.chain.dims]
    result: NDArray[np.float64] = np.abs(scale.reshape(shape) * values) + np.abs(shift.reshape(shape)) + 1
    return result


@every_chain
@pytest.mark.parametrize("mean", [0.0, 1e8])
def test_scale_and_shift_are_the_chain(entries: Entries, mean: float) -> None:
    values = _images(mean)
    manifest = _manifest(entries, values)
    scale, shift = manifest.scale_and_shift()

    assert scale.dtype == shift.dtype == np.float64
    assert scale.shape == shift.shape == tuple(manifest.sizes.values())
    shape = [manifest.sizes.get(dim, 1) for dim in IMAGE_DIMS]
    error = np.abs(scale.reshape(shape) * values + shift.reshape(shape) - manifest.transform(values))
    assert (error <= 8 * EPSILON * _magnitude(manifest, values)).all()


@pytest.mark.parametrize("entries", [chain for chain in CHAINS if "['x']" not in str(chain)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_dense_layer_takes_raw_values(entries: Entries, with_bias: bool) -> None:
    values = _images()
    manifest = _manifest(entries, values)
    generator = np.random.default_rng(8)
    weight, bias = generator.normal(size=(7, 60)), generator.normal(size=7) if with_bias else None
    before = weight.tobytes()
    expected = manifest.transform(values).reshape(30, -1) @ weight.T + (0 if bias is None else bias)

    folded, added = manifest.fold_into(weight, bias)

    assert (folded.shape, added.shape) == (weight.shape, (7,))
    assert weight.tobytes() == before
    error = np.abs(values.reshape(30, -1) @ folded.T + added - expected)
    terms = _magnitude(manifest, values).reshape(30, -1) @ np.abs(weight).T
    assert (error <= 16 * EPSILON * terms).all()
    assert (np.abs(expected) > 1e-3).any()


def _convolve(images: NDArray[np.float64], weight: NDArray[np.float64], bias: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without padding; images (sample, y, x, channel), weight (out, channel, height, width)."""
    windows = np.lib.stride_tricks.sliding_window_view(images, weight.shape[2:], axis=(1, 2))
    result: NDArray[np.float64] = np.einsum("nyxchw,ochw->nyxo", windows, weight) + bias
    return result


@pytest.mark.parametrize("entries", [CHAINS[0], CHAINS[1], CHAINS[2], CHAINS[3]])
def test_a_convolution_takes_raw_values(entries: Entries) -> None:
    values = _images()
    manifest = _manifest(entries, values)
    generator = np.random.default_rng(8)
    weight, bias = generator.normal(size=(6, 3, 3, 2)), generator.normal(size=6)

    folded, added = manifest.fold_into(weight, bias)

    assert folded.shape == weight.shape
    np.testing.assert_allclose(
        _convolve(values, folded, added), _convolve(manifest.transform(values), weight, bias), rtol=1e-11, atol=1e-11
    )


def test_zero_padding_is_what_raw_inputs_are_padded_with() -> None:
    values = _images()
    manifest = _manifest(CHAINS[0], values)
    weight, bias = np.random.default_rng(8).normal(size=(6, 3, 3, 2)), np.zeros(6)
    around = ((0, 0), (1, 1), (1, 1), (0, 0))
    expected = _convolve(np.pad(manifest.transform(values), around), weight, bias)
    scale, shift = manifest.scale_and_shift()
    padded = np.broadcast_to(-shift / scale, (30, 6, 7, 3)).copy()
    padded[:, 1:-1, 1:-1] = values

    layer = manifest.fold_into(weight, bias)

    np.testing.assert_allclose(_convolve(padded, *layer), expected, rtol=1e-11, atol=1e-11)
    assert np.abs(_convolve(np.pad(values, around), *layer) - expected).max() > 0.1


def test_vectors_and_one_dimensional_convolutions() -> None:
    values = np.random.default_rng(1).gamma(2.0, 3.0, (20, 5))
    manifest = _manifest([{"zscore": {"per": ["gene"]}}], values, ("cell", "gene"))
    weight = np.random.default_rng(2).normal(size=(4, 5, 3))

    folded, added = manifest.fold_into(weight)

    mean, std = values.mean(axis=0), values.std(axis=0)
    np.testing.assert_allclose(folded, weight / std[:, None], rtol=1e-13)
    np.testing.assert_allclose(added, -(weight * (mean / std)[:, None]).sum(axis=(1, 2)), rtol=1e-12)


def test_features_that_come_before_the_sample_dim_keep_their_order() -> None:
    values = np.random.default_rng(1).gamma(2.0, 3.0, (3, 20, 4))
    record = _manifest([{"zscore": {"per": ["channel"]}}], values.transpose(1, 0, 2), ("sample", "channel", "x"))
    scale, _ = record.scale_and_shift()

    folded, _ = record.fold_into(np.ones((2, 12)))

    np.testing.assert_array_equal(folded[0], np.repeat(scale, 4))


def test_dtypes_are_kept() -> None:
    manifest = _manifest(CHAINS[0], _images(), dtype="float32")
    weight, bias = manifest.fold_into(np.ones((2, 60), np.float32), np.ones(2, np.float32))
    assert (weight.dtype, bias.dtype) == (np.float32, np.float32)
    weight, bias = manifest.fold_into([[1] * 60])
    assert (weight.dtype, bias.dtype) == (np.float64, np.float64)


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        (["log1p", {"zscore": {"per": []}}], "log1p"),
        ([{"minmax": {"clip": True}}, "unit_norm"], "minmax, unit_norm"),
        ([{"nodata": {"values": 3}}], "nodata"),
    ],
)
def test_a_chain_that_is_not_affine_is_refused(entries: Entries, named: str) -> None:
    manifest = _manifest(entries, _images())
    for ask in (manifest.scale_and_shift, lambda: manifest.fold_into(np.ones((2, 60)))):
        with pytest.raises(InputMismatchError, match="not one scale and one shift") as caught:
            ask()
        assert caught.value.found == named


def test_an_output_of_integers_is_refused() -> None:
    manifest = _manifest([{"affine": {"scale": 2}}], _images(), dtype="int16")
    with pytest.raises(InputMismatchError, match="not one scale") as caught:
        manifest.scale_and_shift()
    assert "int16" in str(caught.value.found)


@pytest.mark.parametrize(
    ("entries", "weight", "bias"),
    [
        (CHAINS[0], (2,), None),
        (CHAINS[0], (2, 61), None),
        (CHAINS[4], (2, 120), None),
        (CHAINS[0], (2, 60), (3,)),
        (CHAINS[0], (2, 4, 3, 3), None),
        (CHAINS[4], (2, 3, 3, 3), None),
        ([{"zscore": {"per": ["x"]}}], (2, 61), None),
        ([{"zscore": {"per": ["y", "channel"]}}], (2, 61), None),
    ],
)
def test_shapes_that_do_not_fit_are_refused(entries: Entries, weight: tuple[int, ...], bias: tuple[int, ...] | None) -> None:
    manifest = _manifest(entries, _images())
    with pytest.raises(InputMismatchError) as caught:
        manifest.fold_into(np.ones(weight), None if bias is None else np.ones(bias))
    assert caught.value.expected


def test_sizes_that_are_not_known_and_lie_apart_are_refused() -> None:
    manifest = _manifest([{"zscore": {"per": ["x"]}}], _images())
    with pytest.raises(InputMismatchError, match="do not fit") as caught:
        manifest.fold_into(np.ones((2, 60)))
    assert "side by side" in str(caught.value.remedy)


def test_a_group_has_a_layer_of_its_own() -> None:
    values = _images()
    entries: Entries = [{"zscore": {"per": ["channel"]}}]
    whole, one, two = (_manifest(entries, part) for part in (values, values[:10], values[10:]))
    groups = Groups("plate", np.array(["A", "B"]), "global", (one.chain, two.chain))
    grouped = Manifest.build(whole.chain, dict(zip(IMAGE_DIMS, values.shape, strict=True)), {}, groups=groups)
    weight = np.ones((2, 60))

    for label, expected in (("A", one), ("B", two), ("unseen", whole)):
        np.testing.assert_array_equal(grouped.scale_and_shift(by=label), expected.scale_and_shift())
        np.testing.assert_array_equal(grouped.fold_into(weight, by=label)[1], expected.fold_into(weight)[1])
    for by in (None, ["A", "B"], ["A"]):
        with pytest.raises(InputMismatchError):
            grouped.scale_and_shift(by=by)
    strict = replace(grouped, groups=replace(groups, unseen="nan"))
    with pytest.raises(InputMismatchError, match="not one group"):
        strict.fold_into(weight, by="unseen")
