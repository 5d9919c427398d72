"""Rows with made-up dates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple

Row = Mapping[str, Any]
"""A record by `Column.field`, with `readmitted`."""

GAP_DAYS: Final = 430
"""Days from a discharge to the next admission: 60, in which a readmission is written, and the year in which visits count."""


class DatedRow(NamedTuple):
    """A row with made-up dates."""

    row: Row
    start: datetime
    end: datetime


def date_rows(rows: Sequence[Row], earliest: Sequence[date]) -> list[DatedRow]:
    """Make up dates for the stays of one person, in the order of the rows.

    Args:
        rows: of one person, by time.
        earliest: the first possible day of each admission.
    """
    found: list[DatedRow] = []
    for row, day in zip(rows, earliest, strict=True):
        start = datetime(day.year, day.month, day.day, 10, tzinfo=UTC)
        if found:
            after = found[-1].end + timedelta(days=GAP_DAYS)
            start = max(start, after.replace(hour=10))
        end = (start + timedelta(days=row["time_in_hospital"])).replace(hour=15)
        found.append(DatedRow(row, start, end))
    return found
