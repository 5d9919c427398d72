"""The local cache of bundles, one folder for each, named by the bundle's digest.

Each fetched file is checked before it is stored. A bundle appears in the cache with all its files, or not at all. The cache may be
deleted while nothing uses it.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from healthpredict.bundle.model import MANIFEST
from healthpredict.errors import BundleError, StorageError

_FILE_NAME: Final = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
ReadFile = Callable[[str], bytes]
"""Reads a file of a bundle: name -> content."""


def fetch_into_cache(cache: Path, source: str, read: ReadFile, expected_digest: str | None = None) -> Path:
    """Fetch a bundle, unless the cache contains it undamaged.

    Args:
        cache: the folder of all bundles.
        source: name of the bundle in messages.
        read: see `ReadFile`.
        expected_digest: the digest that the bundle must have; by default any.

    Returns:
        The folder of the bundle.

    Raises:
        BundleError: the source is not a bundle, was altered, or has another digest than expected.
        StorageError: the cache cannot be written.
    """
    if expected_digest is not None and _is_undamaged(cache / expected_digest, expected_digest):
        return cache / expected_digest
    manifest = read(MANIFEST)
    digest = _sha256(manifest)
    if expected_digest not in (None, digest):
        raise BundleError(
            f"The bundle of {source} was altered: its digest is {digest[:12]}, registered was {str(expected_digest)[:12]}. "
            "Choose another version."
        )
    folder = cache / digest
    if _is_undamaged(folder, digest):
        return folder
    content = {MANIFEST: manifest}
    for name, file_digest in _files(source, manifest).items():
        content[name] = read(name)
        if _sha256(content[name]) != file_digest:
            raise BundleError(
                f"The bundle of {source} was altered: {name} is not what its manifest says. Build it again."
            )
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as temporary:
            staged = Path(temporary) / "bundle"
            staged.mkdir()
            for name, data in content.items():
                (staged / name).write_bytes(data)
            try:
                staged.rename(folder)
            except OSError:
                # Another process stored the bundle first, or the folder is damaged. Replace its files one by one.
                for name in content:
                    (staged / name).replace(folder / name)
    except OSError as error:
        raise StorageError(
            f"The bundle of {source} cannot be kept in {cache} ({error.strerror}). Free some space there, "
            "or name another cache."
        ) from error
    return folder


def _is_undamaged(folder: Path, digest: str) -> bool:
    """Return whether a folder contains the bundle of this digest, unchanged since it was fetched."""
    try:
        manifest = (folder / MANIFEST).read_bytes()
        if _sha256(manifest) != digest:
            return False
        files = _files(str(folder), manifest)
        return all(_sha256((folder / name).read_bytes()) == expected for name, expected in files.items())
    except (OSError, BundleError):
        return False


def _files(source: str, manifest: bytes) -> dict[str, str]:
    """Return the digests of the files of a bundle, by name."""
    try:
        files = {str(name): str(digest) for name, digest in json.loads(manifest)["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BundleError(f"{source} contains no manifest of a bundle. Name the folder of a bundle.") from None
    if not all(map(_FILE_NAME.fullmatch, files)) or MANIFEST in files:
        raise BundleError(
            f"The manifest of {source} lists names that files of a bundle cannot have. Do not use this bundle."
        )
    return files


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
