"""What is measured: each subject with its stores, and the tasks that they are put to.

Not here: making stores (`stores.py`) and measuring (`measure.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import zarr

from benchmark import stores
from benchmark.task import Task
from pipeline.block import block_step

MIB = 2**20
DEFAULT_BLOCK_BYTES = 128 * MIB
ZARR_BLOCK_BYTES = 32 * MIB
SMALL_BLOCK_BYTES = 4 * MIB
BLOCKS_AT_LEAST = 16
GROWTH_ROUNDS = 3
GROWTH_BLOCK_BYTES = 8 * MIB
TASKS = {
    "fit": ("fit", "quantiles"),
    "apply": ("apply",),
    "run": ("run", "cells"),
}


@dataclass(frozen=True)
class Subject:
    """One store, and a small one like it to warm up with.

    Parameters
    ----------
    name, title : str
    store, small : path
    array : str
    dims, per : tuple of str
    kinds : tuple of str
        What it is put to.
    block_bytes : int
    peers : bool
        Whether peers, and floors of reading alone, take part.
    rounds_at_most : int, optional
    """

    name: str
    title: str
    store: Path
    small: Path
    array: str
    dims: tuple[str, ...]
    per: tuple[str, ...]
    kinds: tuple[str, ...]
    block_bytes: int = DEFAULT_BLOCK_BYTES
    peers: bool = True
    rounds_at_most: int | None = None

    @property
    def decoded_bytes(self) -> int:
        return int(zarr.open_array(self.store, path=self.array, mode="r").nbytes)

    @property
    def stored_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.store.rglob("*") if path.is_file())

    def task(self, kind: str, threads: int, output: Path, small: bool = False) -> Task:
        """What a contender is asked, with the blocks in which reading through zarr-python is fastest."""
        store = self.small if small else self.store
        array = zarr.open_array(store, path=self.array, mode="r")
        block_bytes = min(ZARR_BLOCK_BYTES, max(SMALL_BLOCK_BYTES, array.nbytes // BLOCKS_AT_LEAST))
        block = block_step(array.shape, array.shards or array.chunks, array.dtype.itemsize, block_bytes)
        return Task(kind, str(store), self.array, self.dims, self.per, threads, self.block_bytes, block, block, str(output))


@dataclass(frozen=True)
class Sizes:
    """How many samples there are at full scale; `scale` makes all of them smaller."""

    cells: int = 200_000
    images: int = 8_000
    digits: int = 70_000
    growth_cells: int = 20_000

    def scaled(self, scale: float) -> Sizes:
        """As many as `scale` says, in whole chunks."""
        return Sizes(
            _whole(self.cells * scale, stores.CELLS_PER_CHUNK),
            _whole(self.images * scale, stores.IMAGES_PER_CHUNK),
            _whole(self.digits * scale, stores.DIGITS_PER_SHARD),
            _whole(self.growth_cells * scale, stores.CELLS_PER_CHUNK),
        )


SMALL = Sizes(cells=8_000, images=160, digits=2_000)


def _whole(wanted: float, unit: int) -> int:
    return max(1, round(wanted / unit)) * unit


def make_subjects(names: Sequence[str], folder: Path, mnist: Path, scale: float) -> list[Subject]:
    """The subjects whose names, or first letters, are asked for; their stores are made in `folder` unless they are there."""
    sizes = Sizes().scaled(scale)
    makers: dict[str, Callable[[], list[Subject]]] = {
        "a": lambda: [_expression(folder, sizes)],
        "b": lambda: [_photographs(folder, sizes)],
        "c": lambda: [_digits(folder, sizes, mnist, sharded) for sharded in (False, True)],
        "d": lambda: [_growing(folder, sizes, factor) for factor in (1, 4, 16)],
    }
    return [subject for name in names if name in makers for subject in makers[name]()]


def _expression(folder: Path, sizes: Sizes) -> Subject:
    store = _expression_store(folder, sizes)
    return Subject(
        "a",
        f"float32 expression, {sizes.cells:,} × {stores.GENES:,}",
        store,
        _repeated(folder, store, stores.EXPRESSION, min(SMALL.cells, sizes.cells)),
        stores.EXPRESSION,
        ("cell", "gene"),
        ("gene",),
        ("fit", "quantiles", "apply", "run", "cells"),
    )


def _expression_store(folder: Path, sizes: Sizes) -> Path:
    return stores.built(folder / f"expression-{sizes.cells}.zarr", partial(stores.write_expression, cells=sizes.cells))


def _photographs(folder: Path, sizes: Sizes) -> Subject:
    store = stores.built(folder / f"photographs-{sizes.images}.zarr", partial(stores.write_photographs, images=sizes.images))
    return Subject(
        "b",
        f"uint8 photographs, {sizes.images:,} × {stores.IMAGE_SIZE} × {stores.IMAGE_SIZE} × 3",
        store,
        _repeated(folder, store, stores.PHOTOGRAPHS, min(SMALL.images, sizes.images)),
        stores.PHOTOGRAPHS,
        ("sample", "y", "x", "channel"),
        ("channel",),
        ("fit", "apply", "run"),
    )


def _digits(folder: Path, sizes: Sizes, mnist: Path, sharded: bool) -> Subject:
    name = "digits-sharded" if sharded else "digits"
    write = partial(stores.write_digits, images=sizes.digits, mnist=mnist, sharded=sharded)
    store = stores.built(folder / f"{name}-{sizes.digits}.zarr", write)
    return Subject(
        "c-sharded" if sharded else "c",
        f"uint8 digits, {sizes.digits:,} × {stores.DIGIT_SIZE} × {stores.DIGIT_SIZE}, "
        f"{stores.DIGITS_PER_CHUNK} a chunk" + (f", {stores.DIGITS_PER_SHARD:,} a shard" if sharded else ""),
        store,
        _repeated(folder, store, stores.DIGITS, min(SMALL.digits, sizes.digits)),
        stores.DIGITS,
        ("sample", "y", "x"),
        (),
        ("fit", "apply", "run"),
    )


def _growing(folder: Path, sizes: Sizes, factor: int) -> Subject:
    source = _expression_store(folder, sizes)
    cells = sizes.growth_cells * factor
    return Subject(
        f"d{factor}",
        f"float32 expression, {cells:,} × {stores.GENES:,}, blocks of {GROWTH_BLOCK_BYTES // MIB} MiB",
        _repeated(folder, source, stores.EXPRESSION, cells),
        _repeated(folder, source, stores.EXPRESSION, min(SMALL.cells, sizes.cells)),
        stores.EXPRESSION,
        ("cell", "gene"),
        ("gene",),
        ("fit", "apply", "run"),
        GROWTH_BLOCK_BYTES,
        peers=False,
        rounds_at_most=GROWTH_ROUNDS,
    )


def _repeated(folder: Path, source: Path, array: str, samples: int) -> Path:
    """A store of so many samples of `source`."""
    write = partial(stores.write_repeated, source=source, array=array, samples=samples)
    return stores.built(folder / f"{source.stem}-as-{samples}.zarr", write)
