"""The file of API keys: add, list and revoke keys. It contains their hashes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from healthpredict.api_keys import Key, Keys, create_secret, hashed, to_json
from healthpredict.errors import ConfigurationError
from healthpredict.storage.lock import exclusive

_SHORTEST: Final = 32
"""Characters of a key that was created elsewhere: 128 random bits in hexadecimal."""


def add_key(path: Path, name: str) -> str:
    """Create a key and add its hash to the file, which is created if needed.

    To rotate, add a key under a new name, let the caller change to it, then revoke the old one.

    Returns:
        The key. It is stored nowhere and cannot be shown again.

    Raises:
        ConfigurationError: the name is taken or not usable, or the file is not one of keys.
        AlreadyRunning: another process changes the file.
    """
    secret = create_secret()
    key = hashed(name, secret)
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
    try:
        secret = given.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The key in {given} cannot be read. Put one there, as ASCII.") from error
    if len(secret) < _SHORTEST:
        raise ConfigurationError(f"The key in {given} has fewer than {_SHORTEST} characters. Make it at random.")
    key = hashed(name, secret)
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
        return Keys.model_validate_json(path.read_bytes()).keys
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
    list_keys(path)  # says so where there is no file, before a lock is made beside it
    with exclusive(_lock_path(path), "A change of keys"):
        keys = list_keys(path)
        left = tuple(key for key in keys if key.name != name)
        if len(left) == len(keys):
            known = ", ".join(key.name for key in keys) or "none"
            raise ConfigurationError(f"There is no key {name!r} in {path}. There are: {known}.")
        _write(path, left)


def _lock_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _write(path: Path, keys: tuple[Key, ...]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(to_json(keys))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
