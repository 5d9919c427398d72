"""A local file that grows by whole lines until it is closed. Closed files can be shipped.

An open file is locked. If it has no lock, its process was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

OPEN: Final = ".open"
CLOSED: Final = ".jsonl"
PREDICTIONS: Final = "predictions"
OUTCOMES: Final = "outcomes"
FEEDBACK: Final = "feedback"
"""The kinds of files. The name of a file begins with its kind."""
NOT_A_ROW: Final = b'{"format":'
"""A line with this prefix is a `lines.PatientsLine` and not a row, so `format` must stay the first field of that class."""
_CLOSED_NAME: Final = re.compile(
    rf"(?P<kind>[a-z]+)-[0-9T.]+-[0-9a-f]{{8}}-(?P<rows>[0-9]+)-(?P<bytes>[0-9]+){re.escape(CLOSED)}"
)


class LogLimits(BaseModel):
    """Limits of the log on this machine.

    Attributes:
        roll_bytes: size at which a file is closed.
        roll_seconds: age at which a file is closed.
        queue_rows: maximum number of predictions in memory, about 500 bytes each. Beyond it, the oldest are dropped.
        folder_bytes: maximum size of all closed files of predictions. Beyond it, the oldest are deleted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    roll_bytes: PositiveInt = 16 * 1024 * 1024
    roll_seconds: PositiveFloat = 60.0
    queue_rows: int = Field(50_000, ge=2_000)
    folder_bytes: PositiveInt = 4 * 1024 * 1024 * 1024


class RolledFile:
    """A file that grows by whole lines and is closed by size or by age. The name of a closed file contains its rows and bytes."""

    def __init__(self, folder: Path, kind: str, limits: LogLimits) -> None:
        """Args: folder; kind, such as `PREDICTIONS`, first part of the names; limits, see `LogLimits`."""
        self._folder = folder
        self._kind = kind
        self._limits = limits
        self._file: int | None = None
        self._path = folder
        self._opened = 0.0
        self._bytes = 0
        self._rows = 0

    def append(self, lines: bytes, rows: int) -> None:
        """Write lines, all or none.

        Args:
            lines: each with its line break.
            rows: how many of them are rows.

        Raises:
            OSError: none of them was written.
        """
        if self._file is None:
            self._open()
        assert self._file is not None
        data, written = memoryview(lines), 0
        try:
            while written < len(data):
                written += os.write(self._file, data[written:])
        except OSError:
            self._cut_off()
            raise
        self._bytes += written
        self._rows += rows

    def sync(self) -> None:
        """Wait until the lines are on the disk.

        Raises:
            OSError: they are not.
        """
        if self._file is not None:
            os.fsync(self._file)

    def close_if_due(self) -> bool:
        """Close the file if it is as large or as old as allowed.

        Returns:
            Whether it was closed.

        Raises:
            OSError: see `close`.
        """
        # Monotonic, because the clock of the machine may be set.
        due = self._bytes >= self._limits.roll_bytes or time.monotonic() - self._opened >= self._limits.roll_seconds
        if self._file is None or not due:
            return False
        self.close()
        return True

    def close(self) -> None:
        """Close the file, for `ship-log` to take.

        Raises:
            OSError: the lines may not survive a power cut, or the file kept its open name and is adopted later.
        """
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            os.fsync(file)
        finally:
            try:
                if self._rows:
                    self._path.rename(closed_name(self._path, self._rows, self._bytes))
                else:
                    self._path.unlink()
            finally:
                os.close(file)

    def _open(self) -> None:
        while True:
            name = f"{self._kind}-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{secrets.token_hex(4)}{OPEN}"
            path = self._folder / name
            try:
                file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            except FileNotFoundError:
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                continue
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                if path.exists():
                    break
            except OSError:
                os.close(file)
                raise
            os.close(file)  # `adopt_left_files` removed it as an empty file of a killed process, before it was locked
        self._path, self._file, self._opened, self._bytes, self._rows = path, file, time.monotonic(), 0, 0
        sync_folder(self._folder)

    def _cut_off(self) -> None:
        """Remove a write that was only done in part."""
        assert self._file is not None
        try:
            os.ftruncate(self._file, self._bytes)
        except OSError:
            # Lines after half a line would be lost with it. So leave the file open, to be adopted without it.
            os.close(self._file)
            self._file = None


def closed_name(path: Path, rows: int, size: int) -> Path:
    """Return the name of a file once it is closed."""
    return path.with_name(f"{path.name.removesuffix(OPEN)}-{rows}-{size}{CLOSED}")


def closed_files(folder: Path, kind: str) -> list[Path]:
    """Return the closed files, the oldest first."""
    matches = map(_CLOSED_NAME.fullmatch, os.listdir(folder))  # noqa: PTH208 -- names alone: there may be many
    return [folder / name for name in sorted(match.string for match in matches if match and match["kind"] == kind)]


def files_beyond(folder: Path, kind: str, at_most: int) -> list[Path]:
    """Return the oldest closed files that must go so that the others take at most `at_most` bytes."""
    beyond = []
    for path in reversed(closed_files(folder, kind)):
        at_most -= _count_in_name(path, "bytes")
        if at_most < 0:
            beyond.append(path)
    return beyond


def rows_of(path: Path) -> int:
    """Return the number of rows of a closed file."""
    return _count_in_name(path, "rows")


def _count_in_name(path: Path, what: str) -> int:
    """Return a count from the name of a file. A system call for each file would release the GIL and wait for it again."""
    match = _CLOSED_NAME.fullmatch(path.name)
    assert match is not None
    return int(match[what])


def adopt_left_files(folder: Path) -> list[Path]:
    """Adopt the open files of killed processes: remove a half-written last line, and give the file the name of a closed one.

    Returns:
        The closed files.

    Raises:
        OSError: a file cannot be read or renamed.
    """
    adopted = []
    for path in sorted(folder.glob(f"*{OPEN}")):
        with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # its process is alive
            data = file.read()
            whole = data.rfind(b"\n") + 1
            file.truncate(whole)
            os.fsync(file.fileno())
            if rows := data.count(b"\n") - data.count(NOT_A_ROW, 0, whole):
                adopted.append(path.rename(closed_name(path, rows, whole)))
            else:
                path.unlink()
    return adopted


def sync_folder(folder: Path) -> None:
    """Wait until the names of a folder's files are on the disk. Otherwise, a power cut may remove a file with complete content."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
