"""API keys: create and revoke them, keep their hashes in a file, and check requests.

A key is 256 random bits, so plain SHA-256 is the right hash for it: there is no list of likely keys to try, and a slow password
hash would cost each request more than the prediction. Whoever reads the file learns no key.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from healthpredict.errors import ConfigurationError

_log = logging.getLogger(__name__)
_PREFIX: Final = "hp_"
"""Lets scanners for secrets recognise a key."""
_RANDOM_BYTES: Final = 32
_SHORTEST: Final = 32
"""Characters of a key that was created elsewhere: 128 random bits in hexadecimal."""
_LOOK_EVERY_SECONDS: Final = 1.0
_SCHEME: Final = "bearer "


class Key(BaseModel):
    """What the file contains of a key.

    Attributes:
        name: who uses it; one key a name.
        sha256: of the key.
        created_at: in UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    created_at: datetime


class _KeyFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[Key, ...] = ()


def add_key(path: Path, name: str) -> str:
    """Create a key and add its hash to the file, which is created if needed.

    To rotate, add a key under a new name, let the caller change to it, then revoke the old one.

    Returns:
        The key. It is stored nowhere and cannot be shown again.

    Raises:
        ConfigurationError: the name is taken or not usable, or the file is not one of keys.
        AlreadyRunning: another process changes the file.
    """
    from healthpredict.storage.lock import exclusive

    secret = _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    key = _key(name, secret)
    path.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(_lock_path(path), "A change of keys"):
        keys = list_keys(path) if path.exists() else ()
        if any(known.name == name for known in keys):
            raise ConfigurationError(f"There is a key {name!r} in {path}. Choose another name, or revoke it first.")
        _write(path, (*keys, key))
    return secret


def admit_key(path: Path, name: str, given: Path) -> None:
    """Add a key that was created elsewhere. It replaces a key of the same name.

    Args:
        path: the file of keys, which is created if needed.
        name: of the key.
        given: a file that holds the key and nothing else.

    Raises:
        ConfigurationError: the key cannot be read or is too short to be one, or as with `add_key`.
        AlreadyRunning: another process changes the file.
    """
    from healthpredict.storage.lock import exclusive

    try:
        secret = given.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The key in {given} cannot be read. Put one there, as ASCII.") from error
    if len(secret) < _SHORTEST:
        raise ConfigurationError(f"The key in {given} has fewer than {_SHORTEST} characters. Make it at random.")
    key = _key(name, secret)
    path.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(_lock_path(path), "A change of keys"):
        keys = list_keys(path) if path.exists() else ()
        if not any((known.name, known.sha256) == (name, key.sha256) for known in keys):
            _write(path, (*(known for known in keys if known.name != name), key))


def list_keys(path: Path) -> tuple[Key, ...]:
    """Return the keys of a file.

    Raises:
        ConfigurationError: it cannot be read, or is not a file of keys.
    """
    try:
        return _KeyFile.model_validate_json(path.read_bytes()).keys
    except OSError as error:
        raise ConfigurationError(
            f"The API keys in {path} cannot be read ({error.strerror}). Make one: healthpredict keys add NAME."
        ) from error
    except ValidationError:
        # Its message would repeat what is in the file.
        raise ConfigurationError(
            f"{path} is not a file of API keys. Restore it, or remove it and make new ones."
        ) from None


def revoke_key(path: Path, name: str) -> None:
    """Remove a key. Running services refuse it about a second later, when they look at the file.

    Raises:
        ConfigurationError: there is no key of this name, or the file is not one of keys.
        AlreadyRunning: another process changes the file.
    """
    from healthpredict.storage.lock import exclusive

    list_keys(path)  # says so where there is no file, before a lock is made beside it
    with exclusive(_lock_path(path), "A change of keys"):
        keys = list_keys(path)
        left = tuple(key for key in keys if key.name != name)
        if len(left) == len(keys):
            known = ", ".join(key.name for key in keys) or "none"
            raise ConfigurationError(f"There is no key {name!r} in {path}. There are: {known}.")
        _write(path, left)


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
        given = hashlib.sha256(authorization[len(_SCHEME) :].strip().encode()).digest()
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


def _key(name: str, secret: str) -> Key:
    try:
        return Key(name=name, sha256=hashlib.sha256(secret.encode()).hexdigest(), created_at=datetime.now(UTC))
    except ValidationError as error:
        raise ConfigurationError(
            f"{name!r} cannot name a key. Use up to 64 letters, digits, dots, hyphens and underscores."
        ) from error


def _digests(path: Path) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(key.sha256) for key in list_keys(path))


def _lock_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _write(path: Path, keys: tuple[Key, ...]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(_KeyFile(keys=keys).model_dump_json(indent=1).encode())
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
