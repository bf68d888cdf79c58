"""The two ends of the demonstration: a store of tiles cut from real photographs, and a new sample transformed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TILE = 64
STRIDE = 16
TRAIN_COLUMNS = 480
TILES_PER_CHUNK = 100
CHANNELS = ("red", "green", "blue")


def photographs() -> list[NDArray[np.uint8]]:
    """The photographs that scikit-learn carries, each (y, x, channel)."""
    from sklearn.datasets import load_sample_image

    return [load_sample_image(name) for name in ("china.jpg", "flower.jpg")]


def cut(photograph: NDArray[Any]) -> tuple[list[NDArray[Any]], list[str]]:
    """Overlapping tiles, and for each the split it belongs to; no pixel is in both splits."""
    tiles, splits = [], []
    for y in range(0, photograph.shape[0] - TILE + 1, STRIDE):
        for x in range(0, photograph.shape[1] - TILE + 1, STRIDE):
            if x + TILE <= TRAIN_COLUMNS or x >= TRAIN_COLUMNS:
                tiles.append(photograph[y : y + TILE, x : x + TILE])
                splits.append("train" if x < TRAIN_COLUMNS else "test")
    return tiles, splits


def store(path: str) -> None:
    """Write the tiles to a Zarr store, replacing what is there."""
    import zarr
    from arrays import write_array

    parts = [cut(photograph) for photograph in photographs()]
    images = np.stack([tile for tiles, _ in parts for tile in tiles])
    splits = np.array([split for _, each in parts for split in each])
    group = zarr.open_group(path, mode="w")
    write_array(group, "images", images, ("sample", "y", "x", "channel"), (TILES_PER_CHUNK, *images.shape[1:]))
    write_array(group, "split", splits, ("sample",), splits.shape)
    write_array(group, "channel", np.array(CHANNELS), ("channel",), (len(CHANNELS),))
    train = int((splits == "train").sum())
    print(f"{path}: {len(images):,} tiles of two photographs, {train:,} of them to train on, {images.nbytes / 1e6:.0f} MB")


def transform(manifest_path: str, output: str, source: str) -> None:
    """Transform an image that was in no store, and say where everything is."""
    from pipeline import Manifest

    manifest = Manifest.load(manifest_path)
    image = photographs()[0][100:200, 300:400][::-1]
    image = image[:TILE, :TILE]
    normalized = manifest.transform(image)
    restored = manifest.inverse_transform(normalized)
    print("a new image, transformed with the manifest in Python:")
    for name, values in (("before", image), ("after", normalized), ("and back", restored)):
        means = ", ".join(f"{mean:.3g}" for mean in values.reshape(-1, len(CHANNELS)).mean(axis=0))
        print(f"  {name + ':':<9} {values.dtype!s:<7} {values.min():.4g} to {values.max():.4g}, channel means {means}")
    print(f"  the image came back exactly: {bool(np.array_equal(image, restored))}")
    print("where things are:")
    for what, path in (("photographs", source), ("normalized", output), ("manifest", manifest_path)):
        print(f"  {what + ':':<12} {Path(path).resolve()}")


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("store").add_argument("path")
    last = verbs.add_parser("transform")
    for name in ("manifest", "output", "source"):
        last.add_argument(name)
    arguments = parser.parse_args()
    if arguments.verb == "store":
        store(arguments.path)
    else:
        transform(arguments.manifest, arguments.output, arguments.source)


if __name__ == "__main__":
    main()
