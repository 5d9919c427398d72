"""The API keys that a running service accepts."""

from __future__ import annotations

import hmac
import logging
import time
from pathlib import Path
from typing import Final

from healthpredict.api_keys import sha256_of
from healthpredict.errors import ConfigurationError
from healthpredict.storage.key_file import list_keys

_log = logging.getLogger(__name__)
_CHECK_SECONDS: Final = 1.0
_SCHEME: Final = "bearer "


def bearer(authorization: str | None) -> str | None:
    """Return the key or token of an `Authorization` header, or None if there is none."""
    if authorization is None or authorization[: len(_SCHEME)].lower() != _SCHEME:
        return None
    return authorization[len(_SCHEME) :].strip()


class KeyRing:
    """The keys that a service accepts. It checks the file once a second, so keys change without a restart."""

    def __init__(self, path: Path) -> None:
        """Args: path, of the file.

        Raises:
            ConfigurationError: the file cannot be read, is not a file of keys, or contains none.
        """
        self._path = path
        self._version = _version(path)
        self._digests = _digests(path)
        if not self._digests:
            raise ConfigurationError(f"{path} holds no API key. Make one: healthpredict keys add NAME.")
        self._next_check = time.monotonic() + _CHECK_SECONDS

    def accepts(self, authorization: str | None) -> bool:
        """Return whether an `Authorization` header contains `Bearer` and a key that is accepted."""
        if (now := time.monotonic()) >= self._next_check:
            self._next_check = now + _CHECK_SECONDS
            self._read_if_changed()
        if (key := bearer(authorization)) is None:
            return False
        given = sha256_of(key)
        found = False
        for digest in self._digests:
            # All keys are compared, each in constant time, so the duration reveals nothing about any of them.
            found |= hmac.compare_digest(given, digest)
        return found

    def _read_if_changed(self) -> None:
        version = _version(self._path)
        if version == self._version:
            return
        self._version = version
        try:
            self._digests = _digests(self._path)
            _log.info("API keys were read again: %d", len(self._digests))
        except ConfigurationError as error:
            # A file that is half restored must not lock a hospital out. Revoking a key replaces the whole file.
            _log.error("The API keys that were read before stay valid. %s", error)


def _version(path: Path) -> tuple[int, ...] | None:
    """Return a value that changes whenever the file changes, or None if the file cannot be read."""
    try:
        status = path.stat()
    except OSError:
        return None
    # The change time as well: a copy may keep the modification time of its source.
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def _digests(path: Path) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(key.sha256) for key in list_keys(path))
