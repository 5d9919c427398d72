"""The key for the pseudonyms of patients. With the key and a list of patient ids, patients can be identified."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import tempfile
from pathlib import Path
from typing import Final

from healthpredict.errors import ConfigurationError
from healthpredict.prediction_log.pseudonym import KEY_BYTES
from healthpredict.prediction_log.rolled_file import sync_folder

_FINGERPRINT: Final = b"health-predict: fingerprint of a patient key"
"""No pseudonym is made from this text, so a fingerprint reveals nothing about a patient."""


def read_patient_key(path: Path) -> bytes:
    """Read the key.

    Raises:
        ConfigurationError: the file cannot be read or does not contain a key.
    """
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except IsADirectoryError:
        raise ConfigurationError(f"{path} is a folder. Name the file of the patient key.") from None
    except OSError as error:
        raise ConfigurationError(
            f"The patient key {path} cannot be read ({error.strerror}). `healthpredict keys patient` makes one."
        ) from error
    except ValueError:
        raise ConfigurationError(f"{path} holds no patient key. Restore it.") from None
    if len(key) != KEY_BYTES:
        raise ConfigurationError(f"The patient key in {path} does not have {KEY_BYTES} bytes. Restore it.")
    return key


def fingerprint(key: bytes) -> str:
    """Return a fingerprint of a key that does not reveal it, 16 hexadecimal digits."""
    return hmac.new(key, _FINGERPRINT, hashlib.sha256).hexdigest()[:16]


def make_patient_key(path: Path) -> None:
    """Make a key if there is none. An existing key is never replaced, because that would change every pseudonym.

    Operations call `ensure_patient_key` instead, which also checks that no key was lost.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    if path.exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Write the whole file to the disk before it gets its name, because another process uses the key as soon as the file exists.
        with tempfile.NamedTemporaryFile("w", dir=path.parent, encoding="ascii") as file:  # readable for this user only
            file.write(secrets.token_hex(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):  # another process was faster
                os.link(file.name, path)
        sync_folder(path.parent)
    except OSError as error:
        raise ConfigurationError(
            f"The patient key {path} cannot be made ({error.strerror}). Choose another file."
        ) from error
