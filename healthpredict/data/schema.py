"""Check a batch against the contract: valid rows get their types, bad rows get reasons.

`Column.problem` alone decides whether a value is allowed, here and in the API, so both refuse the same values. It is called once
per distinct value of a column: 8,000 rows take a tenth of a second.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as arrow
import pyarrow.compute as pc
from numpy.typing import NDArray

from healthpredict.data.contract import COLUMNS, DIAGNOSES, DIAGNOSIS_CODING, RECORD_COLUMNS, Column, Kind
from healthpredict.data.diagnosis import read_diagnosis
from healthpredict.data.params import ContractParams
from healthpredict.errors import BatchRefused

if TYPE_CHECKING:
    import pandera.pandas as pa

DUPLICATE = "encounter_id is there already"
OUTCOMES_CONTRACT = tuple(column for column in COLUMNS if column.name == "encounter_id" or column.kind is Kind.OUTCOME)
_PLAIN_IDS = r"^[0-9]{1,18}$"


@dataclass(frozen=True, slots=True)
class CheckedBatch:
    """The rows of a batch, each in one of two frames.

    Attributes:
        encounters: the valid rows as an encounters frame, including those that ended in death or hospice.
        quarantine: the bad rows, unchanged, with a column `reason` that lists every problem of the row.
    """

    encounters: pd.DataFrame
    quarantine: pd.DataFrame

    @property
    def reasons(self) -> dict[str, int]:
        """Reason -> number of rows, the most frequent first."""
        return dict(
            Counter(reason for reasons in self.quarantine["reason"] for reason in reasons.split("; ")).most_common()
        )


def check_encounters(
    raw: pd.DataFrame, batch: str, params: ContractParams, earlier_ids: Collection[int] = ()
) -> CheckedBatch:
    """Split a batch into valid and bad rows, and check the valid ones against the Pandera schema as well.

    If several valid rows have the same `encounter_id`, the first is kept and the others are bad.

    Args:
        raw: a raw frame. A column of outcomes is ignored.
        batch: its name, for messages.
        params: the largest share of bad rows, and the code system of diagnoses if none is stated.
        earlier_ids: the `encounter_id` of earlier encounters. A row that repeats one is bad.

    Raises:
        BatchRefused: too many rows are bad. The message contains the most frequent reasons with their counts, and no values.
    """
    rows = check_rows(raw, RECORD_COLUMNS, params.diagnosis_coding)
    ids = rows.frame["encounter_id"]
    repeated = np.zeros(len(raw), dtype=bool)
    repeated[rows.valid] = (ids[rows.valid].duplicated() | ids[rows.valid].isin(earlier_ids)).to_numpy()
    rows.reject(repeated, DUPLICATE)
    bad = ~rows.valid
    quarantine = raw[bad].assign(reason=pd.Series(rows.reasons[bad], dtype="str", index=raw.index[bad]))
    checked = CheckedBatch(rows.frame[rows.valid].reset_index(drop=True), quarantine.reset_index(drop=True))
    if len(quarantine) > params.max_bad_share * len(raw):
        worst = "; ".join(f"{reason} ({count} rows)" for reason, count in [*checked.reasons.items()][:3])
        problem = f"{bad.sum()} of {len(raw)} rows are bad, more than {params.max_bad_share:.0%}: {worst}"
        raise BatchRefused(batch, f"{problem}. Correct them at their source")
    build_schema().validate(checked.encounters, inplace=True)
    return checked


@dataclass(frozen=True, slots=True)
class CheckedRows:
    """The rows of a raw frame with typed values, and their problems.

    Attributes:
        frame: columns by `Column.field`, in the order of the raw frame. The values of an invalid row are meaningless.
        reasons: every problem of a row, joined by "; ", or "" if it is valid, shape (n_rows,).
    """

    frame: pd.DataFrame
    reasons: NDArray[np.object_]

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Which rows have no problem, shape (n_rows,)."""
        return np.equal(self.reasons, "").astype(bool)

    def reject(self, rows: NDArray[Any], reason: str) -> None:
        """Add a reason to some rows. Args: rows, a mask or positions; reason, which contains no value of a patient."""
        self.reasons[rows] = [f"{text}; {reason}" if text else reason for text in self.reasons[rows]]


def check_rows(raw: pd.DataFrame, columns: Sequence[Column], diagnosis_coding: str | None = None) -> CheckedRows:
    """Convert every value to its type, and list the problems of each row.

    Args:
        raw: a raw frame. Its columns may be categorical; codes then stay categorical.
        columns: of the contract, to check.
        diagnosis_coding: the system of a diagnosis code that exists in both, if the row states none. With None, the row is bad.
    """
    typed: dict[str, Any] = {}
    checked = CheckedRows(pd.DataFrame(index=raw.index), np.full(len(raw), "", dtype=object))
    stated = None
    if DIAGNOSIS_CODING.name in raw and any(column.name in DIAGNOSES for column in columns):
        stated, problems = _check_column(raw[DIAGNOSIS_CODING.name], DIAGNOSIS_CODING)
        for reason, rows in problems:
            checked.reject(rows, reason)
    for column in columns:
        if column.name in DIAGNOSES:
            typed[column.field], problems = _check_diagnoses(raw[column.name], column, stated, diagnosis_coding)
        else:
            typed[column.field], problems = _check_column(raw[column.name], column)
        for reason, rows in problems:
            checked.reject(rows, reason)
    return CheckedRows(pd.DataFrame(typed), checked.reasons)


@cache
def build_schema() -> pa.DataFrameSchema:
    """Build the Pandera schema of an encounters frame from the contract."""
    # Imported here, because it takes half a second and most commands do not need it.
    import pandera.pandas as pa

    def column_schema(column: Column) -> pa.Column:
        match column.kind:
            case Kind.ID:
                return pa.Column("int64", pa.Check.gt(0), unique=column.name == "encounter_id")
            case Kind.COUNT:
                return pa.Column("int64", pa.Check.in_range(column.minimum, column.maximum))
            case Kind.CODE:
                assert column.pattern is not None
                # As in `Column.problem`: pandas has a regular expression engine of its own, which differs in \d.
                fits = re.compile(column.pattern).fullmatch
                # Once per distinct value: a million rows have some hundreds.
                check = pa.Check(lambda texts: texts.isin([text for text in texts.unique() if fits(text)]))
                return pa.Column("str", check, nullable=column.nullable)
            case _:
                return pa.Column(_categories(column.allowed), nullable=column.nullable)

    return pa.DataFrameSchema(
        {column.field: column_schema(column) for column in RECORD_COLUMNS}, strict=True, ordered=True
    )


@cache
def _categories(allowed: tuple[str, ...]) -> pd.CategoricalDtype:
    return pd.CategoricalDtype(list(allowed))


def codes_of(column: pd.Series[Any]) -> tuple[NDArray[np.integer[Any]], Any]:
    """Return the code of each row's value, -1 if missing, shape (n,); and the values that the codes stand for."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy(), column.cat.categories
    return pd.factorize(column)


def _check_column(texts: pd.Series[Any], column: Column) -> tuple[Any, list[tuple[str, NDArray[np.bool_]]]]:
    if column.kind is Kind.ID and (ids := _all_good_ids(texts)) is not None:
        return ids, []
    codes, distinct = codes_of(texts)
    values = [column.read(text) for text in distinct]
    # The code of a missing value is -1, which indexes the last entry.
    problems = [column.problem(value) for value in (*values, None)]
    found = _rows_of(problems, codes, column)
    match column.kind:
        case Kind.ID | Kind.COUNT:
            numbers = [0 if problem else value for value, problem in zip((*values, 0), problems, strict=True)]
            return np.array(numbers, dtype=np.int64)[codes], found
        case Kind.CODE:
            return _with_values(texts, codes, distinct, values), found
        case _:
            # A value that is not allowed becomes missing. Its row is bad anyway.
            position = {value: number for number, value in enumerate(column.allowed)}
            # No column of the contract allows more than 127 values.
            positions = np.array([*(position.get(str(value), -1) for value in values), -1], dtype=np.int8)[codes]
            return pd.Categorical.from_codes(positions, dtype=_categories(column.allowed), validate=False), found


def _check_diagnoses(
    texts: pd.Series[Any], column: Column, stated: pd.Categorical | None, default: str | None
) -> tuple[pd.Series[Any], list[tuple[str, NDArray[np.bool_]]]]:
    """Read a column of diagnoses. Each distinct pair of code and stated system is read once."""
    codes, distinct = codes_of(texts)
    texts_of, coding_of = list(distinct), [None] * len(distinct)
    if stated is not None:
        systems = [*stated.categories, None]
        # The code of a missing system is -1; that of a missing diagnosis stays -1.
        pairs, of_pair = np.unique(
            codes.astype(np.int64) * len(systems) + stated.codes % len(systems), return_inverse=True
        )
        known = pairs >= 0
        first = int((~known).sum())
        texts_of = [distinct[pair // len(systems)] for pair in pairs[known]]
        coding_of = [systems[pair % len(systems)] for pair in pairs[known]]
        codes = np.maximum(of_pair - first, -1)
    values, problems = [], []
    for text, coding in zip(texts_of, coding_of, strict=True):
        value = column.read(text)
        problem = column.problem(value)
        if isinstance(value, str) and problem is None:
            read, problem = read_diagnosis(value, coding, default)
            value = value if read is None else read
        values.append(value)
        problems.append(problem)
    found = _rows_of([*problems, column.problem(None)], codes, column)
    return _with_values(texts, codes, texts_of, values), found


def _rows_of(
    problems: Sequence[str | None], codes: NDArray[np.integer[Any]], column: Column
) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return each problem as a reason, and its rows. Args: problems, of each code, that of a missing value last."""
    found = []
    for problem in dict.fromkeys(filter(None, problems)):
        rows = np.array([other == problem for other in problems])[codes]
        if rows.any():
            found.append((f"{column.name} {problem}", rows))
    return found


def _with_values(
    texts: pd.Series[Any], codes: NDArray[np.integer[Any]], distinct: Any, values: Sequence[str | int | None]
) -> pd.Series[Any]:
    """Replace the texts of a column of codes by the values that were read from them."""
    if list(distinct) == values:
        return texts
    kept = list(dict.fromkeys(value for value in values if value is not None))
    position = {value: number for number, value in enumerate(kept)}
    positions = np.array([*(-1 if value is None else position[value] for value in values), -1])[codes]
    read = pd.Series(pd.Categorical.from_codes(positions, categories=pd.Index(kept, dtype="str")), index=texts.index)
    return read if isinstance(texts.dtype, pd.CategoricalDtype) else read.astype("str")


def _all_good_ids(texts: pd.Series[Any]) -> NDArray[np.int64] | None:
    """Fast path: convert a column of ids. Returns: None, if any is not plain digits.

    Ids are nearly all distinct, so checking each distinct one would take longer than everything else. The pattern is checked first
    because Arrow would read 0x1F as 31.
    """
    written = arrow.array(texts, arrow.string())
    if written.null_count or not pc.all(pc.match_substring_regex(written, _PLAIN_IDS)).as_py():
        return None
    ids: NDArray[np.int64] = written.cast(arrow.int64()).to_numpy(zero_copy_only=False)
    return ids if (ids > 0).all() else None
