"""Read and write whole objects by URI: a local path or `s3://bucket/key`. All access to data goes through this module.

Writes are atomic: a reader sees the old content or the new one, even if the writer is killed or the disk is full. Every
failure is a `StorageError` that names the URI and what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Final

from healthpredict.errors import AlreadyExists, ConfigurationError, NotFound, StorageError
from healthpredict.storage.stored import Listing

_RETRIES: Final = 3
"""How often a conditional write is repeated if it is rejected although the stored content is as expected."""


def join(uri: str, *parts: str) -> str:
    """Append parts to a URI, with one slash between them."""
    return "/".join([uri.rstrip("/"), *(part.strip("/") for part in parts)])


def exists(uri: str) -> bool:
    """Whether an object exists. A folder is not an object.

    Raises:
        StorageError: the store does not respond.
    """
    found: bool = _store(uri).exists(uri)
    return found


def read_bytes(uri: str) -> bytes:
    """Read a whole object.

    Raises:
        NotFound: it does not exist.
        StorageError: it cannot be read.
    """
    data: bytes = _store(uri).read_bytes(uri)
    return data


def write_bytes(uri: str, data: bytes, *, exclusive: bool = False) -> None:
    """Write a whole object. Missing folders are created.

    Args:
        uri: of the object.
        data: the content.
        exclusive: write only if the object does not exist. Of several writers with different data, exactly one succeeds. If
            the same data is stored already, the write succeeds, because an earlier response may have been lost.

    Raises:
        AlreadyExists: `exclusive` is set, and other data is stored.
        StorageError: it cannot be written. Nothing partial is left.
    """
    store = _store(uri)
    if not exclusive:
        store.write_bytes(uri, data, exclusive=False)
        return
    _write_conditionally(uri, data, None, lambda: store.write_bytes(uri, data, exclusive=True))


def replace_bytes(uri: str, data: bytes, expected: bytes) -> None:
    """Replace an object if it still has the expected content. Of several writers, exactly one succeeds.

    Raises:
        AlreadyExists: the object has other content, or no longer exists.
        StorageError: it cannot be read or written. Nothing partial is left.
    """
    store = _store(uri)
    _write_conditionally(uri, data, expected, lambda: store.replace_bytes(uri, data, expected))


def _write_conditionally(uri: str, data: bytes, expected: bytes | None, write: Callable[[], None]) -> None:
    """Write. After a failure, read the object, because this write or that of another writer may have succeeded."""
    for retries_left in range(_RETRIES, -1, -1):
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
            if not isinstance(error, AlreadyExists) or retries_left == 0:
                raise
            # S3 rejects a write while another one is in progress, and expects a retry.


def write_file(uri: str, source: Path) -> None:
    """Write a local file to a URI, in bounded memory.

    Raises:
        NotFound: the local file does not exist.
        StorageError: it cannot be written. Nothing partial is left.
    """
    if not source.is_file():
        raise NotFound(f"Cannot read {source}: there is no such file.")
    _store(uri).write_file(uri, source)


def is_plain(uri: str) -> bool:
    """Whether a URI is an object or a regular file, or does not exist. False for a folder, link, pipe or device."""
    plain: bool = _store(uri).is_plain(uri)
    return plain


def is_same(uri: str, other: str) -> bool:
    """Whether two URIs name the same object, even by different paths."""
    same: bool = _store(uri) is _store(other) and _store(uri).is_same(uri, other)
    return same


@contextmanager
def local_copy(uri: str) -> Iterator[Path]:
    """Provide a local file with the content of a URI, for the time of a `with` block. A local file is not copied.

    Raises:
        NotFound: the object does not exist.
        StorageError: it cannot be read.
    """
    if not exists(uri):
        raise NotFound(f"Cannot read {uri}: there is no such file.")
    with _store(uri).local_copy(uri) as path:
        yield path


def list_uris(prefix_uri: str, suffix: str = "") -> list[str]:
    """List the objects directly below a folder or prefix, sorted. Empty if it does not exist.

    Raises:
        StorageError: it cannot be listed.
    """
    uris: list[str] = _store(prefix_uri).list_uris(prefix_uri, suffix)
    return uris


def list_folder(folder_uri: str) -> Listing:
    """List objects, with size and age, and folders directly below a folder or prefix. Empty if it does not exist.

    Raises:
        StorageError: it cannot be listed.
    """
    listing: Listing = _store(folder_uri).list_folder(folder_uri)
    return listing


def delete(uri: str) -> None:
    """Delete an object, if it exists.

    Raises:
        StorageError: it cannot be deleted.
    """
    _store(uri).delete(uri)


def _store(uri: str) -> ModuleType:
    if not uri.strip():
        raise ConfigurationError("A path or URI is empty. Name a file, a folder or s3://bucket/prefix.")
    if uri.startswith("s3://"):
        # Imported here, because boto3 takes 0.2 s to import and local use does not need it.
        from healthpredict.storage import s3

        return s3
    if "://" in uri:
        raise ConfigurationError(f"{uri!r} is not a supported store. Use a local folder or s3://bucket/prefix.")
    from healthpredict.storage import local

    return local
