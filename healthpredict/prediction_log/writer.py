"""What was predicted for whom, with which model: lines of JSON in local files.

A request makes its line and puts it into a queue. Once a second a thread adds pseudonyms for the patients and writes what waits to
a file that grows. `ship-log` moves files that are closed to the store.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from healthpredict.errors import StorageError
from healthpredict.prediction_log.lines import LogEntry, OutcomeLine, outcome_text, patients_text, prediction_text
from healthpredict.prediction_log.rolled_file import (
    OUTCOMES,
    PREDICTIONS,
    LogLimits,
    RolledFile,
    closed_files,
    files_beyond,
    rows_of,
)

_log = logging.getLogger(__name__)
_WRITE_EVERY_SECONDS: Final = 1.0
"""A process that is killed loses at most twice this; one that is asked to end loses nothing."""
_ROWS_AT_ONCE: Final = 2_000
"""Lines that are written with one call: about a megabyte."""
_COMPLAIN_EVERY_SECONDS: Final = 60.0
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class PredictionLog:
    """The log of one process, of predictions and of outcomes.

    Attributes:
        written: predictions in files since the start.
        failing: whether the last attempt to write failed.
    """

    def __init__(self, folder: Path, patient_key: bytes, limits: LogLimits | None = None) -> None:
        """Start writing.

        Args:
            folder: of the files; made, readable for this user only. Several processes may write there.
            patient_key: for the pseudonyms of patients.
            limits: by default those of `LogLimits`.

        Raises:
            StorageError: the folder cannot be made or written.
        """
        self._folder = folder
        self._patient_key = patient_key
        self._limits = limits or LogLimits()
        self.written = 0
        self.failing = False
        # Two, because each is counted up by a thread of its own.
        self._overflowed = 0
        self._given_up = 0
        self._queue: deque[tuple[int | None, bytes]] = deque()
        self._in_hand: tuple[bytes, int] | None = None
        self._file = RolledFile(folder, PREDICTIONS, self._limits)
        self._outcomes = RolledFile(folder, OUTCOMES, self._limits)
        self._outcomes_lock = threading.Lock()
        self._ending, self._ended = threading.Event(), threading.Event()
        self._complained = -_COMPLAIN_EVERY_SECONDS
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise StorageError(
                f"The prediction log {folder} cannot be written ({error.strerror}). Choose another folder."
            ) from error
        threading.Thread(target=self._write_until_end, name="prediction-log", daemon=True).start()

    @property
    def waiting(self) -> int:
        """Predictions that are not in a file yet."""
        return len(self._queue) + (0 if self._in_hand is None else self._in_hand[1])

    @property
    def dropped(self) -> int:
        """Predictions lost since the start, because neither queue nor disk had room."""
        return self._overflowed + self._given_up

    def add(self, entry: LogEntry) -> None:
        """Log one prediction. To be called by one thread only, that of the event loop."""
        self._queue.append(prediction_text(entry))
        if len(self._queue) > self._limits.queue_rows:  # the thread cannot write
            with contextlib.suppress(IndexError):  # it could just now
                self._queue.popleft()
                self._overflowed += 1

    def add_outcomes(self, outcomes: list[dict[str, Any]]) -> None:
        """Log what became of encounters, and return when it is on the disk. Not for the event loop, because it waits for the disk.

        Args:
            outcomes: `encounter_id` and `readmitted` each, of the contract.

        Raises:
            StorageError: they are not written.
        """
        now = time.time_ns() // 1000
        lines = outcome_text([OutcomeLine(now, **outcome) for outcome in outcomes])
        try:
            with self._outcomes_lock:
                self._outcomes.append(lines, len(outcomes))
                self._outcomes.sync()
        except OSError as error:
            raise StorageError(f"The outcomes were not written ({error.strerror}). Send them again.") from error

    def close(self) -> None:
        """Write what waits, close the files and end."""
        self._ending.set()
        while not self._ended.is_set():
            with contextlib.suppress(SystemExit, KeyboardInterrupt):  # a signal to end: that is what is being done
                self._ended.wait()

    def _write_until_end(self) -> None:
        try:
            while not self._ending.wait(_WRITE_EVERY_SECONDS):
                self._write_safely(last=False)
            self._write_safely(last=True)
            if self.waiting:
                _log.error("Prediction log %s: %d predictions are lost, not written", self._folder, self.waiting)
        finally:
            self._ended.set()

    def _write_safely(self, *, last: bool) -> None:
        try:
            self._write(last=last)
        except Exception:
            # A thread that ended would lose everything from now on.
            self.failing = True
            self._complain("it failed", traceback=True)

    def _write(self, *, last: bool) -> None:
        failing = False
        while not failing and self._take():
            failing = not (self._append() and self._tried(self._roll))
        failing |= not self._tried(self._file.close if last else self._roll)
        with self._outcomes_lock:
            failing |= not self._tried(self._outcomes.close if last else self._outcomes.close_if_due)
        self.failing = failing

    def _take(self) -> bool:
        """Take the oldest lines into the hand, unless it holds some, and return whether it holds any."""
        if self._in_hand is None:
            taken: list[tuple[int | None, bytes]] = []
            with contextlib.suppress(IndexError):  # the queue is empty
                while len(taken) < _ROWS_AT_ONCE:
                    taken.append(self._queue.popleft())
            if taken:
                patients, lines = zip(*taken, strict=True)
                self._in_hand = b"".join((patients_text(patients, self._patient_key), *lines)), len(taken)
        return self._in_hand is not None

    def _append(self) -> bool:
        """Write the lines in hand and return whether it was done. On a full disk the oldest predictions are given up for them."""
        assert self._in_hand is not None
        lines, rows = self._in_hand
        while True:
            try:
                self._file.append(lines, rows)
            except OSError as error:
                if error.errno in _NO_SPACE and self._give_up(closed_files(self._folder, PREDICTIONS)[:1]):
                    continue
                self._complain(f"{error.strerror}; {self.waiting} predictions wait in memory")
                return False
            self._in_hand = None
            self.written += rows
            return True

    def _roll(self) -> None:
        if self._file.close_if_due():
            self._give_up(files_beyond(self._folder, PREDICTIONS, self._limits.folder_bytes))

    def _give_up(self, files: list[Path]) -> bool:
        """Drop the predictions of files, and return whether there were any files."""
        for path in files:
            with contextlib.suppress(FileNotFoundError):  # shipped meanwhile
                path.unlink()
                self._given_up += rows_of(path)
                self._complain(f"no room: {rows_of(path)} predictions that were not shipped are dropped")
        return bool(files)

    def _tried(self, action: Callable[[], object]) -> bool:
        """Do something with the disk, and return whether it was done."""
        try:
            action()
        except OSError as error:
            self._complain(str(error.strerror))
            return False
        return True

    def _complain(self, problem: str, *, traceback: bool = False) -> None:
        if time.monotonic() - self._complained >= _COMPLAIN_EVERY_SECONDS:
            self._complained = time.monotonic()
            _log.error(
                "Prediction log %s: %s. Is `healthpredict ship-log` running?", self._folder, problem, exc_info=traceback
            )
