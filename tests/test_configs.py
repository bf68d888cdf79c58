"""The ready configurations: each says why, fits its data, and does what it says in as many reads as it plans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from pipeline.config import Config, load_config
from pipeline.normalize.chain import bind_chain, parse_chain
from pipeline.normalize.step import Input
from pipeline.progress import SilentReporter
from pipeline.run import plan_config, run_config

FOLDER = Path(__file__).resolve().parent.parent / "configs"
SHAPES = {"sample": 24, "cell": 24, "y": 6, "x": 5, "channel": 3, "feature": 7, "gene": 9}
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
EXPECTED = {
    "images-unit-range": (1, 0.0, 1.0),
    "images-channel-zscore": (1, None, None),
    "vectors-unit-norm": (0, -1.0, 1.0),
    "expression-gene-minmax": (1, 0.0, 1.0),
    "expression-gene-zscore": (1, None, None),
    "expression-variable-genes": (2, 0.0, 1.0),
    "inputs-tanh": (1, -0.5, 0.5),
    "inputs-logistic": (1, 0.1, 0.9),
}


def _data(config: Config) -> NDArray[Any]:
    dims = config.source.dims or ()
    generator = np.random.default_rng(11)
    values = generator.gamma(2.0, 30.0, size=[SHAPES[dim] for dim in dims])
    return values.clip(0, 255).astype("uint8") if "y" in dims else values.astype("float32") - np.float32(40)


def _load(name: str, folder: Path) -> Config:
    """The configuration with its data made in `folder`, and its outputs there."""
    path = str(FOLDER / f"{name}.yaml")
    given = load_config(path, [], Config)
    values, dims = _data(given), given.source.dims or ()
    group = zarr.open_group(folder / "in.zarr", mode="w")
    array = group.create_array(str(given.source.array), shape=values.shape, dtype=values.dtype, chunks=(10, *values.shape[1:]))
    array[...] = values
    if given.fit.where:
        splits = group.create_array("split", shape=values.shape[:1], dtype=str, dimension_names=dims[:1])
        splits[...] = np.array(["train"] * 18 + ["test"] * 6)
    stores = [f"source.store={folder}/in.zarr", f"output.store={folder}/out.zarr", f"output.manifest={folder}/out.manifest"]
    few = ["normalize.1.select.k=4"] if "variable" in name else []
    return load_config(path, [*stores, *few], Config)


def _fitted_on(config: Config, values: NDArray[Any]) -> NDArray[Any]:
    return values[:18] if config.fit.where else values


def test_the_cases_that_people_meet_are_there() -> None:
    assert set(NAMES) == set(EXPECTED)


@pytest.mark.parametrize("name", NAMES)
def test_it_says_why_at_the_top(name: str) -> None:
    lines = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    why = [line for line in lines if line.startswith("# ")]

    assert len(why) == 2
    assert lines[: len(why)] == why


@pytest.mark.parametrize("name", NAMES)
def test_it_is_valid_and_its_chain_binds(name: str) -> None:
    config = load_config(str(FOLDER / f"{name}.yaml"), [], Config)
    assert config.source.dims
    assert config.source.store.startswith("data/")
    assert config.output.store.startswith("out/")

    given = Input(config.source.dims, config.source.dims[0], np.dtype("float32"))
    steps = bind_chain(parse_chain(config.normalize), given)

    assert [step.name for step in steps] == [name for entry in config.normalize for name in entry]


@pytest.mark.parametrize("name", NAMES)
def test_it_plans_the_reads_that_it_should(name: str, tmp_path: Path) -> None:
    assert len(plan_config(_load(name, tmp_path)).passes) == EXPECTED[name][0]


@pytest.mark.parametrize("name", NAMES)
def test_it_does_what_it_says(name: str, tmp_path: Path) -> None:
    config = _load(name, tmp_path)
    result = run_config(config, SilentReporter())

    source = zarr.open_array(tmp_path / "in.zarr" / str(config.source.array), mode="r")
    written = zarr.open_array(tmp_path / "out.zarr" / str(config.source.array), mode="r")
    values, fitted_on = written[...], _fitted_on(config, written[...]).astype("float64")
    assert values.dtype == "float32"
    assert values.shape == (source.shape if "variable" not in name else (source.shape[0], 4))
    np.testing.assert_array_equal(result.manifest.transform(source[...]), values)
    if name == "vectors-unit-norm":
        np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, rtol=1e-6)
    elif name.endswith("zscore"):
        reduced = tuple(axis for axis, dim in enumerate(config.source.dims or ()) if dim not in ("channel", "gene"))
        np.testing.assert_allclose(fitted_on.mean(axis=reduced), 0, atol=1e-6)
        np.testing.assert_allclose(fitted_on.std(axis=reduced), 1, rtol=1e-6)
    else:
        np.testing.assert_array_equal([fitted_on.min(), fitted_on.max()], np.float32(EXPECTED[name][1:]))
