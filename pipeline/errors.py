"""The exception tree, and what a user sees of it.

::

    PipelineError                 anything this program raises on purpose
    ├── RequestError              the request was wrong; exit status 2
    │   ├── ConfigError           a configuration that says something unknown, malformed or contradictory
    │   ├── SourceError           a store, an array, dims or a label that is not there or does not fit
    │   ├── OutputExistsError     something already stands where the output would go
    │   ├── ManifestError         a manifest that is missing, cut short, altered or of another schema
    │   ├── InputMismatchError    new data that does not fit the manifest (dims, sizes, labels, dtype)
    │   └── NotInvertibleError    an inverse was asked of a chain that has none
    └── RunError                  the request was right, the run failed; exit status 1
        ├── ChunkError            a stored chunk that is missing, unreadable or corrupt
        ├── DataError             values that the configuration does not allow (NaN, nothing to fit on, overflow)
        ├── WriteError            the output could not be written
        └── ClusterError          a cluster that cannot be reached or lost its workers

Not here: the errors of Zarr, Dask or NumPy; the modules that call them translate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

NAMES_SHOWN = 3


class PipelineError(Exception):
    """An error that says what went wrong, where, what was found, what was expected and what to do.

    Parameters
    ----------
    what : str
        One sentence without a full stop.
    where : str, optional
        The store, array, chunk, file or configuration path.
    found, expected : object, optional
        The value met and the values that would have been right.
    remedy : str, optional
        What the user can do about it.

    Examples
    --------
    >>> print(ConfigError("unknown key", where="fit.nam", found="nam", expected="nan, where", remedy="use 'nan'"))
    unknown key: fit.nam
      found:    nam
      expected: nan, where
      remedy:   use 'nan'
    """

    exit_status: ClassVar[int] = 1

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        found: object = None,
        expected: object = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.found = found
        self.expected = expected
        self.remedy = remedy

    def __str__(self) -> str:
        head = self.what if self.where is None else f"{self.what}: {self.where}"
        details = (("found", self.found), ("expected", self.expected), ("remedy", self.remedy))
        lines = [f"  {name + ':':<9} {value}" for name, value in details if value is not None]
        return "\n".join([head, *lines])

    def __reduce__(self) -> tuple[Callable[..., PipelineError], tuple[Any, ...]]:
        return _rebuild, (type(self), self.what, self.where, self.found, self.expected, self.remedy)


def _rebuild(
    kind: type[PipelineError],
    what: str,
    where: str | None,
    found: object,
    expected: object,
    remedy: str | None,
) -> PipelineError:
    return kind(what, where=where, found=found, expected=expected, remedy=remedy)


class RequestError(PipelineError):
    """The request was wrong."""

    exit_status: ClassVar[int] = 2


class ConfigError(RequestError):
    """A configuration that says something unknown, malformed or contradictory."""


class SourceError(RequestError):
    """A store, an array, dims or a label that is not there or does not fit."""


class OutputExistsError(RequestError):
    """Something already stands where the output would go."""


class ManifestError(RequestError):
    """A manifest that is missing, cut short, altered or of another schema."""


class InputMismatchError(RequestError):
    """New data that does not fit the manifest."""


class NotInvertibleError(RequestError):
    """An inverse was asked of a chain that has none."""


class RunError(PipelineError):
    """The request was right, the run failed."""


class ChunkError(RunError):
    """A stored chunk that is missing, unreadable or corrupt."""


class DataError(RunError):
    """Values that the configuration does not allow."""


class WriteError(RunError):
    """The output could not be written."""


class ClusterError(RunError):
    """A cluster that cannot be reached or lost its workers."""


def some_of(names: Sequence[str]) -> str:
    """The first few of `names`, for a message.

    Examples
    --------
    >>> some_of(["0-a", "1-b"]), some_of(["0-a", "1-b", "2-c", "3-d"])
    ('0-a, 1-b', '0-a, 1-b, 2-c, …')
    """
    return ", ".join([*names[:NAMES_SHOWN], *(["…"] if len(names) > NAMES_SHOWN else [])])
