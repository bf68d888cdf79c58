"""An affine chain as one scale and one shift, and as a part of a network's first layer.

Not here: chains with any other step, which have no such form.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import InputMismatchError
from pipeline.inference.grouped import chain_by
from pipeline.manifest import ManifestRecord
from pipeline.normalize.chain import FittedChain
from pipeline.normalize.grouped import UNSEEN
from pipeline.normalize.step import Floats

DENSE_NDIM = 2


def one_chain(manifest: ManifestRecord, by: Any) -> FittedChain:
    """The chain of `manifest`, or of its group `by`; InputMismatchError where that is no single chain."""
    chain = chain_by(manifest, by, 1)
    if isinstance(chain, FittedChain):
        return chain
    if chain.codes.ndim or (chain.codes == UNSEEN and chain.unseen != "global"):
        raise InputMismatchError("not one group", where="by", found=by, expected="one label that was fitted")
    return chain.overall if chain.codes == UNSEEN else chain.chains[int(chain.codes)]


def scale_and_shift(chain: FittedChain, sizes: Mapping[str, int]) -> tuple[Floats, Floats]:
    """(scale, shift) of `chain`, each of the shape of `sizes`; see `Manifest.scale_and_shift`."""
    _check_affine(chain)
    dims = tuple(sizes)
    center, scale, offset = np.zeros(()), np.ones(()), np.zeros(())
    for index, step in enumerate(chain.steps):
        own = step.affine
        if own is None:
            raise TypeError(f"{step.step.name} is not affine")
        center_k, scale_k, offset_k = (step.along(each, dims) if each.ndim else each for each in own)
        if index == 0:
            center, scale, offset = center_k, scale_k, offset_k
        else:  # the first center stays apart, so that a large mean is subtracted once
            scale, offset = scale * scale_k, (offset - center_k) * scale_k + offset_k
    shape = tuple(sizes.values())
    return tuple(np.array(np.broadcast_to(each, shape)) for each in (scale, offset - center * scale))  # type: ignore[return-value]


def fold(
    chain: FittedChain, sizes: Mapping[str, int], weight: ArrayLike, bias: ArrayLike | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """(weight, bias) of the layer that takes raw values; see `Manifest.fold_into`."""
    scale, shift = scale_and_shift(chain, sizes)
    weights = _floating(weight)
    if weights.ndim < DENSE_NDIM:
        raise InputMismatchError(
            "not the weight of a layer",
            found=f"shape {weights.shape}",
            expected="(outputs, features), or (outputs, channels, *kernel)",
        )
    biases = np.zeros(weights.shape[0], weights.dtype) if bias is None else _floating(bias)
    if biases.shape != weights.shape[:1]:
        raise InputMismatchError("bias and weight do not fit", found=f"shape {biases.shape}", expected=f"({weights.shape[0]},)")
    spread = _over_inputs if weights.ndim == DENSE_NDIM else _over_channels
    scales, shifts = (spread(each, chain, sizes, weights.shape) for each in (scale, shift))
    wide = weights.astype(np.float64)
    added = (wide * shifts).reshape(len(wide), -1).sum(axis=1)
    return (wide * scales).astype(weights.dtype), (biases.astype(np.float64) + added).astype(biases.dtype)


def _check_affine(chain: FittedChain) -> None:
    others = [step.step.name for step in chain.steps if step.affine is None]
    if others:
        raise InputMismatchError(
            "the chain is not one scale and one shift",
            found=", ".join(others),
            expected="affine steps only, such as zscore, minmax without clip, maxabs, dtype_range and affine",
            remedy="transform the inputs instead",
        )
    if chain.output_dtype.kind != "f":
        raise InputMismatchError(
            "the chain is not one scale and one shift",
            found=f"output rounded to {chain.output_dtype}",
            expected="a floating output dtype",
            remedy="fit with output.dtype float32",
        )


def _over_inputs(values: Floats, chain: FittedChain, sizes: Mapping[str, int], shape: tuple[int, ...]) -> Floats:
    """`values`, of the shape of `sizes`, for each input of a dense layer: the dims but the sample dim, flattened in order."""
    features = tuple(dim for dim in chain.dims if dim != chain.sample_dim)
    lengths = _lengths(features, sizes, shape[1])
    if lengths is None:
        known = ", ".join(f"{dim} {size}" for dim, size in sizes.items())
        raise InputMismatchError(
            "weight and features do not fit",
            found=f"weight of shape {shape}",
            expected=f"one input for each position along {', '.join(features) or 'no dim'}"
            + (f", with {known}" if known else ""),
            remedy="dims whose sizes the manifest does not hold must lie side by side: fit with parameters per all of them",
        )
    aligned = values.reshape([sizes.get(dim, 1) for dim in features])
    return np.ascontiguousarray(np.broadcast_to(aligned, lengths)).reshape(1, -1)


def _lengths(features: tuple[str, ...], sizes: Mapping[str, int], inputs: int) -> list[int] | None:
    """A size for each of `features` so that there are `inputs` in all; None where that does not come out.

    Sizes that the manifest does not know are settled where these dims lie side by side: what is the same for all of them
    is the same however their product is divided.
    """
    known = math.prod(sizes.values())
    unknown = [index for index, dim in enumerate(features) if dim not in sizes]
    apart = bool(unknown) and unknown[-1] - unknown[0] >= len(unknown)
    rest, left_over = divmod(inputs, known) if known else (0, 1)
    if left_over or (apart and sizes) or (not unknown and rest != 1):
        return None
    return [sizes.get(dim, rest if index == unknown[0] else 1) if unknown else sizes[dim] for index, dim in enumerate(features)]


def _over_channels(values: Floats, chain: FittedChain, sizes: Mapping[str, int], shape: tuple[int, ...]) -> Floats:
    """`values`, one a channel or one for all, for each input channel of a convolution."""
    if len(sizes) > 1 or (sizes and values.shape != shape[1:2]):
        raise InputMismatchError(
            "weight and channels do not fit",
            found=f"weight of shape {shape}, parameters per {', '.join(f'{dim} {size}' for dim, size in sizes.items())}",
            expected="(outputs, channels, *kernel) and parameters per channel, or the same for everything",
        )
    return np.broadcast_to(values, shape[1:2]).reshape(1, -1, *(1,) * (len(shape) - DENSE_NDIM))


def _floating(values: ArrayLike) -> NDArray[Any]:
    array = np.asarray(values)
    return array if array.dtype.kind == "f" else array.astype(np.float64)
