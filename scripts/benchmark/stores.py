"""The stores that are measured: made once from a seed, or from other stores by linking their chunks.

Not here: what is done with them (`subjects.py`).
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

SEED = 20_240_229
GENES = 2_000
CELLS_PER_CHUNK = 1_000
EXPRESSION_CHUNK = (CELLS_PER_CHUNK, 1_000)
IMAGE_SIZE = 224
IMAGES_PER_CHUNK = 16
DIGITS_PER_CHUNK = 10
DIGITS_PER_SHARD = 1_000
DIGIT_SIZE = 28
EXPRESSION, PHOTOGRAPHS, DIGITS = "X", "images", "digits"


def built(path: Path, build: Callable[[Path], None]) -> Path:
    """`path`, made by `build` unless it is there; what was not finished is made anew."""
    if not path.exists():
        unfinished = path.with_name(f"{path.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        build(unfinished)
        unfinished.rename(path)
    return path


def write_expression(path: Path, cells: int, chunk: tuple[int, int] = EXPRESSION_CHUNK) -> None:
    """Log-normalized counts of `cells` cells in float32: genes differ in mean and dropout, cells in depth."""
    means = np.random.default_rng(SEED).lognormal(-0.5, 1.2, GENES)
    array = _create(path, EXPRESSION, (cells, GENES), np.float32, chunk, ("cell", "gene"), "shuffle")

    def values(count: int, generator: np.random.Generator) -> NDArray[np.float32]:
        depth = generator.lognormal(0.0, 0.3, (count, 1))
        counts = generator.poisson(generator.standard_gamma(2.0, (count, GENES)) * (means / 2.0) * depth)
        totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
        normalized: NDArray[np.float32] = np.log1p(counts * (10_000.0 / totals)).astype(np.float32)
        return normalized

    _fill(array, CELLS_PER_CHUNK, values)


def write_photographs(path: Path, images: int, per_chunk: int = IMAGES_PER_CHUNK) -> None:
    """Pieces of the photographs that scikit-learn carries, at different scales, mirrored, brighter and darker."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    shape = (images, IMAGE_SIZE, IMAGE_SIZE, 3)
    dims = ("sample", "y", "x", "channel")
    array = _create(path, PHOTOGRAPHS, shape, np.uint8, (per_chunk, *shape[1:]), dims, "noshuffle")
    photographs = [Image.fromarray(photograph) for photograph in load_sample_images().images]

    def piece(generator: np.random.Generator) -> NDArray[np.uint8]:
        photograph = photographs[generator.integers(len(photographs))]
        size = generator.uniform(120.0, min(photograph.size))
        left, top = (generator.uniform(0.0, length - size) for length in photograph.size)
        box = (left, top, left + size, top + size)
        cut = np.asarray(photograph.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR, box), np.float32)
        mirrored = cut[:: generator.choice((-1, 1)), :: generator.choice((-1, 1))]
        lit: NDArray[np.uint8] = np.clip(mirrored * np.float32(generator.uniform(0.7, 1.3)), 0, 255).astype(np.uint8)
        return lit

    _fill(array, IMAGES_PER_CHUNK, lambda count, generator: np.stack([piece(generator) for _ in range(count)]))


def write_digits(path: Path, images: int, mnist: Path, sharded: bool) -> None:
    """Handwritten digits in small chunks: MNIST where its archives are in `mnist`, else scikit-learn's, enlarged."""
    digits = _digits(mnist)
    shape = (images, DIGIT_SIZE, DIGIT_SIZE)
    shards = (DIGITS_PER_SHARD, *shape[1:]) if sharded else None
    chunks = (DIGITS_PER_CHUNK, *shape[1:])
    array = _create(path, DIGITS, shape, np.uint8, chunks, ("sample", "y", "x"), "noshuffle", shards)
    array[...] = digits[np.arange(images) % len(digits)]


def _digits(mnist: Path) -> NDArray[np.uint8]:
    if mnist.is_dir():
        parts = [np.load(mnist / name)["images"] for name in ("mnist_train.npz", "mnist_test.npz")]
        return np.concatenate(parts)
    from sklearn.datasets import load_digits

    small = (load_digits().images * (255 / 16)).astype(np.uint8)
    enlarged = small.repeat(3, axis=1).repeat(3, axis=2)
    return np.pad(enlarged, ((0, 0), (2, 2), (2, 2)))


def write_repeated(path: Path, source: Path, array: str, samples: int) -> None:
    """The array of the store `source`, cut off or repeated to `samples`; its chunks are links and take no room."""
    given = zarr.open_array(source, path=array, mode="r")
    unit = (given.shards or given.chunks)[0]
    stored = given.shape[0] // unit
    made = zarr.create_array(
        path,
        name=array,
        shape=(samples, *given.shape[1:]),
        dtype=given.dtype,
        chunks=given.chunks,
        shards=given.shards,
        compressors=given.compressors,
        dimension_names=given.metadata.dimension_names,  # type: ignore[union-attr]
    )
    if samples % unit or given.shape[0] % unit:
        raise ValueError(f"{samples} and {given.shape[0]} samples are not both whole units of {unit}")
    for position in range(math.ceil(made.shape[0] / unit)):
        _link(source / array / "c" / str(position % stored), path / array / "c" / str(position))


def _link(source: Path, target: Path) -> None:
    for path in [source] if source.is_file() else [path for path in source.rglob("*") if path.is_file()]:
        place = target / path.relative_to(source) if path != source else target
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, place)
        except OSError:
            shutil.copyfile(path, place)


def _create(
    path: Path,
    name: str,
    shape: Sequence[int],
    dtype: Any,
    chunks: tuple[int, ...],
    dims: tuple[str, ...],
    shuffle: Any,
    shards: tuple[int, ...] | None = None,
) -> zarr.Array[Any]:
    group = zarr.open_group(path, mode="w")
    return group.create_array(
        name,
        shape=tuple(shape),
        dtype=dtype,
        chunks=chunks,
        shards=shards,
        compressors=BloscCodec(cname="zstd", clevel=3, shuffle=shuffle),
        dimension_names=dims,
        config={"write_empty_chunks": True},
    )


def _fill(array: zarr.Array[Any], rows: int, values: Callable[[int, np.random.Generator], NDArray[Any]]) -> None:
    """Write so many rows at a time, each with a generator of its own, so that threads change nothing."""

    def one(part: int) -> None:
        first = part * rows
        count = min(rows, array.shape[0] - first)
        array[first : first + count] = values(count, np.random.default_rng([SEED, part]))

    with ThreadPoolExecutor() as pool:
        list(pool.map(one, range(math.ceil(array.shape[0] / rows))))
