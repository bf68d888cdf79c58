"""What a contender is asked, and what it answers: JSON, one line each.

Standard library only: the processes of every contender import it. Not here: asking (`contender.py`), answering (`driver.py`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Task:
    """One piece of work on one store.

    Parameters
    ----------
    kind : str
        `fit`, `quantiles`, `apply`, `run` or `cells`.
    store, array : str
        The folder of the store, and the array in it.
    dims, per : tuple of str
        Of the array, and those that statistics are kept per.
    threads : int
    block_bytes : int
        What this program is told to take as one unit of work.
    fit_block, apply_block : tuple of int
        The blocks that floors and peers read then.
    output : str
        The folder of a store to write; it does not exist.
    template : str, optional
        A smaller output of this program: how the array in `output` is to be typed, chunked and compressed.
    statistics : str, optional
        An archive with `mean`, `std`, `min` and `max`, for what is applied without being fitted.
    results : str, optional
        The archive to write what was fitted to.
    """

    kind: str
    store: str
    array: str
    dims: tuple[str, ...]
    per: tuple[str, ...]
    threads: int
    block_bytes: int
    fit_block: tuple[int, ...]
    apply_block: tuple[int, ...]
    output: str
    template: str = ""
    statistics: str = ""
    results: str = ""

    def to_line(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_line(cls, line: str) -> Task:
        content: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in json.loads(line).items()
        }
        return cls(**content)

    @property
    def reduced(self) -> tuple[int, ...]:
        """The axes that statistics are taken over."""
        return tuple(axis for axis, dim in enumerate(self.dims) if dim not in self.per)


@dataclass(frozen=True)
class Answer:
    """What became of a task.

    Parameters
    ----------
    seconds : float
        Of the work alone.
    cpu_seconds : float, optional
        That the process used for the work, in all of its threads; None where other processes did it.
    peak_bytes : int, optional
        The largest resident memory of the process while it worked; None where other processes did the work.
    extra : mapping of str to float
        What else was measured.
    said : mapping of str to str
        What else there is to say, such as versions.
    cannot : str
        Why this contender cannot do such a task; empty where it can.
    error : str
        What went wrong; empty where nothing did.
    """

    seconds: float = 0.0
    cpu_seconds: float | None = None
    peak_bytes: int | None = None
    extra: dict[str, float] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    cannot: str = ""
    error: str = ""

    @property
    def done(self) -> bool:
        return not self.cannot and not self.error

    def to_line(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_line(cls, line: str) -> Answer:
        content: dict[str, Any] = json.loads(line)
        return cls(**content)
