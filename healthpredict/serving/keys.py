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
_LOOK_EVERY_SECONDS: Final = 1.0
_SCHEME: Final = "bearer "


class KeyRing:
    """The keys that a service accepts. It looks at the file once a second, so keys change without a restart."""

    def __init__(self, path: Path) -> None:
        """Args: path, of the file.

        Raises:
            ConfigurationError: it cannot be read, is not a file of keys, or holds none.
        """
        self._path = path
        self._seen = self._state()
        self._digests = _digests(path)
        if not self._digests:
            raise ConfigurationError(f"{path} holds no API key. Make one: healthpredict keys add NAME.")
        self._next_look = time.monotonic() + _LOOK_EVERY_SECONDS

    def accepts(self, authorization: str | None) -> bool:
        """Return whether an `Authorization` header contains `Bearer` and a key that is accepted."""
        if (now := time.monotonic()) >= self._next_look:
            self._next_look = now + _LOOK_EVERY_SECONDS
            self._look()
        if authorization is None or authorization[: len(_SCHEME)].lower() != _SCHEME:
            return False
        given = sha256_of(authorization[len(_SCHEME) :].strip())
        found = False
        for digest in self._digests:
            # Every key is compared, each in constant time: how long it takes says nothing about any of them.
            found |= hmac.compare_digest(given, digest)
        return found

    def _look(self) -> None:
        state = self._state()
        if state == self._seen:
            return
        self._seen = state
        try:
            self._digests = _digests(self._path)
            _log.info("API keys read again: %d", len(self._digests))
        except ConfigurationError as error:
            # A file half restored must not lock a hospital out; revoking writes a whole file.
            _log.error("The API keys read before stay in force. %s", error)

    def _state(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def _digests(path: Path) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(key.sha256) for key in list_keys(path))
