"""Find the files of a FHIR Bulk Data export, and read their lines."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterator
from datetime import date
from typing import BinaryIO, Final, NamedTuple, cast

from healthpredict.errors import SourceError
from healthpredict.fhir.dates import read_moment
from healthpredict.storage.stored import Stored
from healthpredict.storage.uris import join, list_folder, local_copy, read_bytes

_NAMES: Final = re.compile(r".*\.ndjson(\.gz)?", re.IGNORECASE)
_MANIFEST: Final = "manifest.json"


class ExportFile(NamedTuple):
    """A file of an export."""

    stored: Stored
    name: str

    @property
    def compressed(self) -> bool:
        """Whether it is a gzip file."""
        return self.name.lower().endswith(".gz")


class Export(NamedTuple):
    """The files of an export.

    Attributes:
        files: all NDJSON files.
        until: day of the export, from its manifest, or None.
        notices: what else is in the folder, in sentences.
    """

    files: tuple[ExportFile, ...]
    until: date | None
    notices: tuple[str, ...]


def find_export(folder: str) -> Export:
    """List the NDJSON files of an export.

    Args:
        folder: local folder or `s3://bucket/prefix`. If it has a `manifest.json`, only the files that this names are read.

    Raises:
        SourceError: there is no NDJSON file, or one that the manifest names is missing.
        StorageError: the folder cannot be read.
    """
    listing = list_folder(folder)
    stored = {entry.name: entry for entry in listing.objects}
    names = sorted(name for name in stored if _NAMES.fullmatch(name))
    until, notices = None, []
    if _MANIFEST in stored:
        manifest = _read_manifest(join(folder, _MANIFEST))
        named = [entry.rpartition("/")[2].partition("?")[0] for entry in manifest.files]
        absent = [name for name in dict.fromkeys(named) if name not in stored]
        if absent:
            raise SourceError(
                f"The export {folder} is incomplete: {_MANIFEST} names {', '.join(absent)}. Copy it again."
            )
        if others := sorted(set(names) - set(named)):
            notices.append(f"Not read, because {_MANIFEST} does not name them: {', '.join(others)}.")
        names, until = list(dict.fromkeys(named)), manifest.until
    if not names:
        raise SourceError(
            f"There is no NDJSON file (.ndjson, .ndjson.gz) in {folder}. Name the folder of a Bulk Data export."
        )
    return Export(tuple(ExportFile(stored[name], name) for name in names), until, tuple(notices))


class _Manifest(NamedTuple):
    files: list[str]
    until: date | None


def _read_manifest(uri: str) -> _Manifest:
    problem = SourceError(
        f"{uri} is not the manifest of a Bulk Data export. Correct it, or remove it to read every NDJSON file."
    )
    try:
        content = json.loads(read_bytes(uri))
        files = [entry["url"] for entry in content["output"]]
    except (ValueError, TypeError, KeyError) as error:
        raise problem from error
    if not all(isinstance(url, str) for url in files):
        raise problem
    time = content.get("transactionTime")
    moment = read_moment(time) if isinstance(time, str) else None
    return _Manifest(files, moment.day if moment else None)


def lines_of(file: ExportFile, progress: Callable[[int], None]) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, with their numbers from 1. Args: progress, see `sort_export`."""
    with local_copy(file.stored.uri) as path, path.open("rb") as raw:
        content = cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if file.compressed else raw
        reported = 0
        for number, line in enumerate(content, 1):
            if not number & 1023:
                progress(raw.tell() - reported)
                reported = raw.tell()
            if not line.isspace():
                yield number, line
        progress(raw.tell() - reported)
