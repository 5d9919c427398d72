"""Find out whether a folder or prefix can be written to."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Final

from healthpredict.storage.uris import delete, join, write_bytes

_NAME: Final = "healthpredict-doctor"
"""Always the same, so that at most one object is left if it cannot be deleted."""
_lock = threading.Lock()
"""Of local folders: one may contain another, and each probe deletes only the folders that it created."""


def probe(folder_uri: str) -> None:
    """Write an object below a folder or prefix, and delete it. Folders that this created are deleted too.

    Raises:
        StorageError: it cannot be written or deleted.
    """
    uri = join(folder_uri, _NAME)
    if "://" in folder_uri:
        write_bytes(uri, b"")
        delete(uri)
        return
    folder = Path(folder_uri)
    with _lock:
        new = [each for each in (folder, *folder.parents) if not each.exists()]
        try:
            write_bytes(uri, b"")
            delete(uri)
        finally:
            with contextlib.suppress(OSError):  # another process has written there in the meantime
                for each in new:
                    each.rmdir()
