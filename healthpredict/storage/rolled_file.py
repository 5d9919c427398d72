"""A local file that grows by whole lines until it is closed and may be taken away.

The file that is growing is locked: a file of that name without a lock was left by a process that was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt

OPEN: Final = ".open"
CLOSED: Final = ".jsonl"
PREDICTIONS: Final = "predictions"
OUTCOMES: Final = "outcomes"
"""The two kinds of lines, and of names."""


class LogLimits(BaseModel):
    """How much the log may take on this machine.

    Attributes:
        roll_bytes: a file of this size is closed.
        roll_seconds: a file of this age is closed.
        queue_rows: lines that wait to be written; one takes about 1,400 bytes.
        folder_bytes: closed files that wait to be shipped; above it the oldest predictions are dropped and counted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    roll_bytes: PositiveInt = 8 * 1024 * 1024
    roll_seconds: PositiveFloat = 60.0
    queue_rows: PositiveInt = 50_000
    folder_bytes: PositiveInt = 4 * 1024 * 1024 * 1024


class RolledFile:
    """A file that grows by whole lines and is closed, under a name that says how many it has, by size or by age."""

    def __init__(self, folder: Path, kind: str, limits: LogLimits) -> None:
        """Args: folder; kind, what the lines are, first part of the names; limits, see `LogLimits`."""
        self._folder = folder
        self._kind = kind
        self._limits = limits
        self._file: int | None = None
        self._path = folder
        self._opened = 0.0
        self._bytes = 0
        self._rows = 0

    def append(self, lines: list[bytes]) -> None:
        """Write lines, all or none.

        Raises:
            OSError: they could not be written.
        """
        if self._file is None:
            self._open()
        assert self._file is not None
        data = memoryview(b"".join(lines))
        written = 0
        try:
            while written < len(data):
                written += os.write(self._file, data[written:])
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._bytes)
            raise
        self._bytes += written
        self._rows += len(lines)

    def sync(self) -> None:
        """Return when the lines are on the disk.

        Raises:
            OSError: they are not.
        """
        if self._file is not None:
            os.fsync(self._file)

    def close_if_due(self) -> None:
        """Close the file where it is as large or as old as allowed."""
        # Monotonic: a clock that is set changes nothing.
        age = time.monotonic() - self._opened
        if self._bytes >= self._limits.roll_bytes or age >= self._limits.roll_seconds:
            self.close()

    def close(self) -> None:
        """Close the file, for `ship-log` to take."""
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            if self._rows:
                os.fsync(file)
                self._path.rename(closed_name(self._path, self._rows))
            else:
                self._path.unlink()
        finally:
            os.close(file)

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = f"{self._kind}-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{secrets.token_hex(4)}{OPEN}"
        self._path = self._folder / name
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            raise
        self._file, self._opened, self._bytes, self._rows = file, time.monotonic(), 0, 0


def closed_name(path: Path, rows: int) -> Path:
    """The name that a file has once it is closed."""
    return path.with_name(f"{path.name.removesuffix(OPEN)}-{rows}{CLOSED}")


def closed_files(folder: Path, kind: str) -> list[Path]:
    """The files that are closed, the oldest first."""
    return sorted(folder.glob(f"{kind}-*{CLOSED}"))


def rows_of(path: Path) -> int:
    """The number of lines of a file that is closed."""
    return int(path.name.removesuffix(CLOSED).rpartition("-")[2])


def adopt_left_files(folder: Path) -> list[Path]:
    """Close the files that killed processes left growing; a line that was half written is cut off."""
    adopted = []
    for path in sorted(folder.glob(f"*{OPEN}")):
        with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # its process lives
            data = file.read()
            whole = data.rfind(b"\n") + 1
            file.truncate(whole)
            os.fsync(file.fileno())
            if whole:
                adopted.append(path.rename(closed_name(path, data.count(b"\n"))))
            else:
                path.unlink()
    return adopted
