"""A folder of files that appears at once and whole, or not at all.

Not here: what the files say.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import OutputExistsError, PipelineError, WriteError
from pipeline.manifest.schema import ARRAYS_FILE, COLLECTION_FILE, MANIFEST_FILE

MANIFEST_FILES = frozenset({MANIFEST_FILE, ARRAYS_FILE})
MEMBER_FOLDER = re.compile("[0-9]+-[A-Za-z0-9_-]*")


def folder_path(path: str | os.PathLike[str], refusal: type[PipelineError]) -> Path:
    """`path`, absolute; raises `refusal` where no file system could have it."""
    try:
        absolute = Path(os.path.abspath(path))
        os.lstat(absolute)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return absolute
    except (OSError, ValueError, TypeError) as error:
        shown = str(path).replace("\0", "\\0")
        reason = getattr(error, "strerror", None) or error
        raise refusal("not the path of a folder", where=shown, found=reason, expected="the path of a manifest") from None
    return absolute


def check_writable(path: Path, overwrite: bool) -> None:
    """That `write_folder` could write files there now; leaves nothing.

    Raises
    ------
    OutputExistsError
        Where something is at `path` and `overwrite` is not set, or is not a folder that it replaces.
    WriteError
        Where the file system refuses.
    """
    check_free(path, overwrite)
    above = next(parent for parent in path.parents if os.path.lexists(parent))
    probe = above / f".{uuid.uuid4().hex}.new"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise _refused(path, error) from error


def write_folder(path: Path, files: Mapping[str, bytes], overwrite: bool) -> None:
    """Write `files` into the new folder `path`; a name may begin with that of a folder in it.

    They are written and synced under another name beside `path`, which is then renamed. With `overwrite` an older folder
    that holds nothing but the files of a manifest, or of several, is moved aside first and removed afterwards.

    Raises
    ------
    OutputExistsError
        Where something is at `path` and `overwrite` is not set, or is not such a folder.
    WriteError
        Where the file system refuses.
    """
    replaced = check_free(path, overwrite)
    mark = uuid.uuid4().hex
    fresh, old = path.with_name(f".{mark}.new"), path.with_name(f".{mark}.old")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_files(fresh, files)
        if replaced:
            path.rename(old)
        _publish(fresh, path, old if replaced else None)
        _sync_folder(path.parent)
    except FileExistsError as error:
        raise _exists(Path(error.filename or path)) from None
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:  # another process put its folder there first
            raise _exists(path) from None
        raise _refused(path, error) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    if replaced:
        _remove(old)


def check_free(path: Path, overwrite: bool) -> bool:
    """Whether there is something at `path` that may be replaced; only looks.

    Raises
    ------
    OutputExistsError
        Where it may not.
    WriteError
        Where the file system refuses to tell.
    """
    if not os.path.lexists(path):
        return False
    if not overwrite:
        raise _exists(path)
    try:
        with os.scandir(path) as entries:
            ours = all(_is_ours(entry) for entry in entries)
    except NotADirectoryError:
        ours = False
    except OSError as error:
        raise _refused(path, error) from error
    if not ours:
        raise OutputExistsError(
            "what is there is no manifest and is not overwritten", where=str(path), remedy="choose another path"
        )
    return True


def _is_ours(entry: os.DirEntry[str]) -> bool:
    """Whether an entry of a folder is a file of a manifest, or a folder that holds nothing but these two."""
    if MEMBER_FOLDER.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
        return set(os.listdir(entry)) <= MANIFEST_FILES
    return entry.name in MANIFEST_FILES or entry.name == COLLECTION_FILE


def _refused(path: Path, error: OSError) -> WriteError:
    return WriteError(
        "the manifest cannot be written",
        where=str(path),
        found=error.strerror or str(error),
        remedy="choose another path, or check free space and permissions",
    )


def _exists(path: Path) -> OutputExistsError:
    remedy = "choose another path, or replace it: --set output.overwrite=true, in Python overwrite=True"
    return OutputExistsError("something is already there", where=str(path), remedy=remedy)


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        with open(folder / name, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    for each in {(folder / name).parent for name in files} | {folder}:
        _sync_folder(each)


def _publish(fresh: Path, path: Path, old: Path | None) -> None:
    try:
        if os.path.lexists(path):  # a rename would silently replace an empty folder
            raise FileExistsError(path)
        fresh.rename(path)
    except OSError:
        if old is not None and not os.path.lexists(path):
            old.rename(path)
        raise


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_symlink():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)
