"""A folder that takes another's place when it is complete: written in a hidden folder beside it, then renamed.

Not here: stores that are not folders. They have no rename, so there the old metadata goes before the new chunks come
(`staging.clear`), and the old output is lost when a run begins to write.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from zarr.abc.store import Store
from zarr.storage import WrapperStore

from pipeline.errors import OutputExistsError
from pipeline.sink.staging import STAGING
from pipeline.source.store import local_path

REPLACED = "replaced"


def replaceable_folder(store: Store) -> Path | None:
    """The folder that `store` is, links resolved, where the whole of it can be replaced; None for any other store."""
    path = None if isinstance(store, WrapperStore) else local_path(store)
    return None if path is None else path.resolve()


def hidden_folder(folder: Path) -> Path:
    """Where what will replace `folder` is written: in the same file system, for a rename to be one step.

    Examples
    --------
    >>> hidden_folder(Path("out/images.zarr")).as_posix()
    'out/.images.zarr.zarrnorm'
    """
    return folder.parent / f".{folder.name}.zarrnorm"


def restore(folder: Path) -> None:
    """Put `folder` back where a run was killed after it had set it aside and before it had put the new one in place."""
    replaced = hidden_folder(folder) / REPLACED
    if replaced.exists() and not folder.exists():
        replaced.rename(folder)


def refuse_mount(folder: Path) -> None:
    """Raise OutputExistsError where `folder` cannot be renamed."""
    if os.path.ismount(folder):
        raise OutputExistsError(
            "the output is where a file system is mounted, which cannot be replaced",
            where=str(folder),
            remedy="set output.store to a folder inside it",
        )


def clear_hidden(folder: Path) -> None:
    """Remove what earlier runs left beside `folder`.

    Each is renamed before it is removed: a run that is about to put it in place finds all of it or nothing.
    """
    for path in [each for each in hidden_folder(folder).iterdir() if each.name != STAGING]:
        shutil.rmtree(path.rename(path.with_name(f"removed-{uuid4().hex}")))


def replace(folder: Path, new: Path) -> None:
    """Put `new` in the place of `folder`. Whatever fails, `folder` is as it was."""
    replaced = hidden_folder(folder) / REPLACED
    if folder.exists():
        folder.rename(replaced)
    try:
        new.rename(folder)
    except BaseException:
        restore(folder)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


def remove_hidden(folder: Path, name: str) -> None:
    """Remove `name` from the hidden folder of `folder`, and that too where nothing else is in it."""
    hidden = hidden_folder(folder)
    shutil.rmtree(hidden / name, ignore_errors=True)
    with suppress(OSError):
        (hidden / STAGING).rmdir()
        hidden.rmdir()
