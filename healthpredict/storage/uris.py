"""Reading and writing whole objects by URI: a local path, or `s3://bucket/key`. Files are opened nowhere else.

A write is all or nothing: whoever reads sees the old content or the new one, also when the writer is killed or the disk
is full. Every failure is a `StorageError` that names the URI and what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Final

from healthpredict.errors import AlreadyExists, ConfigurationError, NotFound, StorageError
from healthpredict.storage.stored import Listing

_CONFLICTS: Final = 3
"""After which a conditional write is given up although nothing is in its way."""


def join(uri: str, *parts: str) -> str:
    """Append parts to a URI, with one slash between them."""
    return "/".join([uri.rstrip("/"), *(part.strip("/") for part in parts)])


def exists(uri: str) -> bool:
    """Say whether there is an object (a folder is none).

    Raises:
        StorageError: it cannot be told.
    """
    answer: bool = _store(uri).exists(uri)
    return answer


def read_bytes(uri: str) -> bytes:
    """Read a whole object.

    Raises:
        NotFound: there is none.
        StorageError: it cannot be read.
    """
    data: bytes = _store(uri).read_bytes(uri)
    return data


def write_bytes(uri: str, data: bytes, *, exclusive: bool = False) -> None:
    """Write a whole object; folders are made as needed.

    Args:
        uri: where to.
        data: the content.
        exclusive: write only if there is nothing yet. Of several writers with different data exactly one succeeds. If the
            same data is stored already, the write counts as done: a store can carry out a write and lose its response.

    Raises:
        AlreadyExists: exclusive, and other data is stored.
        StorageError: it cannot be written; nothing partial is left.
    """
    store = _store(uri)
    if not exclusive:
        store.write_bytes(uri, data, exclusive=False)
        return
    _conditionally(uri, data, None, lambda: store.write_bytes(uri, data, exclusive=True))


def replace_bytes(uri: str, data: bytes, expected: bytes) -> None:
    """Replace an object if it still has the expected content. Of several writers exactly one succeeds.

    Raises:
        AlreadyExists: the object has other content by now, or is gone.
        StorageError: it cannot be read or written; nothing partial is left.
    """
    store = _store(uri)
    _conditionally(uri, data, expected, lambda: store.replace_bytes(uri, data, expected))


def _conditionally(uri: str, data: bytes, expected: bytes | None, write: Callable[[], None]) -> None:
    """Write; after a failure, look what the store has: the write may have been carried out, or another writer's before it."""
    for attempt in range(_CONFLICTS, -1, -1):
        try:
            return write()
        except StorageError as error:
            try:
                stored = read_bytes(uri)
            except NotFound:
                stored = None
            except StorageError:
                raise error from None
            if stored == data:
                return None
            if stored != expected:
                if isinstance(error, AlreadyExists):
                    raise
                raise AlreadyExists(f"Cannot write {uri}: another writer was faster.") from error
            if not isinstance(error, AlreadyExists) or attempt == 0:
                raise
            # S3 rejects writes that conflict for a moment, and wants them again.


def write_file(uri: str, source: Path) -> None:
    """Write a local file of any size to a URI, in bounded memory.

    Raises:
        NotFound: there is no such local file.
        StorageError: it cannot be written; nothing partial is left.
    """
    if not source.is_file():
        raise NotFound(f"Cannot read {source}: there is no such file.")
    _store(uri).write_file(uri, source)


def is_plain(uri: str) -> bool:
    """Whether a URI can be written without replacing anything but an object: no folder, link, pipe or device is there."""
    answer: bool = _store(uri).is_plain(uri)
    return answer


def is_same(uri: str, other: str) -> bool:
    """Whether two URIs name the same object, also by another path."""
    answer: bool = _store(uri) is _store(other) and _store(uri).is_same(uri, other)
    return answer


@contextmanager
def local_copy(uri: str) -> Iterator[Path]:
    """A local file with the content of a URI, for the time of a `with` block; a local one is not copied.

    Raises:
        NotFound: there is nothing.
        StorageError: it cannot be read.
    """
    if not exists(uri):
        raise NotFound(f"Cannot read {uri}: there is no such file.")
    with _store(uri).local_copy(uri) as path:
        yield path


def list_uris(prefix_uri: str, suffix: str = "") -> list[str]:
    """List the objects of one folder or prefix, not those deeper down, sorted; none where nothing is.

    Raises:
        StorageError: it cannot be listed.
    """
    uris: list[str] = _store(prefix_uri).list_uris(prefix_uri, suffix)
    return uris


def list_folder(folder_uri: str) -> Listing:
    """List what is directly below a folder or prefix, with size and age; nothing if it does not exist.

    Raises:
        StorageError: it cannot be listed.
    """
    listing: Listing = _store(folder_uri).list_folder(folder_uri)
    return listing


def delete(uri: str) -> None:
    """Remove an object; no error where there is none.

    Raises:
        StorageError: it cannot be removed.
    """
    _store(uri).delete(uri)


def _store(uri: str) -> ModuleType:
    if not uri.strip():
        raise ConfigurationError("A path or URI is empty. Give a file, a folder or s3://bucket/prefix.")
    if uri.startswith("s3://"):
        # Here, because boto3 takes a fifth of a second to import and local use needs none of it.
        from healthpredict.storage import s3

        return s3
    if "://" in uri:
        raise ConfigurationError(f"{uri!r} cannot be stored to. Use a local folder or s3://bucket/prefix.")
    from healthpredict.storage import local

    return local
