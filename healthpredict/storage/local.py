"""Files in local folders. Only `healthpredict.storage.uris` uses this module."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

from healthpredict.errors import AlreadyExists, NotFound, StorageError
from healthpredict.storage.atomic import write_atomically
from healthpredict.storage.stored import Listing, Stored

_LOCK_SECONDS: Final = 30.0
"""How long a writer waits for another writer of the same file."""
_ADVICE: Final = {
    errno.ENOSPC: "Free some space on that disk, then start again",
    errno.EDQUOT: "Free some of the disk quota, then start again",
    errno.EACCES: "Give this user access, or choose another folder",
    errno.EROFS: "Choose a folder on a writable disk",
}


def exists(uri: str) -> bool:
    """Whether a file exists."""
    with _translated("look for", uri):
        return Path(uri).is_file()


def read_bytes(uri: str) -> bytes:
    """Read a whole file."""
    with _translated("read", uri):
        return Path(uri).read_bytes()


def write_bytes(uri: str, data: bytes, *, exclusive: bool) -> None:
    """Write a file, completely or not at all."""
    _write(uri, BytesIO(data), exclusive=exclusive)


def replace_bytes(uri: str, data: bytes, expected: bytes) -> None:
    """Replace a file if it has the expected content. A lock file beside it serialises the writers."""
    from filelock import FileLock

    path = Path(uri)
    # flock also works across hosts on NFS and SMB, and the system releases it when the process ends.
    with _translated("write", uri), FileLock(path.with_name(f"{path.name}.lock"), timeout=_LOCK_SECONDS):
        if path.read_bytes() != expected:
            raise AlreadyExists(f"Cannot write {uri}: another writer has changed it.")
        write_bytes(uri, data, exclusive=False)


def write_file(uri: str, source: Path) -> None:
    """Copy a file, completely or not at all."""
    with _translated("read", str(source)), source.open("rb") as stream:
        _write(uri, stream, exclusive=False)


def is_plain(uri: str) -> bool:
    """Whether the path is a regular file or does not exist."""
    path = Path(uri)
    with _translated("look for", uri):
        return not path.is_symlink() and (path.is_file() or not path.exists())


def is_same(uri: str, other: str) -> bool:
    """Whether two paths name the same file."""
    with contextlib.suppress(OSError):
        return Path(uri).samefile(other)
    with _translated("look for", uri):
        return Path(uri).resolve() == Path(other).resolve()


@contextmanager
def local_copy(uri: str) -> Iterator[Path]:
    """The file itself."""
    yield Path(uri)


def list_uris(prefix_uri: str, suffix: str) -> list[str]:
    """List the files of one folder. Empty if it does not exist."""
    folder = Path(prefix_uri)
    with _translated("list", prefix_uri):
        if not folder.exists():
            return []
        # Hidden files are writes in progress, or writes that were killed.
        names = (entry.name for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
        return sorted(f"{prefix_uri.rstrip('/')}/{name}" for name in names if name.endswith(suffix))


def list_folder(folder_uri: str) -> Listing:
    """List a folder without its hidden files, see `list_uris`."""
    folder = Path(folder_uri)
    objects, folders, others = [], [], []
    with _translated("list", folder_uri):
        if not folder.exists():
            return Listing((), ())
        now = time.time()
        for entry in sorted(folder.iterdir()):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders.append(entry.name)
            elif entry.is_file():
                with contextlib.suppress(FileNotFoundError):  # deleted in the meantime
                    objects.append(_stored(entry, f"{folder_uri.rstrip('/')}/{entry.name}", now))
            else:
                others.append(entry.name)
    return Listing(tuple(objects), tuple(folders), tuple(others))


def _stored(path: Path, uri: str, now: float) -> Stored:
    status = path.stat()
    # With the change time, because a copy may have the modification time of its source.
    version = f"{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_ino}"
    return Stored(uri, status.st_size, now - status.st_mtime, version)


def delete(uri: str) -> None:
    """Delete a file, if it exists."""
    with _translated("delete", uri):
        Path(uri).unlink(missing_ok=True)


def _write(uri: str, stream: BinaryIO, *, exclusive: bool) -> None:
    with _translated("write", uri):
        try:
            write_atomically(Path(uri), stream, exclusive=exclusive)
        except FileExistsError as error:
            raise AlreadyExists(f"Cannot write {uri}: it exists already.") from error


@contextmanager
def _translated(verb: str, uri: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"Cannot {verb} {uri}: there is no such file.") from error
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "Check the path, then start again")
        raise StorageError(f"Cannot {verb} {uri}: {error.strerror or error}. {advice}.") from error
