"""MNIST's NumPy archives as one Zarr store: images (sample, y, x) with the coordinates `label` and `split`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Literal

import numpy as np
import zarr
from arrays import write_array

SAMPLES_PER_CHUNK = 1000
SPLITS = {"train": "mnist_train.npz", "test": "mnist_test.npz"}
ARRAYS = ("images", "labels")
FOLDER = f"a folder with {' and '.join(SPLITS.values())}, each of which has the arrays {' and '.join(ARRAYS)}"


def convert(source: Path, output: str, zarr_format: Literal[2, 3]) -> None:
    """Write the training images, then the test images, of the folder `source` to the store `output`."""
    parts = {split: np.load(source / name) for split, name in SPLITS.items()}
    images = np.concatenate([part["images"] for part in parts.values()])
    labels = np.concatenate([part["labels"] for part in parts.values()])
    splits = np.repeat(list(parts), [len(part["labels"]) for part in parts.values()])
    group = zarr.open_group(output, mode="w", zarr_format=zarr_format)
    write_array(group, "images", images, ("sample", "y", "x"), (SAMPLES_PER_CHUNK, *images.shape[1:]))
    write_array(group, "label", labels, ("sample",), labels.shape)
    write_array(group, "split", splits, ("sample",), splits.shape)
    print(f"{output}: {len(images):,} images of {images.shape[1]} x {images.shape[2]} {images.dtype}")


def main() -> None:
    """Convert as the command line says."""
    parser = argparse.ArgumentParser(prog="mnist-to-zarr", description=__doc__)
    parser.add_argument("source", type=Path, metavar="SOURCE_DIR", help=FOLDER)
    parser.add_argument("output", metavar="OUTPUT", help="the Zarr store to write; replaced where it is there")
    parser.add_argument("--format", type=int, choices=(2, 3), default=3, help="the Zarr format")
    arguments = parser.parse_args()
    missing = [name for name in SPLITS.values() if not (arguments.source / name).is_file()]
    if missing:
        parser.error(f"no {' and no '.join(missing)} in {arguments.source}")
    for name in SPLITS.values():
        with np.load(arguments.source / name) as archive:
            if not set(ARRAYS) <= set(archive):
                parser.error(f"{arguments.source / name} has the arrays {', '.join(archive)}; {' and '.join(ARRAYS)} are read")
    convert(arguments.source, arguments.output, arguments.format)


if __name__ == "__main__":
    main()
