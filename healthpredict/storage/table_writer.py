"""Write a table in parts, as Parquet or csv."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from healthpredict.errors import ConfigurationError

ENDINGS: Final = (".parquet", ".csv.gz", ".csv")


def format_of(uri: str) -> str:
    """Return the ending of a URI, which determines the format. Its letter case is kept.

    Raises:
        ConfigurationError: the ending is none of `ENDINGS`.
    """
    ending = next((ending for ending in ENDINGS if uri.lower().endswith(ending)), None)
    if ending is None:
        name = uri.rpartition("/")[2]
        raise ConfigurationError(f"{name!r} has none of the possible endings: {', '.join(ENDINGS)}. Choose one.")
    return uri[-len(ending) :]


class TableWriter:
    """A context manager that appends tables with the same columns to a file."""

    def __init__(self, path: Path, ending: str) -> None:
        """Args: path, local; ending, one of `ENDINGS` in any letter case."""
        self._path = path
        self._ending = ending.lower()
        self._sink: Any = None
        self._writer: Any = None
        self.rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for opened in (self._writer, self._sink):
            if opened is not None:
                opened.close()

    def write(self, table: pa.Table) -> None:
        """Append rows. The first table, which may be empty, determines the columns."""
        if self._writer is None:
            self._sink = pa.output_stream(self._path, compression="gzip" if self._ending == ".csv.gz" else None)
            self._writer = self._open(table.schema)
        self._writer.write_table(table)
        self.rows += table.num_rows

    def _open(self, schema: pa.Schema) -> Any:
        if self._ending == ".parquet":
            # Dictionaries of ids and risks would gain nothing, because their values are distinct.
            texts = [field.name for field in schema if not pa.types.is_primitive(field.type)]
            return pq.ParquetWriter(self._sink, schema, compression="zstd", use_dictionary=texts)
        return pa.csv.CSVWriter(
            self._sink, schema, write_options=pa.csv.WriteOptions(quoting_style="needed", quoting_header="none")
        )
