"""Find out whether a folder or prefix can be written to."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Final

from healthpredict.errors import CannotDelete, StorageError
from healthpredict.storage.uris import delete, join, write_bytes

_NAME: Final = "healthpredict-doctor"
"""Always the same, so that at most one object is left if it cannot be deleted."""
_locks: Final[dict[int, threading.Lock]] = {}
"""One for each device: a local folder may contain another, and each probe deletes only the folders that it created. A mount that
hangs does not hold up the folders of other devices."""


def probe(folder_uri: str) -> None:
    """Write an object below a folder or prefix, and delete it. Folders that this created are deleted too.

    Raises:
        CannotDelete: it was written, but cannot be deleted.
        StorageError: it cannot be written.
    """
    uri = join(folder_uri, _NAME)
    if "://" in folder_uri:
        _write_and_delete(uri)
        return
    folder = Path(folder_uri)
    with _locks.setdefault(_device(folder), threading.Lock()):
        new = [each for each in (folder, *folder.parents) if not each.exists()]
        try:
            _write_and_delete(uri)
        finally:
            with contextlib.suppress(OSError):  # another process has written there in the meantime
                for each in new:
                    each.rmdir()


def _write_and_delete(uri: str) -> None:
    write_bytes(uri, b"")
    try:
        delete(uri)
    except StorageError as error:
        raise CannotDelete(str(error)) from error


def _device(folder: Path) -> int:
    """The number of the device that a folder is on, or will be on."""
    for each in (folder, *folder.parents):
        with contextlib.suppress(OSError):
            return each.stat().st_dev
    return 0
