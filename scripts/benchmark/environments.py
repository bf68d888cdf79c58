"""The peers, and the environments that they run in: made once from pinned requirements, one for each file in `peers/`.

Not here: what they do (`peers/`).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.contender import Contender

PEER_KINDS = ("fit", "apply", "run")
PYTHONS = ("python3.11", "python3.12", "python3.13")
REQUIREMENTS = Path(__file__).resolve().parent / "peers"
SPACE_BYTES = 4 * 10**9


@dataclass(frozen=True)
class Peer:
    """Someone to compare with.

    Parameters
    ----------
    name : str
    module : str
        The driver in `benchmark.peers`.
    environment : str
        The file of requirements, without its suffix.
    argument : str
        What the driver takes.
    needs : str
        A program that must be on the path, such as `java`.
    kinds : tuple of str
    run_is_sum, same_output : bool
        See `Contender`.
    """

    name: str
    module: str
    environment: str
    argument: str = ""
    needs: str = ""
    kinds: tuple[str, ...] = PEER_KINDS
    run_is_sum: bool = True
    same_output: bool = True


PEERS = (
    Peer("dask", "dask_array", "dask"),
    Peer("dask-ml StandardScaler", "dask_ml", "dask-ml", "StandardScaler"),
    Peer("dask-ml MinMaxScaler", "dask_ml", "dask-ml", "MinMaxScaler", same_output=False),
    Peer("xarray", "xarray_dataset", "dask"),
    Peer("scikit-learn", "scikit_learn", "scikit-learn"),
    Peer("bridgescaler", "bridge", "bridgescaler"),
    Peer("scanpy", "scanpy_dask", "scanpy", kinds=(*PEER_KINDS, "cells"), run_is_sum=False),
    Peer("TensorFlow Transform", "tft", "tensorflow-transform"),
    Peer("Spark MLlib", "spark", "spark", needs="java"),
    Peer("Ray Data", "ray_data", "ray"),
)


def wanted_peers(names: Sequence[str]) -> list[Peer]:
    """Those whose names, or the names of whose environments, are given; all of them for `all`, none for `none`.

    Raises
    ------
    ValueError
        Where a name is no peer's.
    """
    known = {peer.name for peer in PEERS} | {peer.environment for peer in PEERS} | {"all", "none"}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no such peer: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return [peer for peer in PEERS if {"all", peer.name, peer.environment} & set(names)]


def contender(peer: Peer, folder: Path, say: Callable[[str], None]) -> Contender | str:
    """The peer as one who takes part, in its environment in `folder`; or why it cannot."""
    if peer.needs and shutil.which(peer.needs) is None:
        return f"{peer.needs} is not installed"
    environment = folder / peer.environment
    requirements = (REQUIREMENTS / f"{peer.environment}.txt").read_text()
    made_from = environment / "made-from"
    if not made_from.exists() or made_from.read_text() != requirements:
        say(f"installing {peer.environment} in {environment}")
        if reason := _make(environment, peer.environment):
            return reason
        made_from.write_text(requirements)
    module = (f"benchmark.peers.{peer.module}", *([peer.argument] if peer.argument else []))
    python = str(environment / "bin" / "python")
    return Contender(peer.name, python, module, peer.kinds, True, peer.run_is_sum, peer.same_output)


def _make(environment: Path, name: str) -> str:
    """Make an environment; why that failed, or nothing."""
    python = _find_python()
    if python is None:
        return f"its environment needs one of {', '.join(PYTHONS)}, which are not on the path"
    environment.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(environment.parent).free < SPACE_BYTES:
        return f"its environment may need {SPACE_BYTES / 1e9:.0f} GB, which are not free"
    shutil.rmtree(environment, ignore_errors=True)
    install = ["-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-cache-dir"]
    for command in (
        [python, "-m", "venv", str(environment)],
        [str(environment / "bin" / "python"), *install, "--requirement", str(REQUIREMENTS / f"{name}.txt")],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"its environment cannot be made: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
    return ""


def _find_python() -> str | None:
    """A Python that the pins suit; a name on the path proves nothing, since version managers leave names there that fail."""
    candidates = ([sys.executable] if sys.version_info[:2] == (3, 11) else []) + list(PYTHONS)
    for candidate in candidates:
        try:
            done = subprocess.run([candidate, "-c", "import ensurepip, venv"], capture_output=True, check=False)
        except OSError:
            continue
        if done.returncode == 0:
            return candidate
    return None
