"""The scripts: the environment they make, and the stores they write."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
ENTRY_POINTS = ("bench", "demo", "lock", "mnist-to-zarr", "run-local", "simulate-scale", "test")

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the scripts need bash")


def _executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with the scripts and nothing else."""
    root = tmp_path / "a repository"
    shutil.copytree(SCRIPTS, root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "requirements.lock").write_text("nothing==1\n")
    (root / "pyproject.toml").write_text("[project]\n")
    return root


def _run_local(root: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "ZARRNORM_PYTHON"}
    command = [str(root / "scripts" / "run-local"), *arguments]
    return subprocess.run(
        command, cwd=root.parent, env={**environment, **variables}, capture_output=True, text=True, check=False
    )


def _fake_python(root: Path) -> Path:
    """A Python that keeps a record of its calls and makes an environment whose zarrnorm prints how it was called."""
    return _executable(
        root / "fake-python",
        f"""#!/usr/bin/env bash
echo "$*" >>"{root}/calls"
if [ "$2" = venv ]; then
    target="${{@: -1}}"
    mkdir -p "$target/bin"
    cp "$0" "$target/bin/python"
    printf '#!/usr/bin/env bash\\necho "$PWD: $*"\\n' >"$target/bin/zarrnorm"
    chmod +x "$target/bin/zarrnorm"
fi
""",
    )


def _calls(root: Path) -> list[str]:
    return (root / "calls").read_text().splitlines()


def test_entry_points_can_be_called() -> None:
    for name in ENTRY_POINTS:
        assert os.access(SCRIPTS / name, os.X_OK)
        assert "set -euo pipefail" in (SCRIPTS / name).read_text()
        subprocess.run(["bash", "-n", str(SCRIPTS / name)], check=True)


def test_continuous_integration_runs_the_same_script() -> None:
    script = SCRIPTS.parent / ".ci" / "run"

    assert os.access(script, os.X_OK)
    assert "scripts/test" in script.read_text()


def test_a_python_that_is_too_old_is_told_in_one_line(root: Path) -> None:
    done = _run_local(root, "config.yaml", ZARRNORM_PYTHON=str(_executable(root / "old", "#!/bin/sh\nexit 1\n")))

    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert "Python 3.11 or newer" in done.stderr
    assert not (root / ".venv").exists()


def test_the_environment_is_made_once_and_anew_where_the_lock_changes(root: Path) -> None:
    python = str(_fake_python(root))

    first = _run_local(root, "a b.yaml", "--set", "x=1", ZARRNORM_PYTHON=python)
    assert first.returncode == 0, first.stderr
    assert first.stdout == f"{root.parent}: run a b.yaml --set x=1\n"
    installs = [call for call in _calls(root) if "pip install" in call]
    assert "--require-hashes" in installs[0]
    assert "--no-index" in installs[1]

    (root / "calls").unlink()
    again = _run_local(root, "a b.yaml", ZARRNORM_PYTHON=python)
    assert (again.stdout, again.stderr) == (f"{root.parent}: run a b.yaml\n", "")
    assert not (root / "calls").exists()

    (root / "requirements.lock").write_text("nothing==2\n")
    _run_local(root, "a.yaml", ZARRNORM_PYTHON=python)
    assert sum("pip install" in call for call in _calls(root)) == 2

    (root / "calls").unlink()
    (root / "pyproject.toml").write_text("[project]\nversion = '2'\n")
    _run_local(root, "a.yaml", ZARRNORM_PYTHON=python)
    assert sum("pip install" in call for call in _calls(root)) == 1


def test_an_environment_that_was_not_finished_is_made_anew(root: Path) -> None:
    python = str(_fake_python(root))
    _executable(root / ".venv" / "bin" / "python", "#!/bin/sh\nexit 1\n")

    assert _run_local(root, "a.yaml", ZARRNORM_PYTHON=python).returncode == 0


def test_two_calls_at_once_make_one_environment(root: Path) -> None:
    if shutil.which("flock") is None:
        pytest.skip("flock is not installed")
    python = str(_fake_python(root))
    command = [str(root / "scripts" / "run-local"), "a.yaml"]
    both = [subprocess.Popen(command, env={**os.environ, "ZARRNORM_PYTHON": python}) for _ in range(2)]

    assert [process.wait() for process in both] == [0, 0]
    assert sum("venv" in call.split() for call in _calls(root)) == 1


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_mnist_becomes_a_store_with_named_dims_and_splits(tmp_path: Path, zarr_format: int) -> None:
    generator = np.random.default_rng(3)
    parts = {}
    for split, count in (("train", 7), ("test", 4)):
        images = generator.integers(0, 256, size=(count, 28, 28), dtype="uint8")
        images[0] = 0
        parts[split] = {"images": images, "labels": np.arange(count, dtype="uint8")}
        np.savez(tmp_path / f"mnist_{split}.npz", **parts[split])
    script = [sys.executable, str(SCRIPTS / "mnist_to_zarr.py"), str(tmp_path), str(tmp_path / "mnist.zarr")]
    subprocess.run([*script, "--format", str(zarr_format)], check=True, capture_output=True)

    group = zarr.open_group(tmp_path / "mnist.zarr", mode="r")
    images = group["images"]
    assert group.metadata.zarr_format == zarr_format
    assert images.dtype == "uint8"
    np.testing.assert_array_equal(images[...], np.concatenate([part["images"] for part in parts.values()]))
    np.testing.assert_array_equal(group["label"][...], [*range(7), *range(4)])
    assert list(group["split"][...]) == ["train"] * 7 + ["test"] * 4
    named = images.metadata.dimension_names if zarr_format == 3 else images.attrs["_ARRAY_DIMENSIONS"]
    assert list(named) == ["sample", "y", "x"]


def test_mnist_that_is_not_there_is_said(tmp_path: Path) -> None:
    script = [sys.executable, str(SCRIPTS / "mnist_to_zarr.py"), str(tmp_path), str(tmp_path / "mnist.zarr")]
    done = subprocess.run(script, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "mnist_train.npz" in done.stderr
    assert not (tmp_path / "mnist.zarr").exists()
