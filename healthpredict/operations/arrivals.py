"""Find the files that were delivered to `batches/`, `outcomes/` and `interventions/`, and determine whether they are complete.

A file counts as complete if its marker `NAME.done` is not older than the file, or if the file has not changed for
`arrival_seconds`. So a file that is still being copied is not read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from healthpredict.data.batches import INITIAL, natural_key
from healthpredict.errors import NotFound, Removed, StillArriving
from healthpredict.operations.installation import Installation
from healthpredict.storage.stored import Stored
from healthpredict.storage.uris import list_folder, local_copy, write_bytes

MARKER: Final = ".done"
_ENDINGS: Final = (".csv", ".csv.gz", ".parquet")
_RESERVED: Final = frozenset({"manifest"})
"""A batch with one of these names would overwrite files of the system."""
_MAX_NAME_BYTES: Final = 200
"""File systems allow 255 bytes. The name of a temporary file is 42 bytes longer than that of its batch."""
LIVE_CONTENTS: Final = re.compile(r"live-[0-9]+\.json")
"""Name of a file that lists the contents of a live batch, see `collect_live`."""
_LOG_FOLDER: Final = "log"
"""Subfolder for outcomes and feedback that the API received."""


class Fingerprint(BaseModel):
    """Identifies the content of a delivered file.

    Attributes:
        file: path below the data URI.
        size: in bytes.
        sha256: of the content.
        version: see `Stored.version`.
    """

    model_config = ConfigDict(frozen=True)

    file: str
    size: int
    sha256: str
    version: str


@dataclass(frozen=True, slots=True)
class DeliveredFile:
    """A file that was delivered.

    Attributes:
        name: of its batch.
        file: its path below the data URI, for messages.
        stored: its entry in the listing of the store.
        waits: why the file is not read yet, or None if it is complete.
    """

    name: str
    file: str
    stored: Stored
    waits: str | None

    @property
    def will_be_complete(self) -> bool:
        """Whether the file will count as complete after some time, if nobody changes it."""
        return self.waits is not None and self.stored.age_seconds >= 0


@dataclass(frozen=True, slots=True)
class Folder:
    """The files that were delivered to a folder.

    Attributes:
        files: batch name -> file, in natural order of the names.
        ignored: one sentence for each entry of the folder that is not read.
    """

    files: dict[str, DeliveredFile]
    ignored: tuple[str, ...]


def delivered_batches(installation: Installation) -> Folder:
    """List `batches/`."""
    return _list_delivered(installation, "batches")


def delivered_outcomes(installation: Installation) -> Folder:
    """List `outcomes/`."""
    return _list_delivered(installation, "outcomes")


def delivered_interventions(installation: Installation) -> Folder:
    """List `interventions/`."""
    return _list_delivered(installation, "interventions")


def write_with_marker(uri: str, data: bytes, *, exclusive: bool = False) -> None:
    """Write a file and its marker, so that the file counts as complete at once. The arguments are those of `write_bytes`."""
    write_bytes(uri, data, exclusive=exclusive)
    write_bytes(uri + MARKER, b"")


def fingerprint(delivered: DeliveredFile) -> Fingerprint:
    """Read a file and return its fingerprint.

    Raises:
        Removed: the file does not exist any more.
        StorageError: the file cannot be read.
    """
    with open_delivered(delivered) as path:
        return fingerprint_of(delivered, path)


@contextmanager
def open_delivered(delivered: DeliveredFile) -> Iterator[Path]:
    """Yield a local path to a delivered file, valid within the `with` block.

    Raises:
        Removed: the file does not exist any more.
        StorageError: the file cannot be read.
    """
    try:
        with local_copy(delivered.stored.uri) as path:
            yield path
    except (NotFound, FileNotFoundError) as error:
        raise Removed(delivered.file) from error


def fingerprint_of(delivered: DeliveredFile, path: Path) -> Fingerprint:
    """Return the fingerprint of a file that has a local copy at `path`."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    stored = delivered.stored
    return Fingerprint(file=delivered.file, size=stored.size, sha256=digest, version=stored.version)


def find_batch(installation: Installation, name: str) -> DeliveredFile:
    """Find the complete file of a batch.

    Raises:
        NotFound: no file of this name was delivered.
        StillArriving: the file may still be copied.
    """
    found = delivered_batches(installation).files.get(name)
    if found is None:
        raise NotFound(f"There is no batch {name!r} in {installation.layout.batches_folder}.")
    if found.waits is not None:
        raise StillArriving(found.file, found.waits)
    return found


def _list_delivered(installation: Installation, folder: str) -> Folder:
    listing = list_folder(f"{installation.settings.data_uri.rstrip('/')}/{folder}")
    stored = {found.name: found for found in listing.objects}
    files: dict[str, DeliveredFile] = {}
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
            elif not LIVE_CONTENTS.fullmatch(file):
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
            waits = _incomplete_because(stored[file], stored.get(file + MARKER), installation.settings.arrival_seconds)
            files[name] = DeliveredFile(name, f"{folder}/{file}", stored[file], waits)
    return Folder(
        dict(sorted(files.items(), key=lambda item: (item[0] != INITIAL, natural_key(item[0])))), tuple(ignored)
    )


def _problem_of_name(name: str) -> str | None:
    """Return why a batch cannot have this name, or None if it can."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if size > _MAX_NAME_BYTES:
        return f"its name is longer than {_MAX_NAME_BYTES} bytes"
    return None


def _shown(name: str) -> str:
    """Escape the bytes of a file name that are not UTF-8."""
    return name.encode(errors="backslashreplace").decode()


def _incomplete_because(stored: Stored, marker: Stored | None, arrival_seconds: float) -> str | None:
    """Return why a file may be incomplete, or None if it is complete."""
    if marker is not None and marker.age_seconds <= stored.age_seconds:
        return None
    if stored.age_seconds < 0:
        return (
            "its modification time is in the future, so nothing shows whether it is complete; correct the time, or write a "
            f"marker ({stored.name}{MARKER})"
        )
    if stored.age_seconds < arrival_seconds:
        return (
            f"it may still be copied; it is read once it has not changed for {arrival_seconds:.0f} s, or as soon as there is a "
            f"marker ({stored.name}{MARKER})"
        )
    return None
