"""A fit on part of the samples: what it is fitted on, what is read, and what the manifest says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from pipeline.api import fit
from pipeline.config import Config, SamplesConfig, parse_config
from pipeline.errors import ConfigError
from pipeline.progress import SilentReporter
from pipeline.run import fit_config, plan_config
from pipeline.source.select import uniform
from tests.counting import counted_reads

SAMPLES = 60


def _data() -> NDArray[np.float64]:
    return np.random.default_rng(5).normal(3.0, 2.0, (SAMPLES, 4))


def _store(path: Path, chunk: int) -> NDArray[np.float64]:
    values = _data()
    group = zarr.open_group(path, mode="w")
    array = group.create_array("X", shape=values.shape, dtype="float64", chunks=(chunk, 4), dimension_names=("cell", "gene"))
    array[...] = values
    is_train = group.create_array("is_train", shape=(SAMPLES,), dtype="bool", dimension_names=("cell",))
    is_train[...] = np.arange(SAMPLES) % 3 != 0
    return values


def _config(folder: Path, fit_section: dict[str, Any]) -> Config:
    return parse_config(
        {
            "source": {"store": str(folder / "in.zarr"), "array": "X"},
            "fit": fit_section,
            "normalize": [{"zscore": {"per": ["gene"]}}],
            "output": {"store": str(folder / "out.zarr"), "manifest": str(folder / "out.manifest"), "overwrite": True},
        },
        Config,
    )


POSITIONS = np.arange(SAMPLES)
SECTIONS: list[tuple[dict[str, Any], NDArray[np.bool_]]] = [
    ({"where": {"is_train": True}}, POSITIONS % 3 != 0),
    ({"where": {"is_train": [False]}}, POSITIONS % 3 == 0),
    ({"samples": {"stop": 20}}, POSITIONS < 20),
    ({"samples": {"start": 5, "step": 7}}, (POSITIONS >= 5) & ((POSITIONS - 5) % 7 == 0)),
    ({"fraction": 0.3, "seed": 4}, uniform(4, SAMPLES) < 0.3),
    (
        {"where": {"is_train": True}, "samples": {"start": 10, "stop": 50}, "fraction": 0.5},
        (POSITIONS % 3 != 0) & (POSITIONS >= 10) & (POSITIONS < 50) & (uniform(0, SAMPLES) < 0.5),
    ),
]


@pytest.mark.parametrize(("section", "selected"), SECTIONS)
@pytest.mark.parametrize("chunk", [7, 60])
def test_the_fit_is_that_of_the_selected_samples(
    section: dict[str, Any], selected: NDArray[np.bool_], chunk: int, tmp_path: Path
) -> None:
    values = _store(tmp_path / "in.zarr", chunk)
    manifest = fit_config(_config(tmp_path, section), SilentReporter())

    expected = fit(values[selected], dims=["cell", "gene"], normalize=[{"zscore": {"per": ["gene"]}}])
    assert manifest.digest == expected.digest
    fitted_on = manifest.provenance["fitted_on"]
    assert fitted_on["samples"] == selected.sum()
    assert fitted_on["fraction"] == section.get("fraction")
    assert fitted_on["seed"] == (section.get("seed", 0) if "fraction" in section else None)
    assert (fitted_on["where"] is None) == ("where" not in section)
    if "samples" in section:
        assert fitted_on["slice"] == {"start": 0, "stop": None, "step": 1} | section["samples"]


def test_chunks_without_a_selected_sample_are_not_read(tmp_path: Path) -> None:
    _store(tmp_path / "in.zarr", 10)
    config = _config(tmp_path, {"samples": {"start": 20, "stop": 31}})
    config = config.model_copy(update={"block_bytes": 10 * 4 * 8})
    with counted_reads(tmp_path / "in.zarr", "X") as counts:
        fit_config(config, SilentReporter())
    assert dict(counts) == {"X/c/2/0": 1, "X/c/3/0": 1}
    assert plan_config(config).phases[0].bytes_read == 2 * 10 * 4 * 8


def test_from_python() -> None:
    values = _data()
    options: dict[str, Any] = {"dims": ["cell", "gene"], "normalize": [{"minmax": {"per": ["gene"]}}]}
    selected = (POSITIONS < 40) & (POSITIONS % 2 == 0) & (uniform(11, SAMPLES) < 0.7)

    manifest = fit(values, samples=slice(0, 40, 2), fraction=0.7, seed=11, **options)

    assert manifest.digest == fit(values[selected], **options).digest
    assert manifest.provenance["fitted_on"] == {
        "where": None,
        "slice": {"start": 0, "stop": 40, "step": 2},
        "fraction": 0.7,
        "seed": 11,
        "samples": int(selected.sum()),
    }


def test_a_slice_of_the_configuration_is_pythons() -> None:
    assert SamplesConfig(start=2, stop=9, step=3).as_slice == slice(2, 9, 3)
    assert SamplesConfig().as_slice == slice(0, None, 1)


@pytest.mark.parametrize(
    ("section", "where"),
    [
        ({"samples": {"start": -1}}, "fit.samples.start"),
        ({"samples": {"start": 5, "stop": 5}}, "fit.samples.stop"),
        ({"samples": {"step": 0}}, "fit.samples.step"),
        ({"samples": {"stpo": 3}}, "fit.samples.stpo"),
        ({"samples": [0, 1000]}, "fit.samples"),
        ({"fraction": 0}, "fit.fraction"),
        ({"fraction": 1.5}, "fit.fraction"),
        ({"fraction": "10%"}, "fit.fraction"),
        ({"seed": -1}, "fit.seed"),
        ({"seed": 2**64}, "fit.seed"),
        ({"seed": 0.5}, "fit.seed"),
    ],
)
def test_a_malformed_scope_is_refused(section: dict[str, Any], where: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        _config(tmp_path, section)
    assert caught.value.where == where
    assert caught.value.expected


def test_a_configuration_may_name_a_preset(tmp_path: Path) -> None:
    values = _store(tmp_path / "in.zarr", 20)
    raw = _config(tmp_path, {}).model_dump(exclude={"cluster", "block_bytes"})
    for entry in ({"for_activation": "tanh"}, {"for_activation": {"activation": "tanh", "per": []}}):
        manifest = fit_config(parse_config({**raw, "normalize": [entry]}, Config), SilentReporter())
        assert [step.step.name for step in manifest.chain.steps] == ["zscore"]
        np.testing.assert_allclose(manifest.transform(values).std(), 1, rtol=1e-12)
        assert "for_activation" not in (tmp_path / "out.manifest" / "manifest.json").read_text()
