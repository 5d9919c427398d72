"""Read raw encounters into frames of text, and write them as csv.

A raw frame has the columns of the contract under their raw names and in its order, and last `diagnosis_coding` if the file has
it. `?` and empty values are NaN. `healthpredict.data.schema` checks the values.
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

from healthpredict.data.columns import (
    CODING_COLUMN,
    ENCOUNTER_COLUMNS,
    ID_COLUMNS,
    INTERVENTION_NAMES,
    OUTCOME_COLUMN,
    OUTCOMES_COLUMNS,
)
from healthpredict.data.contract import MISSING
from healthpredict.data.table import Table, open_table
from healthpredict.errors import BatchRefused


@dataclass(frozen=True)
class RawTable:
    """A file that was read into memory.

    Attributes:
        frame: the requested columns as `str`, NaN if missing, shape (n_rows, n_columns).
        read_as: format, encoding and compression, for people.
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
    with open_table(source, name, ENCOUNTER_COLUMNS, (OUTCOME_COLUMN, CODING_COLUMN)) as table:
        if OUTCOME_COLUMN in table.columns:
            raise BatchRefused(
                name,
                f"it has the column {OUTCOME_COLUMN}; deliver a batch without outcomes, and these in outcomes/ under the "
                "batch's name once they are known",
            )
        return _whole(table)


def read_history(source: Path | bytes, name: str) -> RawTable:
    """Read a data set: encounters with `readmitted`. Arguments and errors as `read_encounters`."""
    with open_table(source, name, (*ENCOUNTER_COLUMNS, OUTCOME_COLUMN), (CODING_COLUMN,)) as table:
        return _whole(table)


def read_outcomes(source: Path | bytes, name: str) -> RawTable:
    """Read outcomes: `encounter_id` and `readmitted`. Arguments and errors as `read_encounters`."""
    with open_table(source, name, OUTCOMES_COLUMNS) as table:
        return _whole(table)


def read_interventions(source: Path | bytes, name: str) -> RawTable:
    """Read interventions: `INTERVENTION_COLUMNS`, of which `reason` may be absent. Arguments and errors as `read_encounters`."""
    required = tuple(column for column in INTERVENTION_NAMES if column != "reason")
    with open_table(source, name, required, ("reason",)) as table:
        return _whole(table)


def raw_chunks(table: Table, rows: int) -> Iterator[pd.DataFrame]:
    """Read an open table as raw frames of about `rows` rows. All columns but ids are categorical, to save memory."""
    for chunk in table.chunks(rows):
        yield pd.DataFrame({name: _categories(chunk[name], name) for name in table.columns})


def format_raw(raw: pd.DataFrame) -> bytes:
    """Write a raw frame as a csv that `read_encounters` reads."""
    table = pa.Table.from_pandas(raw.fillna(MISSING), preserve_index=False)
    try:
        return _format(table, quoting="none")
    except pa.ArrowInvalid:
        # A value contains a comma or a quote. Arrow then quotes every value.
        return _format(table, quoting="needed")


def _whole(table: Table) -> RawTable:
    parts = [pa.table({name: _as_strings(chunk[name]) for name in table.columns}) for chunk in table.chunks()]
    frame: pd.DataFrame = pa.concat_tables(parts).to_pandas()
    return RawTable(frame.astype("str").where(frame.notna()), table.read_as, table.notices)


def _as_strings(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return values.cast(pa.string())


def _categories(values: pa.ChunkedArray, column: str) -> pd.Series[Any]:
    texts: pd.Series[Any]
    if column in ID_COLUMNS:
        texts = _as_strings(values).to_pandas()
        return texts.mask(texts == MISSING)
    texts = values.combine_chunks().dictionary_encode().to_pandas()
    # In a csv, `?` is null already; a Parquet file may contain it as a text.
    return texts.cat.remove_categories([MISSING]) if MISSING in texts.cat.categories else texts


def _format(table: pa.Table, *, quoting: str) -> bytes:
    buffer = BytesIO()
    pa.csv.write_csv(table, buffer, pa.csv.WriteOptions(quoting_style=quoting, quoting_header="none"))
    return buffer.getvalue()
