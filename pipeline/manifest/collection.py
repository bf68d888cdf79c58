"""Several manifests, one for each array, as one folder: `collection.json` and an ordinary manifest in each sub-folder.

Not here: how they are applied to new data (`pipeline.inference`).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pipeline.errors import ConfigError, ManifestError
from pipeline.manifest.codec import read_text, save_files
from pipeline.manifest.digest import content_digest
from pipeline.manifest.folder import folder_path, write_folder
from pipeline.manifest.record import ManifestRecord
from pipeline.manifest.schema import (
    COLLECTION_FILE,
    MANIFEST_FILE,
    SCHEMA_VERSION,
    CollectionDocument,
    CollectionIntegrityEntry,
    MemberEntry,
    parse_as,
    render_collection,
)

COLLECTION_MAX_BYTES = 16 * 2**20
FOLDER_NAME_CHARACTERS = 60

AnyRecord = TypeVar("AnyRecord", bound=ManifestRecord)


def collection_digest(digests: Mapping[str, str]) -> str:
    """The digest of a collection from those of its manifests by array; their order is no part of it."""
    return content_digest({"schema_version": SCHEMA_VERSION, "arrays": dict(digests)})


def member_folder(index: int, name: str) -> str:
    """The sub-folder of the manifest number `index`, readable and legal in any file system.

    Examples
    --------
    >>> member_folder(0, "images"), member_folder(1, "layers/raw counts")
    ('0-images', '1-layers-raw-counts')
    """
    return f"{index}-{re.sub('[^A-Za-z0-9_-]+', '-', name)[:FOLDER_NAME_CHARACTERS]}"


def save_collection(records: Mapping[str, ManifestRecord], path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Write the folder `path`, at once and whole.

    Raises
    ------
    ConfigError, OutputExistsError, WriteError
        As `ManifestRecord.save`.
    """
    files: dict[str, bytes] = {}
    members = []
    for index, (name, record) in enumerate(records.items()):
        folder, own = member_folder(index, name), save_files(record)
        files.update({f"{folder}/{file}": content for file, content in own.items()})
        sha256 = hashlib.sha256(own[MANIFEST_FILE]).hexdigest()
        members.append(MemberEntry(name=name, folder=folder, digest=record.digest, manifest_sha256=sha256))
    document = CollectionDocument(
        digest=collection_digest({name: record.digest for name, record in records.items()}),
        arrays=members,
        integrity=CollectionIntegrityEntry(manifest_sha256=""),
    )
    files[COLLECTION_FILE] = render_collection(document)
    write_folder(folder_path(path, ConfigError), files, overwrite)


def is_collection(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a folder of several manifests; raises ManifestError where it cannot be a path."""
    return (folder_path(path, ManifestError) / COLLECTION_FILE).is_file()


def load_collection(path: str | os.PathLike[str], kind: type[AnyRecord]) -> dict[str, AnyRecord]:
    """The manifests that `save_collection` wrote, by array, each as a `kind`.

    Raises
    ------
    ManifestError
        Where the collection or one of its manifests is missing, cut short, altered in any byte, put in the place of another,
        or of another schema version.
    """
    folder = folder_path(path, ManifestError)
    where = str(folder / COLLECTION_FILE)
    document = parse_as(CollectionDocument, _read(folder), where)
    _check_members(document, where)
    return {member.name: _load_member(folder / member.folder, member, kind) for member in document.arrays}


def _read(folder: Path) -> bytes:
    path = folder / COLLECTION_FILE
    try:
        size_bytes = path.stat().st_size
        content = path.read_bytes() if size_bytes <= COLLECTION_MAX_BYTES else None
    except OSError as error:
        single = (folder / MANIFEST_FILE).is_file()
        raise ManifestError(
            "a single manifest is no collection of them" if single else "no collection of manifests there",
            where=str(folder),
            found=error.strerror or error,
            expected=f"a folder with {COLLECTION_FILE}",
            remedy="Manifest.load(path)" if single else "give the folder that the fit wrote",
        ) from None
    if content is None:
        raise ManifestError(
            "the collection is too large", where=str(path), found=f"{size_bytes} bytes", expected=f"{COLLECTION_MAX_BYTES}"
        )
    return content


def _check_members(document: CollectionDocument, where: str) -> None:
    """Raise ManifestError where names, folders or digests are not those that are written together."""
    digests = {member.name: member.digest for member in document.arrays}
    if len(digests) != len(document.arrays):
        raise ManifestError("a collection that names an array twice", where=where)
    for index, member in enumerate(document.arrays):
        if member.folder != member_folder(index, member.name):
            expected = member_folder(index, member.name)
            raise ManifestError("an array in another's folder", where=where, found=member.folder, expected=expected)
    if document.digest != collection_digest(digests):
        raise ManifestError(
            "the collection does not hold what its digest was taken of",
            where=where,
            found=collection_digest(digests),
            expected=document.digest,
        )


def _load_member(folder: Path, member: MemberEntry, kind: type[AnyRecord]) -> AnyRecord:
    sha256 = hashlib.sha256(read_text(folder)).hexdigest()
    record = kind.load(folder)
    if (record.digest, sha256) != (member.digest, member.manifest_sha256):
        raise ManifestError(
            "not the manifest that the collection was written with",
            where=str(folder),
            found=f"digest {record.digest}, sha256 {sha256}",
            expected=f"digest {member.digest}, sha256 {member.manifest_sha256}",
            remedy="copy the whole collection again or fit again",
        )
    return record
