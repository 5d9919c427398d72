"""Match the columns of a file with those of the contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from healthpredict.data.contract import (
    COLUMNS,
    DIAGNOSIS_CODING,
    INTERVENTION_COLUMNS,
    RECORD_COLUMNS,
    Column,
    Kind,
)
from healthpredict.errors import BatchRefused, MissingColumns

ENCOUNTER_COLUMNS: Final = tuple(column.name for column in RECORD_COLUMNS)
CODING_COLUMN: Final = DIAGNOSIS_CODING.name
"""A column that files with encounters may have."""
OUTCOME_COLUMN: Final = next(column.name for column in COLUMNS if column.kind is Kind.OUTCOME)
OUTCOMES_COLUMNS: Final = ("encounter_id", OUTCOME_COLUMN)
INTERVENTION_NAMES: Final = tuple(column.name for column in INTERVENTION_COLUMNS)
ID_COLUMNS: Final = frozenset(column.name for column in COLUMNS if column.kind is Kind.ID)
_BY_NAME: Final = {
    name.lower(): column
    for column in (*COLUMNS, DIAGNOSIS_CODING, *INTERVENTION_COLUMNS)
    for name in (column.name, column.field)
}
_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Matched:
    """The columns that are read.

    Attributes:
        positions: name in the contract -> position in the file.
        notices: what was unusual about the header, in sentences.
    """

    positions: dict[str, int]
    notices: tuple[str, ...]


def known_names(header: Sequence[str]) -> int:
    """Count the names in a header that stand for a column of the contract."""
    return sum(column_of(name) is not None for name in header)


def column_of(name: str) -> Column | None:
    """Find the column of the contract that a name in a header stands for.

    A name matches if it is `Column.name` or `Column.field` in any letter case. Dots count as underscores, because R writes dots for
    hyphens.

    Returns:
        The column, or None if the contract has none with this name.
    """
    return _BY_NAME.get(_normalize(name).lower())


def _normalize(name: str) -> str:
    return name.strip().replace(".", "_")


def fitting_values(header: Sequence[str], values: Sequence[str]) -> int:
    """Count the values of a row that the contract allows in the columns of the header."""
    pairs = ((column_of(name), value) for name, value in zip(header, values, strict=False))
    return sum(column is not None and value in column.allowed for column, value in pairs)


def breaks_contract(name: str, value: str) -> bool:
    """Return whether a text breaks the contract of the column with this name."""
    column = column_of(name)
    return column is not None and column.problem(column.read(value)) is not None


def match_columns(header: Sequence[str], name: str, required: Sequence[str], optional: Sequence[str] = ()) -> Matched:
    """Find the requested columns in a header. See `column_of` for how names match.

    Args:
        header: the names in the file.
        name: of the file, for messages.
        required: names in the contract.
        optional: more names in the contract. These columns are read if the file has them.

    Raises:
        MissingColumns: a required column is missing.
        BatchRefused: a requested column occurs twice, perhaps under two names.
    """
    wanted = (*required, *optional)
    found: dict[str, list[int]] = {}
    unused, unnamed, other_case, dots = [], [], False, False
    for position, text in enumerate(header):
        written = text.strip()
        column = column_of(text)
        if column is not None and column.name in wanted:
            found.setdefault(column.name, []).append(position)
            other_case |= _normalize(text) not in (column.name, column.field)
            dots |= "." in written
        elif written:
            unused.append(written)
        else:
            unnamed.append(position)
    for contract_name, positions in found.items():
        if len(positions) > 1:
            names = " and ".join(dict.fromkeys(header[position].strip() for position in positions))
            raise BatchRefused(name, f"the column {contract_name} occurs twice ({names}); deliver only one of them")
    missing = [column for column in required if column not in found]
    if missing:
        raise MissingColumns(name, missing, unused)
    notices = []
    if other_case:
        notices.append("Column names differ from the contract in letter case.")
    if dots:
        notices.append("Dots in column names were read as hyphens or underscores.")
    if 0 in unnamed:
        notices.append("The first column has no name (an index) and was left out.")
    if set(unnamed) - {0}:
        notices.append("Columns without a name (from a trailing delimiter) were left out.")
    if unused:
        more = f" and {len(unused) - _SHOWN} more" if len(unused) > _SHOWN else ""
        notices.append(f"Columns that are not needed were left out: {', '.join(unused[:_SHOWN])}{more}.")
    return Matched({column: found[column][0] for column in wanted if column in found}, tuple(notices))
