"""A lease at a data URI, held by one process at a time across hosts: an object that its holder renews by conditional writes."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from healthpredict.errors import AlreadyExists, AlreadyRunning, LeaseLost, NotFound, StorageError
from healthpredict.storage.uris import read_bytes, replace_bytes, write_bytes

_logger = logging.getLogger(__name__)
_RENEWALS: Final = 4
"""How often a holder renews its lease within the time after which it would lose it."""
_POLLS: Final = 60
"""How often a process that waits for a lease reads it within that time."""


class Lease:
    """A lease that is held."""

    def __init__(self, uri: str, what: str, owner: str, seconds: float) -> None:
        """Args: see `hold`."""
        self.uri = uri
        self.seconds = seconds
        self.what = what
        self._token = uuid.uuid4().hex
        self._owner = owner
        self._stored = b""
        self._renewals = 0
        # Serialises the renewing thread and the release at the end of the block.
        self._lock = threading.Lock()

    def check(self) -> None:
        """Verify that the lease is still held. This costs one read.

        Raises:
            LeaseLost: another holder took it over.
            StorageError: the store does not respond.
        """
        holder = _parse(read_bytes(self.uri))
        if holder.get("token") != self._token:
            raise LeaseLost(self.what, _describe(holder))

    def acquire(self) -> None:
        """Take the lease if it is free, has the same owner, or is not renewed by its holder. See `hold`."""
        seen, since = None, time.monotonic()
        while True:
            found = self._read()
            holder = _parse(found) if found else {}
            seconds = float(holder.get("seconds", self.seconds))
            # Only this host's clock is used, because clocks of two hosts differ.
            silent = found == seen and time.monotonic() - since >= seconds
            if found is None or holder.get("owner") in (None, "", self._owner) or silent:
                try:
                    self._write(found, self._owner)
                    return
                except AlreadyExists:
                    continue  # another process took it in between
            if seen is not None and found != seen:
                raise AlreadyRunning(self.what, _describe(holder))
            if seen is None:
                seen, since = found, time.monotonic()
                _logger.info(
                    "%s waits up to %.0f s to see whether %s still runs", self.what, seconds, _describe(holder)
                )
            time.sleep(seconds / _POLLS)

    def renew(self) -> None:
        """Renew the lease.

        Raises:
            LeaseLost: another holder took the lease over.
            StorageError: the store does not respond.
        """
        try:
            self._write(self._stored, self._owner)
        except AlreadyExists:
            # An earlier renewal may have been stored although its response was lost.
            self.check()
            self._write(read_bytes(self.uri), self._owner)

    def release(self) -> None:
        """Let the next holder take the lease without waiting."""
        self._write(self._stored, "")

    def _read(self) -> bytes | None:
        try:
            return read_bytes(self.uri)
        except NotFound:
            return None

    def _write(self, expected: bytes | None, owner: str) -> None:
        with self._lock:
            self._renewals += 1
            record = {
                "owner": owner,
                "process": os.getpid(),
                "seconds": self.seconds,
                "token": self._token,
                "renewals": self._renewals,
            }
            data = json.dumps(record).encode()
            if expected is None:
                write_bytes(self.uri, data, exclusive=True)
            else:
                replace_bytes(self.uri, data, expected)
            self._stored = data


@contextmanager
def hold(uri: str, what: str, owner: str, seconds: float = 60.0) -> Iterator[Lease]:
    """Hold a lease for the time of a `with` block. A thread renews it.

    Args:
        uri: of the lease's object.
        what: the subject of messages, such as "The drift loop".
        owner: name of the holder. A lease with the same owner is taken over without waiting, so only one process at a time may use
            the name.
        seconds: after which this holder loses the lease if it does not renew it. If another owner holds the lease, this function
            waits up to that owner's time to see whether it is alive.

    Raises:
        AlreadyRunning: another owner holds it and is alive.
        StorageError: the store cannot be read or written.
    """
    lease = Lease(uri, what, owner, seconds)
    lease.acquire()
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(seconds / _RENEWALS):
            try:
                lease.renew()
            except LeaseLost as error:
                _logger.error("%s", error)
                return
            except StorageError as error:
                _logger.warning("The lease %s was not renewed: %s", uri, error)

    renewing = threading.Thread(target=renew, name="lease", daemon=True)
    renewing.start()
    try:
        yield lease
    finally:
        ended.set()
        renewing.join()
        try:
            lease.release()
        except AlreadyExists:
            pass  # another process has taken it over
        except StorageError as error:
            _logger.warning("The lease %s was not released and expires in %.0f s: %s", uri, seconds, error)


def _describe(holder: dict[str, Any]) -> str:
    return f"{holder.get('owner') or 'nobody'}, process {holder.get('process')}"


def _parse(data: bytes) -> dict[str, Any]:
    """Parse the record of a lease. Unreadable content is an empty record, which counts as a free lease."""
    try:
        record = json.loads(data)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
