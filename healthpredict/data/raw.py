"""Raw encounters as they arrive: csv bytes to a frame of text, and back.

A raw frame has the columns of the contract under their raw names and in its order, all of dtype `str`, with NaN where the
file has `?` or nothing. Whether the values are possible is the business of `healthpredict.data.schema`.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Sequence
from io import BytesIO
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.csv

from healthpredict.data.contract import COLUMNS, MISSING, RECORD_COLUMNS, Kind
from healthpredict.errors import BatchRefused, MissingColumns

DATA_SET_FILE: Final = "diabetic_data.csv"
"""The encounters inside the published zip."""

ENCOUNTER_COLUMNS: Final = tuple(column.name for column in RECORD_COLUMNS)
OUTCOME_COLUMN: Final = next(column.name for column in COLUMNS if column.kind is Kind.OUTCOME)
OUTCOMES_COLUMNS: Final = ("encounter_id", OUTCOME_COLUMN)


def unzip(data: bytes, batch: str) -> bytes:
    """Return the csv inside the published zip, or the data itself where it is no zip.

    Raises:
        BatchRefused: the zip is damaged or holds no `diabetic_data.csv`.
    """
    if not data.startswith(b"PK\x03\x04"):
        return data
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            # Some copies of the archive have the file in a folder.
            member = next((name for name in archive.namelist() if name.split("/")[-1] == DATA_SET_FILE), None)
            if member is None:
                raise BatchRefused(batch, f"the zip holds no {DATA_SET_FILE}")
            return archive.read(member)
    except zipfile.BadZipFile as error:
        raise BatchRefused(batch, "the zip is damaged; fetch it again") from error


def parse_raw(data: bytes, batch: str, *, with_outcome: bool | None) -> pd.DataFrame:
    """Read the csv of a batch, or the published zip, as a raw frame.

    Args:
        data: the content of the file.
        batch: its name, for messages.
        with_outcome: whether there must be a column `readmitted`; None takes it where it is there.

    Raises:
        BatchRefused: it is empty, truncated, not UTF-8 or not a csv.
        MissingColumns: its columns are not those of the contract. Their order does not matter.
    """
    required = (*ENCOUNTER_COLUMNS, OUTCOME_COLUMN) if with_outcome else ENCOUNTER_COLUMNS
    optional = (OUTCOME_COLUMN,) if with_outcome is None else ()
    return _parse(unzip(data, batch), batch, required, optional)


def parse_outcomes(data: bytes, batch: str) -> pd.DataFrame:
    """Read the csv of a batch's outcomes, `encounter_id` and `readmitted`, as text.

    Raises:
        BatchRefused, MissingColumns: as `parse_raw`.
    """
    return _parse(data, batch, OUTCOMES_COLUMNS, ())


def format_raw(raw: pd.DataFrame) -> bytes:
    """Write a raw frame as the csv that `parse_raw` reads."""
    table = pa.Table.from_pandas(raw.fillna(MISSING), preserve_index=False)
    try:
        return _format(table, quoting="none")
    except pa.ArrowInvalid:
        # Some value holds a comma or a quote, and Arrow then puts quotes around every value.
        return _format(table, quoting="needed")


def _format(table: pa.Table, *, quoting: str) -> bytes:
    buffer = BytesIO()
    pa.csv.write_csv(table, buffer, pa.csv.WriteOptions(quoting_style=quoting, quoting_header="none"))
    return buffer.getvalue()


def _parse(data: bytes, batch: str, required: Sequence[str], optional: Sequence[str]) -> pd.DataFrame:
    if not data.strip():
        raise BatchRefused(batch, "it is empty; deliver it again")
    present = _header(data, batch)
    if not set(present) & set(required):
        raise BatchRefused(
            batch, "its first line names no column of the contract; deliver a comma-separated file with a header"
        )
    missing = [name for name in required if name not in present]
    unexpected = [name for name in present if name not in (*required, *optional)]
    if missing or unexpected:
        raise MissingColumns(batch, missing, unexpected)
    if len(set(present)) < len(present):
        raise BatchRefused(batch, "a column is there twice; deliver it with one of each")

    widths: list[int] = []

    def note_width(row: pa.csv.InvalidRow) -> str:
        widths.append(row.actual_columns)
        return "skip"

    try:
        table = pa.csv.read_csv(
            # Arrow takes a header that no line follows for an unreadable file.
            BytesIO(data + b"\n"),
            # Without the handler the error would quote the row, which is a patient's.
            parse_options=pa.csv.ParseOptions(invalid_row_handler=note_width),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(present, pa.string()), null_values=[MISSING, ""], strings_can_be_null=True
            ),
        )
    except pa.ArrowInvalid:
        # `from None`, because Arrow's message may quote a row.
        raise BatchRefused(batch, "it is not readable as UTF-8 csv; deliver it again") from None
    if widths:
        problem = f"rows without {len(present)} fields: {len(widths)} (one has {widths[-1]}), as in a truncated file"
        raise BatchRefused(batch, f"{problem}; deliver it again")
    # A quote that is not closed swallows the rows up to the next quote. No value has a line break, so a row is a line.
    if b'"' in data and table.num_rows + 1 != sum(1 for line in data.splitlines() if line.strip()):
        raise BatchRefused(batch, "a value reaches over lines, as after a quote that is not closed; deliver it again")
    if not table.num_rows:
        raise BatchRefused(batch, "it has a header and no rows; deliver it again")
    frame: pd.DataFrame = table.select([name for name in (*required, *optional) if name in present]).to_pandas()
    return frame


def _header(data: bytes, batch: str) -> list[str]:
    try:
        line = data.lstrip(b"\r\n").splitlines()[0].decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BatchRefused(batch, "it is not readable as UTF-8 csv; deliver it again") from None
    return next(csv.reader([line]))
