"""Write a local file, completely or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: Path, content: BinaryIO, *, mode: int = 0o666, exclusive: bool = False) -> None:
    """Write a file completely or not at all, even if the process or the machine crashes.

    Args:
        path: of the file. Missing folders are created with access for this user only.
        content: to write.
        mode: of the file, before the umask of the process.
        exclusive: fail if the file exists, instead of replacing it.

    Raises:
        FileExistsError: `exclusive` is set, and the file exists.
        OSError: it cannot be written. An existing file is not changed.
    """
    _make_folder(path.parent)
    # In the same folder, because a rename is atomic only within one file system.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            shutil.copyfileobj(content, file, length=1 << 20)
            file.flush()
            # Without this, a power failure could leave an empty file under the name.
            os.fsync(file.fileno())
        if exclusive:
            os.link(temporary, path)  # unlike a rename, a link fails if the name exists
        else:
            temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(path: Path) -> None:
    """Sync a folder, because a power failure could otherwise lose the new name of a file in it.

    Errors are ignored, because the file itself is written already, and some file systems cannot sync folders.
    """
    with contextlib.suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _make_folder(path: Path) -> None:
    """Create a folder and its parents with access for this user only. `Path.mkdir` would give the parents another mode."""
    if not path.exists():
        _make_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
