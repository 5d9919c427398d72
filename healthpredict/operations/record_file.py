"""Record a file of reports on encounters that the API predicted: outcomes, or what was done."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import pandas as pd
from pydantic import BaseModel, ConfigDict

from healthpredict.data.raw import RawTable
from healthpredict.storage.tables import write_frame
from healthpredict.storage.uris import exists, join, local_copy

_RECORDED: Final = "file-"
"""Objects that `record_file` wrote have names that begin with this: never change it."""


_AGAIN: Final = "This file was recorded before. Nothing was written, and later corrections stay in use."


class RecordedFile(BaseModel):
    """The result of recording a file.

    Attributes:
        source_uri: the file.
        read_as: its format, encoding and compression, for people.
        rows: number of rows of the file.
        recorded: number of rows that can be used.
        problems: what cannot be used, and notices, in sentences without values of patients.
    """

    model_config = ConfigDict(frozen=True)

    source_uri: str
    read_as: str
    rows: int
    recorded: int
    problems: tuple[str, ...]


class Checked(Protocol):
    """The rows of a file: how many there are, which can be used, and why the others cannot."""

    @property
    def usable(self) -> pd.DataFrame: ...  # noqa: D102
    @property
    def rows(self) -> int: ...  # noqa: D102
    @property
    def problems(self) -> list[str]: ...  # noqa: D102


def record_file(
    folder: str,
    source_uri: str,
    read: Callable[[Path, str], RawTable],
    check: Callable[[pd.DataFrame], Checked],
) -> RecordedFile:
    """Write the usable rows of a file to a folder, with the current `time`. A second call with the same file changes nothing.

    Args:
        folder: URI.
        source_uri: local path or `s3://` URI.
        read: reads it.
        check: selects the rows that can be used.

    Raises:
        BatchRefused: the file cannot be read.
        NotFound: there is no such file.
        StorageError: it cannot be read or written.
    """
    with local_copy(source_uri) as path:
        table = read(path, source_uri)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    checked = check(table.frame)
    uri = join(folder, f"{_RECORDED}{digest[:32]}.parquet")
    again = exists(uri)
    if not again:  # a second write would make these rows newer than corrections reported since
        # As text, like the objects that `ship_log` writes.
        texts = checked.usable.astype(dict.fromkeys(checked.usable.select_dtypes("category"), "str"))
        write_frame(uri, texts.assign(time=pd.Timestamp.now("UTC")))
    return RecordedFile(
        source_uri=source_uri,
        read_as=table.read_as,
        rows=checked.rows,
        recorded=len(checked.usable),
        problems=(*table.notices, *checked.problems, *([_AGAIN] if again else [])),
    )


def is_recorded(uri: str) -> bool:
    """Return whether `record_file` wrote an object."""
    return uri.rpartition("/")[2].startswith(_RECORDED)
