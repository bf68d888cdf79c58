"""A manifest of schema version 1, written once: every later version must read it and give the same bits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline import Manifest

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="module")
def expected() -> dict[str, str]:
    return json.loads((FIXTURES / "v1.expected.json").read_text())


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return Manifest.load(FIXTURES / "v1.manifest")


def values_of(expected, name):
    return np.frombuffer(bytes.fromhex(expected[name]), "<f4").reshape(expected["shape"])


def test_it_loads_with_the_digest_it_was_written_with(manifest, expected):
    assert manifest.digest == expected["digest"]


def test_it_transforms_to_the_recorded_bits(manifest, expected):
    output = manifest.transform(values_of(expected, "input_hex"))
    assert output.astype("<f4").tobytes().hex() == expected["output_hex"]


def test_it_inverts_to_the_recorded_bits(manifest, expected):
    original = manifest.inverse_transform(values_of(expected, "output_hex"))
    assert original.astype("<f4").tobytes().hex() == expected["inverse_hex"]
    assert np.isfinite(original).all()


def test_it_says_what_it_was_fitted_on(manifest):
    shown = manifest.to_json()
    assert [step["name"] for step in shown["chain"]] == ["zscore", "affine", "maxabs", "minmax"]
    assert shown["labels"] == {"y": [10, 20, 30], "gene": ["TP53", "MYC", "Größe", ""]}
    assert (shown["per"], shown["before_step"]) == (["gene"], 0)
    assert shown["statistics"]["nobs"] == [36, 35, 36, 36] and shown["statistics"]["nan"] == [0, 1, 0, 0]
    assert shown["statistics"]["skewness"][2] is None


def test_saving_it_again_gives_the_same_bytes(manifest, tmp_path):
    manifest.save(tmp_path / "again")
    for name in ("manifest.json", "arrays.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (FIXTURES / "v1.manifest" / name).read_bytes()
