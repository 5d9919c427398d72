"""Entries in the listing of a store."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stored:
    """One stored object.

    Attributes:
        uri: of the object.
        size: in bytes.
        age_seconds: time since the last change, by the store's clock; negative if that time is in the future.
        version: differs after every change of the object (S3: the ETag; a file: its times and inode).
    """

    uri: str
    size: int
    age_seconds: float
    version: str

    @property
    def name(self) -> str:
        """The last part of the URI."""
        return self.uri.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Listing:
    """The entries directly below a folder or prefix.

    Attributes:
        objects: sorted by URI.
        folders: names of subfolders or longer prefixes.
        others: names of everything else, such as sockets and broken links.
    """

    objects: tuple[Stored, ...]
    folders: tuple[str, ...]
    others: tuple[str, ...] = ()
