"""Fetch the data set: from a file, a URL or the UCI archive."""

from __future__ import annotations

import hashlib
import logging
import zipfile
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from healthpredict.data.raw import format_raw
from healthpredict.data.unpack import DATA_SET_FILE, unpack
from healthpredict.errors import SourceError, SourceUnreachable
from healthpredict.storage.download import download
from healthpredict.storage.layout import Layout
from healthpredict.storage.uris import delete, exists, read_bytes

ARCHIVE_URL: Final = "https://archive.ics.uci.edu/static/public/296/diabetes+130-us+hospitals+for+years+1999-2008.zip"
PUBLISHED_SHA256: Final = "0689e7ec031237dc63031b938805c48377748761a3b26acab621567afa24df97"
"""Computed, like the size and the CRC-32 below, from the csv in the archive that UCI published."""
PUBLISHED_BYTES: Final = 19_159_383
PUBLISHED_CRC32: Final = 0xF785C050
PUBLISHED_ENCOUNTERS: Final = 101_766
SYNTHETIC_SEED: Final = 0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A csv of encounters with outcomes.

    Attributes:
        data: the csv.
        name: where it came from, for people.
        file: name of the copy in the raw folder.
        synthetic: whether the encounters are synthetic.
        compression: compression of the source, or None.
        from_fhir: whether it was made from a FHIR export.
    """

    data: bytes
    name: str
    file: str = DATA_SET_FILE
    synthetic: bool = False
    compression: str | None = None
    from_fhir: bool = False

    @property
    def sha256(self) -> str:
        """The digest of the csv."""
        return hashlib.sha256(self.data).hexdigest()


def fetch(layout: Layout, source: str | None, *, allow_synthetic: bool) -> Fetched:
    """Return the csv of a data set.

    Args:
        layout: of the data URI; a copy of the published data set there saves the download.
        source: path, `s3://` URI or `http(s)://` URL of a csv or of the published zip. A URL must lead to the published data
            set. A local file may contain other data, which is logged as a warning. None is the UCI archive.
        allow_synthetic: generate encounters if there is no source and the archive cannot be reached.

    Raises:
        SourceError: the URL cannot be reached, or is not the published data set.
        BatchRefused: a local zip contains no data set, or is damaged.
        StorageError: the file cannot be read.
    """
    try:
        if source and not source.startswith(("http://", "https://")):
            return _read(source)
        return _download(layout, source or ARCHIVE_URL)
    except SourceUnreachable as error:
        if source or not allow_synthetic:
            raise
        _logger.warning("The data set cannot be reached, so all encounters are synthetic. %s", error)
        return _synthetic()


def _read(source: str) -> Fetched:
    data, compression = unpack(read_bytes(source), source)
    fetched = Fetched(data, source, compression=compression)
    if fetched.sha256 != PUBLISHED_SHA256:
        _logger.warning(
            "%s is not the published data set (its SHA-256 is %s). It is used anyway.", source, fetched.sha256
        )
    return fetched


def _download(layout: Layout, url: str) -> Fetched:
    kept = layout.raw(DATA_SET_FILE)
    if exists(kept) and (fetched := Fetched(read_bytes(kept), url)).sha256 == PUBLISHED_SHA256:
        return fetched
    arrived = layout.raw("download")
    download(url, arrived)
    try:
        data = read_bytes(arrived)
    finally:
        delete(arrived)
    compression = None
    if zipfile.is_zipfile(BytesIO(data)):
        _check_directory(data, url)
        data, compression = unpack(data, url)
    fetched = Fetched(data, url, compression=compression)
    if fetched.sha256 != PUBLISHED_SHA256:
        raise _unpublished(url, f"its sha256 is {fetched.sha256} instead of {PUBLISHED_SHA256}")
    return fetched


def _check_directory(archive: bytes, url: str) -> None:
    """Check size and CRC-32 in the directory of a zip, so that only the published csv is unpacked."""
    try:
        with zipfile.ZipFile(BytesIO(archive)) as opened:
            members = [info for info in opened.infolist() if info.filename.rpartition("/")[2] == DATA_SET_FILE]
    except zipfile.BadZipFile as error:
        raise _unpublished(url, f"the zip is damaged ({error})") from error
    found = {(info.file_size, info.CRC) for info in members}
    if found != {(PUBLISHED_BYTES, PUBLISHED_CRC32)}:
        listed = ", ".join(f"{size:,} bytes with CRC-32 {crc:08x}" for size, crc in sorted(found)) or "missing"
        raise _unpublished(
            url,
            f"its {DATA_SET_FILE} is {listed} instead of {PUBLISHED_BYTES:,} bytes with CRC-32 {PUBLISHED_CRC32:08x}",
        )


def _unpublished(url: str, problem: str) -> SourceError:
    return SourceError(f"{url} is not the published data set: {problem}. Give a local file to use other data.")


def _synthetic() -> Fetched:
    from healthpredict.data.synthetic import DriftPlan, synthesize

    # The real data drifts too.
    data = format_raw(synthesize(PUBLISHED_ENCOUNTERS, SYNTHETIC_SEED, DriftPlan(strength=0.5)))
    name = f"synthetic encounters (seed {SYNTHETIC_SEED}, drift planted in the second half)"
    return Fetched(data, name, "synthetic.csv", synthetic=True)
