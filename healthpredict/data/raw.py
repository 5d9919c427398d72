"""Raw encounters as frames of text, and back to csv.

A raw frame has the columns of the contract under their raw names and in its order, with NaN where the file has `?` or nothing.
Whether the values are possible is the business of `healthpredict.data.schema`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv

from healthpredict.data.columns import ENCOUNTER_COLUMNS, OUTCOME_COLUMN, OUTCOMES_COLUMNS
from healthpredict.data.contract import COLUMNS, MISSING, Kind
from healthpredict.data.table import Table, open_table
from healthpredict.errors import BatchRefused

_IDS = frozenset(column.name for column in COLUMNS if column.kind is Kind.ID)


@dataclass(frozen=True)
class RawTable:
    """A file that was read whole.

    Attributes:
        frame: the columns that were asked for as `str`, NaN where missing, shape (n_rows, n_columns).
        read_as: what the file is and how it is written, for people.
        notices: what was unusual about it, in sentences.
    """

    frame: pd.DataFrame
    read_as: str
    notices: tuple[str, ...]


def read_encounters(source: Path | bytes, name: str) -> RawTable:
    """Read a batch: encounters whose outcomes are not known yet.

    Args:
        source: a local file, or its content.
        name: of the file, for messages.

    Raises:
        BatchRefused: it cannot be read (see `open_table`), or it has the column `readmitted`.
        MissingColumns: a column of the contract is missing.
    """
    with open_table(source, name, ENCOUNTER_COLUMNS, (OUTCOME_COLUMN,)) as table:
        if OUTCOME_COLUMN in table.columns:
            raise BatchRefused(
                name,
                f"it has the column {OUTCOME_COLUMN}; deliver a batch without outcomes, and these in outcomes/ under the "
                "batch's name once they are known",
            )
        return _whole(table)


def read_history(source: Path | bytes, name: str) -> RawTable:
    """Read a data set: encounters with `readmitted`. Arguments and errors as `read_encounters`."""
    with open_table(source, name, (*ENCOUNTER_COLUMNS, OUTCOME_COLUMN)) as table:
        return _whole(table)


def read_outcomes(source: Path | bytes, name: str) -> RawTable:
    """Read outcomes: `encounter_id` and `readmitted`. Arguments and errors as `read_encounters`."""
    with open_table(source, name, OUTCOMES_COLUMNS) as table:
        return _whole(table)


def raw_chunks(table: Table, rows: int) -> Iterator[pd.DataFrame]:
    """Read an open table as raw frames of at most about `rows` rows; everything but ids as categories, which are few."""
    for chunk in table.chunks(rows):
        yield pd.DataFrame({name: _categories(chunk[name], name) for name in table.columns})


def format_raw(raw: pd.DataFrame) -> bytes:
    """Write a raw frame as a csv that `read_encounters` reads."""
    table = pa.Table.from_pandas(raw.fillna(MISSING), preserve_index=False)
    try:
        return _format(table, quoting="none")
    except pa.ArrowInvalid:
        # Some value holds a comma or a quote, and Arrow then puts quotes around every value.
        return _format(table, quoting="needed")


def _whole(table: Table) -> RawTable:
    parts = [pa.table({name: _plain(chunk[name]) for name in table.columns}) for chunk in table.chunks()]
    frame: pd.DataFrame = pa.concat_tables(parts).to_pandas()
    return RawTable(frame.astype("str").where(frame.notna()), table.read_as, table.notices)


def _plain(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return values.cast(pa.string())


def _categories(values: pa.ChunkedArray, column: str) -> pd.Series[Any]:
    texts: pd.Series[Any]
    if column in _IDS:
        texts = _plain(values).to_pandas()
        return texts.mask(texts == MISSING)
    texts = values.combine_chunks().dictionary_encode().to_pandas()
    # Parquet may hold the mark of the raw file.
    return texts.cat.remove_categories([MISSING]) if MISSING in texts.cat.categories else texts


def _format(table: pa.Table, *, quoting: str) -> bytes:
    buffer = BytesIO()
    pa.csv.write_csv(table, buffer, pa.csv.WriteOptions(quoting_style=quoting, quoting_header="none"))
    return buffer.getvalue()
