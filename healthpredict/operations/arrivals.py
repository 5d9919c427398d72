"""What has been delivered to `batches/` and `outcomes/`, and whether it is whole.

A file counts as whole if its marker `NAME.done` is not older than the file, or if the file was not changed for
`arrival_seconds`. So a file that is still being copied is never read.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from healthpredict.config import Settings
from healthpredict.data.batches import INITIAL, natural_key
from healthpredict.errors import NotFound, StillArriving
from healthpredict.storage.layout import Layout
from healthpredict.storage.stored import Stored
from healthpredict.storage.uris import list_folder, local_copy, write_bytes

MARKER: Final = ".done"
_ENDINGS: Final = (".csv", ".csv.gz", ".parquet")
_RESERVED: Final = frozenset({"manifest"})
"""Names whose files would replace the system's own."""
_LONGEST_NAME: Final = 200
"""Bytes. Files made for a batch have its name and 42 bytes more while they are written; file systems allow 255."""
_OWN: Final = re.compile(r"live-[0-9]+\.json")
_LOG_FOLDER: Final = "log"


class Fingerprint(BaseModel):
    """What identifies the content of a delivered file.

    Attributes:
        file: its path below the data URI.
        size: bytes.
        sha256: of its content.
        version: see `Stored.version`.
    """

    model_config = ConfigDict(frozen=True)

    file: str
    size: int
    sha256: str
    version: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """A file that was delivered.

    Attributes:
        name: of its batch.
        file: its path below the data URI, for messages.
        stored: what the store says about it.
        waits: why it is not read yet; None if it is whole.
    """

    name: str
    file: str
    stored: Stored
    waits: str | None


@dataclass(frozen=True, slots=True)
class Folder:
    """What was delivered to a folder.

    Attributes:
        files: batch name -> file, in natural order of the names.
        ignored: what is there and not read, in sentences.
    """

    files: dict[str, Delivered]
    ignored: tuple[str, ...]


def delivered_batches(settings: Settings) -> Folder:
    """What is in `batches/`."""
    return _look(settings, "batches")


def delivered_outcomes(settings: Settings) -> Folder:
    """What is in `outcomes/`."""
    return _look(settings, "outcomes")


def deliver(uri: str, data: bytes, *, exclusive: bool = False) -> None:
    """Write a file that this system made, with its marker, because it is whole at once. Arguments as `write_bytes`."""
    write_bytes(uri, data, exclusive=exclusive)
    write_bytes(uri + MARKER, b"")


def fingerprint(delivered: Delivered) -> Fingerprint:
    """Read a file and return its digest.

    Raises:
        StorageError: it cannot be read.
    """
    with local_copy(delivered.stored.uri) as path:
        return fingerprint_of(delivered, path)


def fingerprint_of(delivered: Delivered, path: Path) -> Fingerprint:
    """The fingerprint of a file with a local copy."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    stored = delivered.stored
    return Fingerprint(file=delivered.file, size=stored.size, sha256=digest, version=stored.version)


def find_batch(settings: Settings, name: str) -> Delivered:
    """The whole file of a batch.

    Raises:
        NotFound: no file of this name was delivered.
        StillArriving: it may still be being copied.
    """
    found = delivered_batches(settings).files.get(name)
    if found is None:
        raise NotFound(f"There is no batch {name!r} in {Layout(settings.data_uri).batches_folder}.")
    if found.waits is not None:
        raise StillArriving(found.file, found.waits)
    return found


def _look(settings: Settings, folder: str) -> Folder:
    listing = list_folder(f"{settings.data_uri.rstrip('/')}/{folder}")
    stored = {found.name: found for found in listing.objects}
    files: dict[str, Delivered] = {}
    ignored = [
        f"{folder}/{_shown(name)}/ is a folder; deliver files." for name in listing.folders if name != _LOG_FOLDER
    ]
    ignored += [f"{folder}/{_shown(name)} is no regular file." for name in listing.others]
    for file in sorted(stored, key=natural_key):
        ending = next((ending for ending in _ENDINGS if file.lower().endswith(ending)), None)
        name = file[: -len(ending)] if ending else file
        if ending is None:
            if file.endswith(MARKER):
                if file.removesuffix(MARKER) not in stored:
                    ignored.append(f"{folder}/{_shown(file)} is a marker without its file.")
            elif not _OWN.fullmatch(file):
                ignored.append(
                    f"{folder}/{_shown(file)} is not read; the endings that are read: {', '.join(_ENDINGS)}."
                )
        elif (problem := _problem_of_name(name)) is not None:
            ignored.append(f"{folder}/{_shown(file)} is not read, because {problem}; deliver it under another name.")
        elif name.lower() in _RESERVED:
            ignored.append(f"{folder}/{file} has a reserved name; deliver it under another one.")
        elif name in files:
            ignored.append(f"{folder}/{file} is not read, because {files[name].file} has the same name.")
        else:
            waits = _waits(stored[file], stored.get(file + MARKER), settings.arrival_seconds)
            files[name] = Delivered(name, f"{folder}/{file}", stored[file], waits)
    return Folder(
        dict(sorted(files.items(), key=lambda item: (item[0] != INITIAL, natural_key(item[0])))), tuple(ignored)
    )


def _problem_of_name(name: str) -> str | None:
    """Why the files and events of a batch cannot have its name, or None."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if size > _LONGEST_NAME:
        return f"its name is longer than {_LONGEST_NAME} bytes"
    return None


def _shown(name: str) -> str:
    """A file name that can be printed and stored, whatever bytes it has."""
    return name.encode(errors="backslashreplace").decode()


def _waits(stored: Stored, marker: Stored | None, arrival_seconds: float) -> str | None:
    if marker is not None and marker.age_seconds <= stored.age_seconds:
        return None
    if stored.age_seconds < 0:
        return "its modification time is in the future, so it cannot be known whether it is whole"
    if stored.age_seconds < arrival_seconds:
        return (
            f"it was changed {stored.age_seconds:.0f} s ago and may still be being copied; it is read once it has not "
            f"changed for {arrival_seconds:.0f} s, or at once with a marker ({stored.name}{MARKER})"
        )
    return None
