"""One process at a time."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from healthpredict.errors import AlreadyRunning, StorageError


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold a lock for the time of a `with` block. The operating system frees it when the process ends, however it ends.

    Args:
        path: the lock file, on a local disk; it stays when the lock is freed.
        what: what is locked, for the message: "The drift loop".

    Raises:
        AlreadyRunning: another process, or another part of this one, holds the lock.
        StorageError: the lock file cannot be written.
    """
    from filelock import FileLock, Timeout

    # Beside the lock, because the locked file itself cannot be read on every system.
    holder = path.with_name(f"{path.name}.holder")
    lock = FileLock(path, timeout=0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        holder.write_text(f"{socket.gethostname()}, process {os.getpid()}", encoding="utf-8")
    except Timeout as error:
        raise AlreadyRunning(what, _read(holder)) from error
    except OSError as error:
        lock.release()
        raise StorageError(
            f"Cannot lock {path}: {error.strerror}. Choose a state folder that can be written."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _read(holder: Path) -> str:
    try:
        return holder.read_text(encoding="utf-8") or "just starting"
    except OSError:
        return "just starting"
