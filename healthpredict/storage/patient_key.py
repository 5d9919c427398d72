"""The key that the pseudonyms of patients are made with. Who has it and a list of patients can tell who is who."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from healthpredict.data.pseudonym import KEY_BYTES
from healthpredict.errors import ConfigurationError


def read_patient_key(path: Path) -> bytes:
    """Read the key.

    Raises:
        ConfigurationError: the file cannot be read or holds no key.
    """
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except OSError as error:
        raise ConfigurationError(
            f"The patient key {path} cannot be read ({error.strerror}). `healthpredict keys patient` makes one."
        ) from error
    except ValueError:
        raise ConfigurationError(f"{path} holds no patient key. Restore it.") from None
    if len(key) != KEY_BYTES:
        raise ConfigurationError(f"The patient key in {path} does not have {KEY_BYTES} bytes. Restore it.")
    return key


def make_patient_key(path: Path) -> None:
    """Make a key where there is none; an existing one is left, because another one changes every pseudonym.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    except OSError as error:
        raise ConfigurationError(
            f"The patient key {path} cannot be made ({error.strerror}). Choose another file."
        ) from error
    with os.fdopen(file, "w", encoding="ascii") as stream:
        stream.write(secrets.token_hex(KEY_BYTES))
