"""Which run is writing an output: a claim that is stored with it and that one run holds at a time.

Not here: what is written (`zarr_sink.py`) and how it is held back (`staging.py`).
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from zarr.abc.store import Store
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.core.sync import sync

from pipeline.errors import OutputExistsError, SourceError, WriteError
from pipeline.sink.staging import STAGING
from pipeline.source.store import open_store

CLAIM = f"{STAGING}/run"


@dataclass(frozen=True)
class Run:
    """A run as its claim names it.

    Parameters
    ----------
    token : str
        Random, so that two runs of one process differ too.
    host : str
    namespace : str
        Within which the process number means something (containers have their own), where the system tells.
    pid : int
        Number of the process.
    started : str
        When the process started, in the system's own unit: what tells it from a later one with its number.
    since : str
        When the run began to write.
    """

    token: str
    host: str
    namespace: str
    pid: int
    started: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"

    @property
    def is_over(self) -> bool:
        """Whether the run is known to have ended: its process was one of this machine, and is no more."""
        if (self.host, self.namespace) != (socket.gethostname(), _namespace()) or os.name == "nt":
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # it is another user's
        return _started(self.pid) not in ("", self.started)


@dataclass(frozen=True)
class Claim:
    """The right of one run to write an output; it is lost when another run takes the output over.

    Parameters
    ----------
    store : str or zarr.abc.store.Store
        Where the claim is kept.
    token : str
        Of the run.
    output : str
        What is written, for messages.
    """

    store: str | Store
    token: str
    output: str

    def check(self) -> None:
        """Raise WriteError, naming who writes the output now, where the claim is lost: one small object is fetched."""
        sync(self.check_async())

    async def check_async(self) -> None:
        """`check`, for a store's own methods."""
        run = await self._holder()
        if run is None:
            raise WriteError(
                "the output is not being written: it is complete, or was never begun, or its run was stopped", where=self.output
            )
        if run.token != self.token:
            raise WriteError(
                "another run took the output over",
                where=self.output,
                found=run,
                remedy="let one run at a time write to an output",
            )

    def held(self) -> bool:
        """Whether the run may still write."""
        run = sync(self._holder())
        return run is not None and run.token == self.token

    def release(self) -> None:
        """Give the claim up, so that the next run may have it; nothing where it is lost."""
        if self.held():
            sync(open_store(self.store, "w").delete(CLAIM))

    async def _holder(self) -> Run | None:
        return await _holder(self.store)


def claim_output(address: str | Store, output: str, overwrite: bool) -> Claim:
    """The claim to write `output`, kept in the store at `address`.

    It is put there only if there is none. One that is there is replaced where its run is known to be over or `overwrite` is
    set; its run then fails when it writes next or commits.

    Raises
    ------
    OutputExistsError
        Where another run has the claim that may be alive.
    """
    store, run = open_store(address, "w"), _this_run()
    if _put_if_absent(store, run) != run:
        refuse_running(address, output, overwrite)
        sync(store.set(CLAIM, _content(run)))
        if (holder := sync(_read(store))) != run:
            raise _taken(output, holder)
    return Claim(address, run.token, output)


def refuse_running(address: str | Store, output: str, overwrite: bool) -> None:
    """Raise OutputExistsError where a run that may be alive has the claim, unless `overwrite` takes it from it."""
    holder = sync(_holder(address))
    if holder is not None and not overwrite and not holder.is_over:
        raise _taken(output, holder)


def _put_if_absent(store: Store, run: Run) -> Run | None:
    """Who has the claim after `run` asked for it."""
    try:
        sync(store.set_if_not_exists(CLAIM, _content(run)))
    except OSError:  # a file system without links, which are how it is done there
        if sync(_read(store)) is None:
            sync(store.set(CLAIM, _content(run)))
    return sync(_read(store))


def _content(run: Run) -> Buffer:
    return default_buffer_prototype().buffer.from_bytes(json.dumps(asdict(run)).encode())


async def _holder(address: str | Store) -> Run | None:
    try:
        return await _read(open_store(address, "r"))
    except (SourceError, FileNotFoundError):
        return None  # a folder that is not there; opened for writing it would be made


async def _read(store: Store) -> Run | None:
    """The run that has the claim; None where there is none, or something that no run wrote."""
    content = await store.get(CLAIM, default_buffer_prototype())
    try:
        return None if content is None else Run(**json.loads(content.to_bytes()))
    except (ValueError, TypeError):
        return None


def _taken(output: str, holder: Run | None) -> OutputExistsError:
    return OutputExistsError(
        "another run is writing the output",
        where=output,
        found=holder,
        remedy="wait for it; once it is known to be dead, set output.overwrite: true to take the output over",
    )


def _this_run() -> Run:
    return Run(
        token=uuid4().hex,
        host=socket.gethostname(),
        namespace=_namespace(),
        pid=os.getpid(),
        started=_started(os.getpid()),
        since=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When the process started, ``"ended"`` for one that only waits to be reaped, and ``""`` where the system does not tell."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "ended" if after_name[0] in "ZX" else after_name[19]
