"""Write a local file whole, or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: Path, content: BinaryIO, *, mode: int = 0o666, exclusive: bool = False) -> None:
    """Write a file that readers see whole or not at all, also after a crash.

    Args:
        path: of the file. Missing folders are made, closed to other users.
        content: to write.
        mode: of the file, before the umask of the process.
        exclusive: fail if the file exists, instead of replacing it.

    Raises:
        FileExistsError: exclusive, and the file exists.
        OSError: it cannot be written. An existing file is left as it was.
    """
    _make_folder(path.parent)
    # In the same folder, because a rename is atomic within one file system only.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            shutil.copyfileobj(content, file, length=1 << 20)
            file.flush()
            # Without it, a power cut may keep the name and lose the content.
            os.fsync(file.fileno())
        if exclusive:
            os.link(temporary, path)  # unlike a rename, a link fails if the name is taken
        else:
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _make_folder(path: Path) -> None:
    """Make a folder with its missing parents, all closed to other users; `Path.mkdir` gives parents another mode."""
    if not path.exists():
        _make_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
