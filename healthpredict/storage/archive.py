"""Write a tar archive of folders while their files change, and check an archive."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

from healthpredict.errors import StorageError

Skip = Callable[[Path], bool]
_PASSES: Final = 100
_IN_MEMORY_BYTES: Final = 16 * 1024 * 1024
_BLOCK: Final = 1 << 20


def files_below(folder: Path, skip: Skip) -> Iterator[Path]:
    """Yield the regular files below a folder, except skipped ones, links, and files that vanish in the meantime."""
    for root, names, files in os.walk(folder):
        here = Path(root)
        names[:] = sorted(name for name in names if not skip(here / name))
        for path in (here / name for name in sorted(files)):
            if not skip(path) and path.is_file() and not path.is_symlink():
                yield path


class ArchiveWriter:
    """Adds files that may grow, vanish or be renamed while they are read."""

    def __init__(self, archive: tarfile.TarFile, work: Path) -> None:
        """Args: archive, open for writing; work, folder for temporary files."""
        self._archive = archive
        self._work = work
        self._added: set[Path] = set()

    def add_bytes(self, name: str, data: bytes) -> None:
        """Add a file with this content."""
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES, dir=str(self._work)) as copy:
            copy.write(data)
            self._add(tarfile.TarInfo(name), copy)

    def add_file(self, name: str, path: Path) -> bool:
        """Add a file as it is now. Returns: whether it still exists."""
        try:
            with (
                path.open("rb") as source,
                tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES, dir=str(self._work)) as copy,
            ):
                # A copy first, because the size is written before the content, and the file may grow or shrink.
                shutil.copyfileobj(source, copy, _BLOCK)
                info = self._archive.gettarinfo(name, arcname=name, fileobj=source)
                self._add(info, copy)
        except FileNotFoundError:
            return False
        self._added.add(path)
        return True

    def add_folder(self, prefix: str, folder: Path, skip: Skip) -> None:
        """Add the files of a folder under a prefix. If files vanish, list it again, because they may have been renamed.

        Raises:
            StorageError: files still vanish after many passes.
        """
        for _ in range(_PASSES):
            new = [path for path in files_below(folder, skip) if path not in self._added]
            added = [self.add_file(f"{prefix}/{path.relative_to(folder)}", path) for path in new]
            if all(added):
                return
        raise StorageError(f"The files in {folder} change faster than they can be read. Try again later.")

    def _add(self, info: tarfile.TarInfo, content: IO[bytes]) -> None:
        info.size = content.tell()
        content.seek(0)
        # Owners have no meaning on another host, and long names from a directory service do not fit into the header.
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        self._archive.addfile(info, content)


def list_archive(path: Path) -> dict[str, int]:
    """Read a whole archive and return its files, name to size.

    Raises:
        StorageError: it is damaged, or not an archive.
    """
    try:
        with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            listed = {member.name: member.size for member in archive if member.isfile()}
            while stream.read(_BLOCK):  # up to the checksum at the end
                pass
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise StorageError(f"The archive {path.name} is damaged ({error}). Use another one.") from error
    return listed
