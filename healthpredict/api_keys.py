"""The format of API keys: how they are created, hashed and listed.

A key is 256 random bits, so plain SHA-256 is the right hash for it: there is no list of likely keys to try, and a slow password
hash would cost each request more than the prediction. Whoever reads the hashes learns no key.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from healthpredict.errors import ConfigurationError

_PREFIX: Final = "hp_"
"""Lets scanners for secrets recognise a key."""
_RANDOM_BYTES: Final = 32


class Key(BaseModel):
    """What is stored of a key.

    Attributes:
        name: who uses it; one key a name.
        sha256: of the key.
        created_at: in UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    created_at: datetime


class Keys(BaseModel):
    """A list of keys, as it is stored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[Key, ...] = ()


def new_api_key() -> str:
    """Return a new key. It is stored nowhere."""
    return _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def sha256_of(secret: str) -> bytes:
    """Return the hash that a key is recognised by."""
    return hashlib.sha256(secret.encode()).digest()


def stored_key(name: str, secret: str, created_at: datetime | None = None) -> Key:
    """Return what is stored of a key, by default with the present time.

    Raises:
        ConfigurationError: the name is not usable.
    """
    try:
        return Key(name=name, sha256=sha256_of(secret).hex(), created_at=created_at or datetime.now(UTC))
    except ValidationError as error:
        raise ConfigurationError(
            f"{name!r} cannot name a key. Use up to 64 letters, digits, dots, hyphens and underscores."
        ) from error


def to_json(keys: Sequence[Key]) -> bytes:
    """Return keys as they are stored."""
    return Keys(keys=tuple(keys)).model_dump_json(indent=1).encode()
