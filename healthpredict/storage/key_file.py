"""The file of API keys: add, list and revoke keys. It contains their hashes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from healthpredict.api_keys import Key, Keys, new_api_key, stored_key, to_json
from healthpredict.errors import ConfigurationError, StorageError
from healthpredict.storage.atomic import write_atomically
from healthpredict.storage.lock import exclusive

_MIN_LENGTH: Final = 32
"""Characters of a key that was created elsewhere. 128 random bits in hexadecimal have so many."""


def add_key(path: Path, name: str) -> str:
    """Create a key and add its hash to the file, which is created if needed.

    To rotate, add a key under a new name, let the caller change to it, then revoke the old one.

    Returns:
        The key. It is stored nowhere and cannot be shown again.

    Raises:
        ConfigurationError: the name is taken or not usable, or the file does not contain keys.
        AlreadyRunning: another process is changing the file.
        StorageError: the file cannot be written.
    """
    secret = new_api_key()
    key = stored_key(name, secret)
    with _change(path) as keys:
        if any(known.name == name for known in keys):
            raise ConfigurationError(f"There is a key {name!r} in {path}. Choose another name, or revoke it first.")
        keys.append(key)
    return secret


def admit_key(path: Path, name: str, given: Path) -> None:
    """Add a key that was created elsewhere. It replaces a key of the same name.

    Args:
        path: the file of keys, which is created if needed.
        name: of the key.
        given: a file that contains the key and nothing else.

    Raises:
        ConfigurationError: the key cannot be read or is too short, the name is not usable, or the file does not contain keys.
        AlreadyRunning, StorageError: as with `add_key`.
    """
    try:
        secret = given.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The key in {given} cannot be read. Put one there, as ASCII.") from error
    if len(secret) < _MIN_LENGTH:
        raise ConfigurationError(f"The key in {given} has fewer than {_MIN_LENGTH} characters. Make it at random.")
    key = stored_key(name, secret)
    with _change(path) as keys:
        if not any((known.name, known.sha256) == (name, key.sha256) for known in keys):
            keys[:] = [*(known for known in keys if known.name != name), key]


def list_keys(path: Path) -> tuple[Key, ...]:
    """Return the keys of a file.

    Raises:
        ConfigurationError: the file cannot be read or does not contain keys.
    """
    try:
        return Keys.model_validate_json(path.read_bytes()).keys
    except OSError as error:
        raise ConfigurationError(
            f"The API keys in {path} cannot be read ({error.strerror}). Make one: healthpredict keys add NAME."
        ) from error
    except ValidationError:
        # The cause would repeat the content of the file.
        raise ConfigurationError(
            f"{path} is not a file of API keys. Restore it, or remove it and make new ones."
        ) from None


def revoke_key(path: Path, name: str) -> None:
    """Remove a key. Running services reject it about a second later, when they read the file again.

    Raises:
        ConfigurationError: no key has this name, or the file cannot be read or does not contain keys.
        AlreadyRunning, StorageError: as with `add_key`.
    """
    list_keys(path)  # raises if the file is missing, before a lock file is created beside it
    with _change(path) as keys:
        if name not in (names := [key.name for key in keys]):
            raise ConfigurationError(f"There is no key {name!r} in {path}. There are: {', '.join(names) or 'none'}.")
        keys[:] = [key for key in keys if key.name != name]


@contextmanager
def _change(path: Path) -> Iterator[list[Key]]:
    """Lock the file, yield its keys, and write them back if the block changed them."""
    with exclusive(path.with_name(f"{path.name}.lock"), "A change of keys"):
        stored = list_keys(path) if path.exists() else ()
        keys = list(stored)
        yield keys
        if tuple(keys) == stored:
            return
        try:
            write_atomically(path, BytesIO(to_json(keys)), mode=0o600)
        except OSError as error:
            raise StorageError(
                f"The API keys in {path} cannot be written ({error.strerror}). Nothing was changed. "
                "Free some space there, or choose another file."
            ) from error
