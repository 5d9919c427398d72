"""A lock between the processes of one host."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from healthpredict.errors import AlreadyRunning, StorageError


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold a lock for the time of a `with` block. The operating system releases it if the process is killed.

    Args:
        path: the lock file, on a local disk. It is not deleted.
        what: the subject of messages, such as "The drift loop".

    Raises:
        AlreadyRunning: another process, or another part of this one, holds the lock.
        StorageError: the lock file cannot be written.
    """
    from filelock import FileLock, Timeout

    # A file of its own, because some systems do not allow reading a locked file.
    holder = path.with_name(f"{path.name}.holder")
    lock = FileLock(path, timeout=0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        holder.write_text(f"{socket.gethostname()}, process {os.getpid()}", encoding="utf-8")
    except Timeout as error:
        raise AlreadyRunning(what, _read_holder(holder)) from error
    except OSError as error:
        lock.release()
        raise StorageError(f"Cannot lock {path}: {error.strerror}. Choose a writable state folder.") from error
    try:
        yield
    finally:
        lock.release()


def _read_holder(holder: Path) -> str:
    try:
        return holder.read_text(encoding="utf-8") or "just starting"
    except OSError:
        return "just starting"
