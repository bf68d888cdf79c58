"""One run at a time writes to an output, and a run that lost it never publishes."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.abc.store import Store
from zarr.storage import LocalStore, MemoryStore, WrapperStore

from pipeline.block import Block, tile
from pipeline.errors import OutputExistsError, WriteError
from pipeline.sink import claim, staging
from pipeline.sink.claim import Run, claim_output
from pipeline.sink.zarr_sink import ZarrSink, check_output, create_output
from pipeline.source.open import open_source
from pipeline.source.zarr_source import ZarrSource
from tests.source.stores import SHAPE, Stored, numbered, stored_files, write_store

FLOAT64 = np.dtype(np.float64)
EVERYTHING = Block((0, 0, 0), SHAPE)
ANOTHER_MACHINE = {"host": "elsewhere"}
OTHER = {"token": "other", "host": "elsewhere", "namespace": "", "pid": 7, "started": "1", "since": "2026-01-01T00:00:00+00:00"}
CLAIM_AND_EXIT = "import sys; from pipeline.sink.claim import claim_output; claim_output(sys.argv[1], 'output', False)"


class Slow(WrapperStore[Store]):
    """A store in which something happens just before an object is stored."""

    def __init__(self, store: Store, before: Callable[[str], None]) -> None:
        super().__init__(store)
        self.before = before

    def _with_store(self, store: Store) -> Slow:
        return self

    async def set(self, key: str, value: Any) -> None:
        self.before(key)
        await self._store.set(key, value)


@pytest.fixture
def source(tmp_path: Path) -> ZarrSource:
    return open_source(write_store(tmp_path / "in.zarr", Stored(3, (3, 2, 4))), "images")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.zarr"


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, output: Path) -> Any:
    return output if request.param == "folder" else MemoryStore()


def write_all(sink: ZarrSink, values: Any) -> None:
    for block in tile(sink.shape, sink.write_unit):
        sink.write(block, values[block.slices].astype(sink.dtype))


def written(store: Any) -> Any:
    return open_source(store, "images").read(EVERYTHING)


def change_claim(folder: Path, **changes: Any) -> None:
    path = folder / ".zarrnorm" / "run"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_second_run_is_refused_and_harms_nothing(source: ZarrSource, store: Any) -> None:
    sink = create_output(source, store, FLOAT64)
    write_all(sink, numbered())
    for _ in range(2):
        with pytest.raises(OutputExistsError, match="another run is writing") as caught:
            create_output(source, store, FLOAT64)
        with pytest.raises(OutputExistsError, match="another run is writing"):
            check_output(source, store, FLOAT64)
    for told in (f"process {os.getpid()} on ", "since 20", "output.overwrite: true"):
        assert told in str(caught.value)
    sink.commit()
    np.testing.assert_array_equal(written(store), numbered())


def test_a_run_that_was_taken_over_writes_no_more_and_never_publishes(source: ZarrSource, store: Any) -> None:
    first = create_output(source, store, FLOAT64)
    write_all(first, numbered())
    second = create_output(source, store, FLOAT64, overwrite=True)
    block = next(tile(SHAPE, first.write_unit))
    for refused in (lambda: first.write(block, np.zeros(block.shape)), first.commit):
        with pytest.raises(WriteError, match="another run took the output over") as caught:
            refused()
        assert f"process {os.getpid()}" in str(caught.value)
    first.abandon()
    write_all(second, numbered() + 1)
    second.commit()
    np.testing.assert_array_equal(written(store), numbered() + 1)


def test_an_opened_sink_notices_too(source: ZarrSource, store: Any) -> None:
    first = create_output(source, store, FLOAT64)
    block = next(tile(SHAPE, first.write_unit))
    first.write(block, np.ones(block.shape))
    create_output(source, store, FLOAT64, overwrite=True)
    with pytest.raises(WriteError, match="took the output over"):
        first.write(block, np.ones(block.shape))
    with pytest.raises(WriteError, match="took the output over"):
        first.commit()


def test_a_takeover_during_a_long_block_is_noticed_before_its_objects_are_stored(
    source: ZarrSource, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "CHECK_SECONDS", 0.0)
    first = create_output(source, output, FLOAT64)
    taken = threading.Event()

    def take_over(key: str) -> None:
        if not taken.is_set():
            taken.set()
            (output / "other").write_text(json.dumps(OTHER))
            (output / "other").replace(output / ".zarrnorm" / "run")

    slow = ZarrSink(Slow(LocalStore(output), take_over), "images", first.claim)
    with pytest.raises(WriteError, match="took the output over"):
        slow.write(EVERYTHING, numbered(dtype=np.float64))
    until = time.monotonic() + 20
    stored: list[str] = []
    while not stored and time.monotonic() < until:  # Zarr raises while the first object is still on its way
        stored = [name for name in stored_files(output) if name.startswith("images/")]
    assert 1 <= len(stored) < source.grid.size


@pytest.mark.parametrize("replaces", [False, True])
def test_a_commit_that_loses_the_output_half_way_does_not_publish(
    source: ZarrSource, output: Path, monkeypatch: pytest.MonkeyPatch, replaces: bool
) -> None:
    if replaces:
        zarr.create_array(output, name="old", data=np.ones(3))
    before = stored_files(output)
    first = create_output(source, output, FLOAT64, overwrite=replaces)
    write_all(first, numbered())
    put = staging.set_bytes

    def takes_over(store: Store, key: str, content: bytes) -> None:
        put(store, key, content)
        if key == "images/zarr.json":
            with pytest.MonkeyPatch.context() as restored:
                restored.setattr(staging, "set_bytes", put)
                create_output(source, output, FLOAT64, overwrite=True)

    monkeypatch.setattr(staging, "set_bytes", takes_over)
    with pytest.raises(WriteError, match="took the output over"):
        first.commit()
    if replaces:
        assert stored_files(output) == before
    else:
        with pytest.raises(Exception, match=r"(?i)no |not"):
            zarr.open(output, mode="r")


def test_an_abandoned_output_is_begun_anew_and_takes_no_more(source: ZarrSource, store: Any) -> None:
    with create_output(source, store, FLOAT64) as first:
        write_all(first, numbered())
    with pytest.raises(WriteError, match="not being written"):
        first.write(EVERYTHING, numbered(dtype=np.float64))
    with pytest.raises(WriteError, match="not being written"):
        first.commit()
    check_output(source, store, FLOAT64)
    second = create_output(source, store, FLOAT64)
    write_all(second, numbered() + 1)
    first.abandon()
    second.commit()
    np.testing.assert_array_equal(written(store), numbered() + 1)


def test_an_error_in_the_context_abandons_the_output(source: ZarrSource, store: Any) -> None:
    with pytest.raises(KeyboardInterrupt), create_output(source, store, FLOAT64):
        raise KeyboardInterrupt
    create_output(source, store, FLOAT64)


def test_abandoning_a_complete_output_changes_nothing(source: ZarrSource, store: Any) -> None:
    with create_output(source, store, FLOAT64) as sink:
        write_all(sink, numbered())
        sink.commit()
        sink.abandon()
    np.testing.assert_array_equal(written(store), numbered())


def test_a_dead_run_of_this_machine_is_taken_over(source: ZarrSource, output: Path) -> None:
    subprocess.run([sys.executable, "-c", CLAIM_AND_EXIT, output], check=True, cwd=Path(__file__).parents[2])
    assert (output / ".zarrnorm" / "run").exists()
    check_output(source, output, FLOAT64)
    write_all(sink := create_output(source, output, FLOAT64), numbered())
    sink.commit()
    np.testing.assert_array_equal(written(output), numbered())


@pytest.fixture
def unreaped() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    yield process
    process.communicate()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not tell when a process started")
def test_a_process_number_that_another_process_got_is_dead(source: ZarrSource, output: Path) -> None:
    create_output(source, output, FLOAT64)
    change_claim(output, started="1")
    create_output(source, output, FLOAT64)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not tell of the dead")
def test_a_killed_process_that_nobody_reaped_is_dead(unreaped: subprocess.Popen[bytes], tmp_path: Path) -> None:
    holder = Run("token", **{**claim_fields(tmp_path), "pid": unreaped.pid, "started": claim._started(unreaped.pid)})
    assert not holder.is_over
    unreaped.kill()
    os.waitid(os.P_PID, unreaped.pid, os.WEXITED | os.WNOWAIT)
    assert holder.is_over


def claim_fields(folder: Path) -> dict[str, Any]:
    claim_output(str(folder), "output", False)
    held = json.loads((folder / ".zarrnorm" / "run").read_text())
    return {name: value for name, value in held.items() if name != "token"}


def test_a_run_of_another_machine_is_never_known_to_be_dead(source: ZarrSource, output: Path) -> None:
    first = create_output(source, output, FLOAT64)
    for elsewhere in (ANOTHER_MACHINE, {"namespace": "pid:[1]"}):
        change_claim(output, pid=2**22 + 1, **elsewhere)
        with pytest.raises(OutputExistsError, match=f"process {2**22 + 1} on "):
            create_output(source, output, FLOAT64)
    create_output(source, output, FLOAT64, overwrite=True)
    with pytest.raises(WriteError, match="took the output over"):
        first.commit()


def test_what_no_run_wrote_is_no_claim(source: ZarrSource, output: Path) -> None:
    (output / ".zarrnorm").mkdir(parents=True)
    for content in ("", "{}", "[1]", '{"token": "only"}', "zarrnorm is writing"):
        (output / ".zarrnorm" / "run").write_text(content)
        create_output(source, output, FLOAT64).abandon()


def test_of_many_at_once_one_gets_the_output(output: Path) -> None:
    barrier, tokens = threading.Barrier(8), []

    def go() -> None:
        barrier.wait()
        try:
            tokens.append(claim_output(str(output), "output", False).token)
        except OutputExistsError:
            tokens.append(None)

    threads = [threading.Thread(target=go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens) == 8
    assert len([token for token in tokens if token is not None]) == 1


def test_a_file_system_without_links_will_do(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: Any) -> None:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(os, "link", refuses)
    assert claim_output(str(output), "output", False).held()
    with pytest.raises(OutputExistsError):
        claim_output(str(output), "output", False)


def test_an_output_completed_just_before_the_claim_is_kept(
    source: ZarrSource, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = create_output(source, output, FLOAT64)
    write_all(first, numbered())

    def late(*arguments: Any) -> Any:
        first.commit()
        return claim_output(*arguments)

    monkeypatch.setattr("pipeline.sink.zarr_sink.claim_output", late)
    with pytest.raises(OutputExistsError, match="the output exists"):
        create_output(source, output, FLOAT64)
    np.testing.assert_array_equal(written(output), numbered())


def test_a_check_leaves_no_trace(source: ZarrSource, output: Path) -> None:
    check_output(source, output, FLOAT64)
    assert not output.exists()
    zarr.create_array(output, name="old", data=np.ones(3))
    before = stored_files(output.parent)
    check_output(source, output, FLOAT64, overwrite=True)
    with pytest.raises(OutputExistsError, match="the output exists"):
        check_output(source, output, FLOAT64)
    assert stored_files(output.parent) == before


def test_a_lost_sink_makes_no_folder(source: ZarrSource, output: Path) -> None:
    zarr.create_array(output, name="old", data=np.ones(3))
    with create_output(source, output, FLOAT64, overwrite=True) as sink:
        copy = pickle.loads(pickle.dumps(sink))
    with pytest.raises(WriteError, match="not being written"):
        copy.write(EVERYTHING, numbered(dtype=np.float64))
    assert sorted(path.name for path in output.parent.iterdir()) == ["in.zarr", "out.zarr"]
