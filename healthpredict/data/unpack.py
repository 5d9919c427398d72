"""Detect and unpack compressed files, and reject files of other programs. Both are recognised by their content."""

from __future__ import annotations

import lzma
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Final

import pyarrow as pa

from healthpredict.errors import BatchRefused

DATA_SET_FILE: Final = "diabetic_data.csv"
"""The file with the encounters in the published zip."""
MAX_UNPACKED_BYTES: Final = 1_000_000_000
"""A limit, because a few kilobytes could unpack to terabytes."""
_COPY_BYTES: Final = 1 << 20
_COMPRESSIONS: Final = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}
_ZIP: Final = b"PK\x03\x04"
_EMPTY_ZIP: Final = b"PK\x05\x06"
_OTHER_PROGRAMS: Final = {
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an Excel workbook (.xls)",
    b"%PDF": "a PDF document",
    b"ARROW1": "an Arrow file",
    b"SQLite format 3\x00": "an SQLite database",
    b"$FL2": "an SPSS file",
}
_SAVE_AS: Final = "save it as csv and deliver that"

Opener = Callable[[], IO[bytes]]
"""Opens the content at its first byte. It is called several times."""


@contextmanager
def unpacked(source: Path | bytes, name: str) -> Iterator[tuple[Opener, str | None]]:
    """Unpack a file if it is compressed (gzip, bz2, zstd, or a zip with one table).

    Args:
        source: a local file, or its content.
        name: of the file, for messages.

    Yields:
        An opener of the plain content, and the name of the compression, or None if the file is not compressed.

    Raises:
        BatchRefused: the file is damaged, is larger than `MAX_UNPACKED_BYTES` when unpacked, or belongs to another program.
    """
    opener: Opener = (lambda: BytesIO(source)) if isinstance(source, bytes) else (lambda: source.open("rb"))
    with opener() as file:
        start = file.read(32)
    if kind := next((kind for magic, kind in _OTHER_PROGRAMS.items() if start.startswith(magic)), None):
        raise BatchRefused(name, f"it is {kind}, not a table in csv or Parquet; {_SAVE_AS}")
    compression = next((found for magic, found in _COMPRESSIONS.items() if start.startswith(magic)), None)
    if start.startswith((_ZIP, _EMPTY_ZIP)):
        compression = "zip"
    if compression is None:
        yield opener, None
        return
    with tempfile.NamedTemporaryFile() as plain, opener() as packed:
        try:
            with _member(packed, name) if compression == "zip" else pa.input_stream(packed, compression) as content:
                _copy(content, plain, name)
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError) as error:
            raise BatchRefused(name, f"the {compression} is damaged or incomplete; deliver it again") from error
        except NotImplementedError as error:  # Deflate64, for example, which Windows uses above 2 GB
            problem = "the zip is compressed by a method that is not supported; compress it with Deflate or gzip"
            raise BatchRefused(name, problem) from error
        path = Path(plain.name)
        yield lambda: path.open("rb"), compression


def unpack(data: bytes, name: str) -> tuple[bytes, str | None]:
    """Return the plain content of a file, and the name of its compression or None. Errors as `unpacked`."""
    with unpacked(data, name) as (opener, compression), opener() as file:
        return file.read(), compression


@contextmanager
def _member(packed: IO[bytes], name: str) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(packed) as archive:
        files = [info for info in archive.infolist() if not info.is_dir() and not info.filename.startswith("__MACOSX/")]
        names = {info.filename for info in files}
        if any(inside.startswith("xl/") for inside in names):
            raise BatchRefused(name, f"it is an Excel workbook, not a table in csv or Parquet; {_SAVE_AS}")
        if {"mimetype", "content.xml"} <= names:
            raise BatchRefused(name, f"it is an OpenDocument spreadsheet, not a table in csv or Parquet; {_SAVE_AS}")
        # Some copies of the published archive have the data set in a folder, beside its description.
        published = [info for info in files if info.filename.rpartition("/")[2] == DATA_SET_FILE]
        chosen = published[:1] or files
        if len(chosen) != 1:
            raise BatchRefused(
                name, f"the zip holds {len(files)} files, and none is {DATA_SET_FILE}; deliver a zip with one table"
            )
        if chosen[0].flag_bits & 1:
            raise BatchRefused(name, "the zip is protected by a password; deliver it without a password")
        with archive.open(chosen[0]) as content:
            yield content


def _copy(content: IO[bytes], plain: IO[bytes], name: str) -> None:
    size = 0
    while block := content.read(_COPY_BYTES):
        size += len(block)
        if size > MAX_UNPACKED_BYTES:
            raise BatchRefused(
                name, f"it is larger than {MAX_UNPACKED_BYTES:,} bytes when unpacked; unpack it, then deliver that"
            )
        plain.write(block)
    plain.flush()
