"""Reading a file of encounters of any size piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from healthpredict.data.contract import COLUMNS, MISSING, Kind
from healthpredict.data.raw import ENCOUNTER_COLUMNS
from healthpredict.errors import BatchRefused, MissingColumns

_NAMES = {name: c.name for c in COLUMNS for name in (c.name, c.field) if c.name in ENCOUNTER_COLUMNS}
_IDS = frozenset(c.name for c in COLUMNS if c.kind is Kind.ID)

CSV_OPTIONS: Final = pa.csv.ConvertOptions(
    column_types=dict.fromkeys(_NAMES, pa.string()), null_values=[MISSING, ""], strings_can_be_null=True
)
"""Every value as text, and what stands for missing."""


def read_chunks(path: Path, rows: int) -> Iterator[pd.DataFrame]:
    """Read the encounters of a csv or Parquet file as raw frames of at most about `rows` rows.

    Args:
        path: local file; Parquet where its first bytes say so. Columns are named as in the data set or by `Column.field`;
            those beyond the contract's encounters are left out.
        rows: of a chunk; what bounds the memory.

    Raises:
        MissingColumns: the contract's columns are not all there.
        BatchRefused: neither csv nor Parquet, or a row does not have the header's number of fields.
    """
    try:
        batches = _parquet_batches(path, rows) if is_parquet(path) else _csv_batches(path, rows)
        for batch in batches:
            yield as_raw(batch, str(path))
    except pa.ArrowException:
        # `from None`, because Arrow's message may quote a row.
        raise BatchRefused(str(path), "it is neither a readable csv nor Parquet; deliver it again") from None


def is_parquet(path: Path) -> bool:
    """Whether the first bytes of a file say that it is Parquet."""
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _parquet_batches(path: Path, rows: int) -> Iterator[pa.RecordBatch]:
    known = [name for name in pq.read_schema(path).names if name in _NAMES]
    # As codes, which is how they are stored; making texts of them would take longer than predicting.
    texts = [name for name in known if _NAMES[name] not in _IDS]
    # Without a buffer ahead of the rows, which would come to hold the whole file.
    with pq.ParquetFile(path, read_dictionary=texts, pre_buffer=False) as file:
        yield from file.iter_batches(batch_size=rows, columns=known)


def _csv_batches(path: Path, rows: int) -> Iterator[pa.RecordBatch]:
    # A row of this data set has some 190 bytes.
    with pa.csv.open_csv(
        path,
        read_options=pa.csv.ReadOptions(block_size=rows * 200),
        convert_options=CSV_OPTIONS,
    ) as reader:
        yield from reader


def as_raw(batch: pa.RecordBatch, name: str) -> pd.DataFrame:
    """A raw frame, its texts as categories. Args: batch, with the contract's columns and perhaps others; name, for messages."""
    table = pa.Table.from_batches([batch]).rename_columns([_NAMES.get(n, n) for n in batch.schema.names])
    missing = [column for column in ENCOUNTER_COLUMNS if column not in table.column_names]
    if missing:
        raise MissingColumns(name, missing)
    return pd.DataFrame({column: _texts(table[column], column) for column in ENCOUNTER_COLUMNS})


def _texts(values: pa.ChunkedArray, column: str) -> pd.Series[Any]:
    """A column of a raw frame: ids as they are written, everything else as categories, since few values are distinct."""
    if column in _IDS:
        written: pd.Series[Any] = values.cast(pa.string()).to_pandas()
        return written.mask(written == MISSING)
    encoded = values.combine_chunks().dictionary_encode()
    as_text = pa.DictionaryArray.from_arrays(encoded.indices, encoded.dictionary.cast(pa.string()))
    categories: pd.Series[Any] = as_text.to_pandas()
    # Parquet may hold the mark of the raw file.
    return categories.cat.remove_categories([MISSING]) if MISSING in categories.cat.categories else categories
