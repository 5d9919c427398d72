"""What was predicted for whom, with which model: lines of JSON in local files, written off the request path.

A request only puts a line into a queue. A thread writes the queue four times a second into a file that grows; `ship-log` moves
files that are closed to the store.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from healthpredict.data.pseudonym import pseudonym
from healthpredict.errors import StorageError
from healthpredict.features.encoder import Value
from healthpredict.storage.rolled_file import OUTCOMES, PREDICTIONS, LogLimits, RolledFile, closed_files, rows_of

_log = logging.getLogger(__name__)
_encode: Final = msgspec.json.Encoder().encode
_WRITE_EVERY_SECONDS: Final = 0.25
"""What a process that is killed loses at most; one that is told to end loses nothing."""
_COMPLAIN_EVERY_SECONDS: Final = 60.0
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class PredictionLog:
    """The log of one process; also where outcomes are noted.

    Attributes:
        written: predictions in files since the start.
        dropped: predictions lost since the start, because neither queue nor disk had room.
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
        self.dropped = 0
        self.failing = False
        self._queue: deque[bytes] = deque()
        self._unwritten: deque[bytes] = deque()
        self._file = RolledFile(folder, PREDICTIONS, self._limits)
        self._outcomes = RolledFile(folder, OUTCOMES, self._limits)
        self._outcomes_lock = threading.Lock()
        self._ending = threading.Event()
        self._complained = -_COMPLAIN_EVERY_SECONDS
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StorageError(
                f"The prediction log {folder} cannot be made ({error.strerror}). Choose another folder."
            ) from error
        self._thread = threading.Thread(target=self._write_until_end, name="prediction-log", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Predictions that are not in a file yet."""
        return len(self._queue) + len(self._unwritten)

    def encounter(self, record: Mapping[str, Value]) -> bytes:
        """An encounter as it is noted: JSON by `Column.field`, the patient under a pseudonym."""
        patient_id = record.get("patient_id")
        if patient_id is not None:
            assert isinstance(patient_id, int)
            record = {**record, "patient_id": pseudonym(self._patient_key, patient_id)}
        return _encode(record)

    def add(self, encounter: bytes, answer: Mapping[str, Any], *, endpoint: str, dry_run: bool) -> None:
        """Note one prediction.

        Args:
            encounter: from `encounter`.
            answer: the fields of a `Prediction`; others are left out.
            endpoint: path that was asked.
            dry_run: whether the caller said that the encounter is not a real one.
        """
        line = {
            "time": time.time_ns() // 1000,
            "request_id": answer["request_id"],
            "endpoint": endpoint,
            "dry_run": dry_run,
            "model_version": answer["model_version"],
            "bundle_digest": answer["bundle_digest"],
            "readmission_risk": answer["readmission_risk"],
            "high_risk": answer["high_risk"],
            "encounter": msgspec.Raw(encounter),
        }
        self._queue.append(_encode(line) + b"\n")
        if len(self._queue) > self._limits.queue_rows:  # the thread does not come to its turn
            with contextlib.suppress(IndexError):  # it came just now
                self._queue.popleft()
                self.dropped += 1

    def add_outcomes(self, outcomes: list[dict[str, Any]]) -> None:
        """Note what became of encounters; returns when it is on the disk. It waits for the disk: not for the event loop.

        Args:
            outcomes: `encounter_id` and `readmitted` each, of the contract.

        Raises:
            StorageError: they are not written.
        """
        now = time.time_ns() // 1000
        lines = [_encode({"time": now, **outcome}) + b"\n" for outcome in outcomes]
        try:
            with self._outcomes_lock:
                self._outcomes.append(lines)
                self._outcomes.sync()
        except OSError as error:
            raise StorageError(f"The outcomes were not written ({error.strerror}). Send them again.") from error

    def close(self) -> None:
        """Write what waits, close the files and end."""
        self._ending.set()
        self._thread.join()

    def _write_until_end(self) -> None:
        while not self._ending.wait(_WRITE_EVERY_SECONDS):
            self._write()
        self._write()
        self._attempt(self._file.close)
        with self._outcomes_lock:
            self._attempt(self._outcomes.close)

    def _write(self) -> None:
        while self._queue:
            self._unwritten.append(self._queue.popleft())
        if self._unwritten and self._attempt(lambda: self._file.append(list(self._unwritten))):
            self.written += len(self._unwritten)
            self._unwritten.clear()
        while len(self._unwritten) > self._limits.queue_rows:
            self._unwritten.popleft()
            self.dropped += 1
        self._attempt(self._file.close_if_due)
        with self._outcomes_lock:
            self._attempt(self._outcomes.close_if_due)
        self._keep_folder_small()

    def _attempt(self, action: Callable[[], None]) -> bool:
        """Do something with the disk; where it is full, give up the oldest predictions for it. Whether it was done."""
        while True:
            try:
                action()
            except OSError as error:
                self.failing = True
                if error.errno in _NO_SPACE and self._drop_oldest_file():
                    continue
                self._complain(f"{error.strerror}; {self.waiting} predictions wait in memory")
                return False
            self.failing = False
            return True

    def _drop_oldest_file(self) -> bool:
        oldest = next(iter(closed_files(self._folder, PREDICTIONS)), None)
        if oldest is None:
            return False
        try:
            oldest.unlink()
        except OSError:
            return False  # shipped meanwhile, or not ours to remove
        self.dropped += rows_of(oldest)
        self._complain(f"no room: {rows_of(oldest)} predictions that were not shipped are dropped")
        return True

    def _keep_folder_small(self) -> None:
        # An upper bound of what is there, because looking at every file four times a second costs more than writing.
        if (len(closed_files(self._folder, PREDICTIONS)) + 1) * self._limits.roll_bytes <= self._limits.folder_bytes:
            return
        while sum(map(_size, closed_files(self._folder, PREDICTIONS))) > self._limits.folder_bytes:
            if not self._drop_oldest_file():
                return

    def _complain(self, problem: str) -> None:
        if time.monotonic() - self._complained >= _COMPLAIN_EVERY_SECONDS:
            self._complained = time.monotonic()
            _log.error("Prediction log %s: %s. Is `healthpredict ship-log` running?", self._folder, problem)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0  # shipped meanwhile
