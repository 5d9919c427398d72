"""Log predictions and outcomes as lines of JSON in local files.

A request puts its line into a queue. Once a second, a thread adds the pseudonyms of the patients and appends the lines to a file.
`ship-log` moves closed files to the store.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from healthpredict.errors import StorageError
from healthpredict.prediction_log.lines import (
    FeedbackLine,
    LogEntry,
    OutcomeLine,
    lines_text,
    patients_text,
    prediction_text,
)
from healthpredict.prediction_log.rolled_file import (
    FEEDBACK,
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
"""A process that is killed loses at most the predictions of the last two seconds. On SIGTERM, nothing is lost."""
_ROWS_AT_ONCE: Final = 2_000
"""Number of lines, about a megabyte, that are written with one system call."""
_REPORT_EVERY_SECONDS: Final = 60.0
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class PredictionLog:
    """The prediction log of one process.

    Attributes:
        written: number of predictions written to files since the start.
        failing: whether the last attempt to write failed.
    """

    def __init__(self, folder: Path, patient_key: bytes, limits: LogLimits | None = None) -> None:
        """Start the thread that writes.

        Args:
            folder: folder of the files. It is created for this user only if it does not exist. Several processes may share it.
            patient_key: key for the pseudonyms of patients.
            limits: by default, those of `LogLimits`.

        Raises:
            StorageError: the folder cannot be made, or this user may not write there.
        """
        self._folder = folder
        self._patient_key = patient_key
        self._limits = limits or LogLimits()
        self.written = 0
        self.failing = False
        # Two counters, because two threads count and `+=` is not atomic.
        self._dropped_from_queue = 0
        self._dropped_from_disk = 0
        self._queue: deque[tuple[int | None, bytes]] = deque()
        self._pending: list[tuple[int | None, bytes]] = []
        self._file = RolledFile(folder, PREDICTIONS, self._limits)
        self._outcomes = RolledFile(folder, OUTCOMES, self._limits)
        self._feedback = RolledFile(folder, FEEDBACK, self._limits)
        self._synced_lock = threading.Lock()
        self._ending, self._ended = threading.Event(), threading.Event()
        self._next_report = time.monotonic()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not os.access(folder, os.W_OK | os.X_OK):
                code = errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else errno.EACCES
                raise OSError(code, os.strerror(code))
        except OSError as error:
            raise StorageError(
                f"The prediction log {folder} cannot be written ({error.strerror}). Choose another folder."
            ) from error
        threading.Thread(target=self._write_until_end, name="prediction-log", daemon=True).start()

    @property
    def waiting(self) -> int:
        """Number of predictions that are not in a file yet."""
        return len(self._queue) + len(self._pending)

    @property
    def dropped(self) -> int:
        """Number of predictions lost since the start, because memory or disk was full."""
        return self._dropped_from_queue + self._dropped_from_disk

    def add(self, entry: LogEntry) -> None:
        """Log one prediction. Only the thread of the event loop may call this."""
        self._queue.append(prediction_text(entry))
        if len(self._queue) > self._limits.queue_rows:
            with contextlib.suppress(IndexError):  # the thread has just emptied the queue
                self._queue.popleft()
                self._dropped_from_queue += 1

    def add_outcomes(self, outcomes: list[dict[str, Any]]) -> None:
        """Log outcomes, and return when they are on the disk. Do not call this in the event loop, because it blocks.

        Args:
            outcomes: `encounter_id` and `readmitted` of each, valid under the contract.

        Raises:
            StorageError: they are not written, or may not be on the disk.
        """
        now_us = time.time_ns() // 1000
        self._append_synced(
            self._outcomes, [OutcomeLine(now_us, **outcome) for outcome in outcomes], "The outcomes were"
        )

    def add_feedback(self, feedback: list[FeedbackLine]) -> None:
        """Log feedback on cards, and return when it is on the disk. Do not call this in the event loop, because it blocks.

        Raises:
            StorageError: it is not written, or may not be on the disk.
        """
        self._append_synced(self._feedback, feedback, "The feedback was")

    def _append_synced(self, file: RolledFile, lines: Sequence[OutcomeLine] | Sequence[FeedbackLine], was: str) -> None:
        problem = f"{was} not written"
        try:
            with self._synced_lock:
                file.append(lines_text(lines), len(lines))
                problem = f"{was} written, but may not survive a power cut"
                file.sync()
        except OSError as error:
            raise StorageError(f"{problem} ({error.strerror}). Send the request again.") from error

    def close(self) -> None:
        """Write the remaining predictions, and close the files."""
        self._ending.set()
        while not self._ended.is_set():
            with contextlib.suppress(SystemExit, KeyboardInterrupt):  # the process is ending already
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
            # If the thread ended, all later predictions would be lost.
            self.failing = True
            self._report("it failed", traceback=True)

    def _write(self, *, last: bool) -> None:
        failing = False
        while not failing and self._take_pending():
            failing = not (self._write_pending() and self._succeeds(self._roll))
        failing |= not self._succeeds(self._file.close if last else self._roll)
        with self._synced_lock:
            for file in (self._outcomes, self._feedback):
                failing |= not self._succeeds(file.close if last else file.close_if_due)
        self.failing = failing

    def _take_pending(self) -> bool:
        """Take the oldest predictions from the queue, unless earlier ones are still pending.

        Returns:
            Whether any are pending.
        """
        if not self._pending:
            with contextlib.suppress(IndexError):  # the queue is empty
                while len(self._pending) < _ROWS_AT_ONCE:
                    self._pending.append(self._queue.popleft())
        return bool(self._pending)

    def _write_pending(self) -> bool:
        """Write the pending predictions; on a full disk, delete the oldest files to make room.

        Returns:
            Whether they were written. Otherwise they stay in memory.
        """
        patients, lines = zip(*self._pending, strict=True)
        text = b"".join((patients_text(patients, self._patient_key), *lines))
        while True:
            try:
                self._file.append(text, len(lines))
            except OSError as error:
                if error.errno in _NO_SPACE and self._drop(closed_files(self._folder, PREDICTIONS)[:1]):
                    continue
                self._report(f"{error.strerror}; {self.waiting} predictions wait in memory")
                return False
            self._pending.clear()
            self.written += len(lines)
            return True

    def _roll(self) -> None:
        if self._file.close_if_due():
            self._drop(files_beyond(self._folder, PREDICTIONS, self._limits.folder_bytes))

    def _drop(self, files: list[Path]) -> bool:
        """Delete files that were not shipped, and return whether there were any."""
        for path in files:
            with contextlib.suppress(FileNotFoundError):  # shipped meanwhile
                path.unlink()
                self._dropped_from_disk += rows_of(path)
                self._report(
                    f"no room: {rows_of(path)} predictions that were not shipped are dropped. "
                    "Is `healthpredict ship-log` running?"
                )
        return bool(files)

    def _succeeds(self, action: Callable[[], object]) -> bool:
        """Call an action that uses the disk, and report an error. Returns: whether it succeeded."""
        try:
            action()
        except OSError as error:
            self._report(str(error.strerror))
            return False
        return True

    def _report(self, problem: str, *, traceback: bool = False) -> None:
        """Log a problem, unless another was logged less than a minute ago."""
        if time.monotonic() >= self._next_report:
            self._next_report = time.monotonic() + _REPORT_EVERY_SECONDS
            _log.error("Prediction log %s: %s", self._folder, problem, exc_info=traceback)
