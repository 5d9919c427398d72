"""Read delivered files: encounters or outcomes, as csv or Parquet, of any size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from healthpredict.data.columns import ID_COLUMNS, Matched, match_columns
from healthpredict.data.contract import MISSING
from healthpredict.data.dialect import Dialect, detect_dialect
from healthpredict.data.unpack import Opener, unpacked
from healthpredict.errors import BatchRefused

ROWS_AT_ONCE: Final = 100_000
_PARQUET: Final = b"PAR1"
_BYTES_A_ROW: Final = 200
_SHORT_FLOATS: Final = (pa.float16(), pa.float32())
_DAMAGED: Final = "it is a damaged or incomplete Parquet file; deliver it again"


@dataclass
class Table:
    """An open file.

    Attributes:
        name: for messages.
        columns: names in the contract, in the requested order.
        rows: number of rows, known before any value is read.
        read_as: format, encoding and compression, for people.
        notices: what was unusual about it, in sentences.
    """

    name: str
    columns: tuple[str, ...]
    rows: int
    read_as: str
    notices: tuple[str, ...]
    _opener: Opener = field(repr=False)
    _positions: tuple[int, ...] = field(repr=False)
    _dialect: Dialect | None = field(repr=False)

    def chunks(self, rows: int = ROWS_AT_ONCE) -> Iterator[pa.Table]:
        """Read the columns as text, about `rows` rows at a time. `?` and empty values are null.

        Raises:
            BatchRefused: a value cannot be read, or fewer or more rows were read than counted.
        """
        if not self.rows:
            yield pa.table({name: pa.array([], pa.string()) for name in self.columns})
            return
        read = 0
        source = self._parquet_batches(rows) if self._dialect is None else self._csv_batches(self._dialect, rows)
        try:
            for batch in source:
                read += batch.num_rows
                yield pa.Table.from_batches([batch]).rename_columns(self.columns)
        except (pa.ArrowException, OSError) as error:
            raise BatchRefused(self.name, _DAMAGED if self._dialect is None else "it is not a readable csv") from error
        if read != self.rows:
            raise BatchRefused(
                self.name, f"it has {self.rows} rows, but {read} could be read; deliver it again as plain csv"
            )

    def _csv_batches(self, dialect: Dialect, rows: int) -> Iterator[pa.RecordBatch]:
        # By position, because columns that are not needed may have no name or the same name.
        names = [str(number) for number in range(len(dialect.header) + (dialect.extra != "nothing"))]
        chosen = [str(position) for position in self._positions]
        with (
            self._opener() as file,
            pa.csv.open_csv(
                file,
                read_options=pa.csv.ReadOptions(
                    block_size=rows * _BYTES_A_ROW,
                    column_names=names,
                    skip_rows=dialect.header_line,
                    encoding=dialect.encoding.removesuffix("-sig"),
                ),
                parse_options=pa.csv.ParseOptions(
                    delimiter=dialect.delimiter,
                    quote_char='"' if dialect.quoted else False,
                    newlines_in_values=dialect.quoted,
                    # Only blank lines get here: `detect_dialect` has checked the number of values of every row.
                    invalid_row_handler=lambda _: "skip",
                ),
                convert_options=pa.csv.ConvertOptions(
                    include_columns=chosen,
                    column_types=dict.fromkeys(chosen, pa.string()),
                    null_values=[MISSING, ""],
                    strings_can_be_null=True,
                ),
            ) as reader,
        ):
            yield from reader

    def _parquet_batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        with self._opener() as file, pq.ParquetFile(file) as head:
            stored = [head.schema_arrow.field(position) for position in self._positions]
        names = [column.name for column in stored]
        if nested := [column.name for column in stored if pa.types.is_nested(column.type)]:
            raise BatchRefused(self.name, f"{', '.join(nested)} holds lists or structures; deliver one value per row")
        ids = [column for column, name in zip(stored, self.columns, strict=True) if name in ID_COLUMNS]
        if short := [column.name for column in ids if column.type in _SHORT_FLOATS]:
            raise BatchRefused(
                self.name,
                f"{', '.join(short)} holds floating-point numbers of 32 bits or fewer, which skip whole numbers above 2^24; "
                "deliver it as whole numbers",
            )
        # Keep the dictionary encoding: converting each value to text would take longer than predicting.
        texts = [name for name, column in zip(names, self.columns, strict=True) if column not in ID_COLUMNS]
        # Pre-buffering would read the whole file into memory.
        with self._opener() as file, pq.ParquetFile(file, read_dictionary=texts, pre_buffer=False) as parquet:
            for batch in parquet.iter_batches(batch_size=rows, columns=names):
                yield pa.record_batch([_as_text(batch[name]) for name in names], names=names)


@contextmanager
def open_table(
    source: Path | bytes, name: str, required: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[Table]:
    """Open a csv or Parquet file, perhaps compressed. Format, dialect and compression are detected from the content.

    Args:
        source: a local file, or its content.
        name: of the file, for messages.
        required: columns of the contract that the file must have, in any order.
        optional: more columns of the contract, which are read if the file has them.

    Raises:
        MissingColumns: a required column is missing.
        BatchRefused: the file is empty, damaged or not a table, or a line cannot be read.
    """

    def match(header: Sequence[str]) -> Matched:
        return match_columns(header, name, required, optional)

    with unpacked(source, name) as (opener, compression):
        with opener() as file:
            is_parquet = file.read(len(_PARQUET)) == _PARQUET
        dialect = None if is_parquet else detect_dialect(opener, name, match)
        if dialect is not None:
            header, rows, read_as, unusual = dialect.header, dialect.rows, dialect.read_as, dialect.notices
        else:
            header, rows = _parquet_head(opener, name)
            read_as, unusual = "Parquet", ()
        # Match a csv's header again: the first row may have shown that its last, empty name is not a column.
        matched = match(header)
        shift = dialect is not None and dialect.extra == "row names"
        if compression is not None:
            read_as += f", {compression}"
        yield Table(
            name=name,
            columns=tuple(matched.positions),
            rows=rows,
            read_as=read_as,
            notices=(*unusual, *matched.notices),
            _opener=opener,
            _positions=tuple(position + shift for position in matched.positions.values()),
            _dialect=dialect,
        )


def _as_text(values: pa.Array) -> pa.Array:
    """Convert values to text and keep the dictionary encoding. A float gets its shortest form, such as 5.0."""
    if pa.types.is_dictionary(values.type):
        return pa.DictionaryArray.from_arrays(values.indices, _as_text(values.dictionary))
    if pa.types.is_floating(values.type):
        numbers = values.to_pylist()
        return pa.array([None if n is None or math.isnan(n) else repr(n) for n in numbers], pa.string())
    return values.cast(pa.string())


def _parquet_head(opener: Opener, name: str) -> tuple[tuple[str, ...], int]:
    try:
        with opener() as file, pq.ParquetFile(file) as parquet:
            return tuple(parquet.schema_arrow.names), parquet.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise BatchRefused(name, _DAMAGED) from error
