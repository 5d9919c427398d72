"""Holding a batch to the contract: valid rows with their types, and bad rows with the reasons.

`Column.problem` alone decides what is wrong with a value, here and in the API, so both refuse the same things. It is asked
once per distinct value of a column, which makes 8,000 rows a matter of a tenth of a second.
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
from numpy.typing import NDArray

from healthpredict.data.contract import COLUMNS, RECORD_COLUMNS, Column, Kind
from healthpredict.data.params import ContractParams
from healthpredict.errors import BatchRefused

if TYPE_CHECKING:
    import pandera.pandas as pa

DUPLICATE = "encounter_id is there already"
_OUTCOME = tuple(column for column in COLUMNS if column.name == "encounter_id" or column.kind is Kind.OUTCOME)
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,30}")


@dataclass(frozen=True, slots=True)
class CheckedBatch:
    """The rows of a batch, each in one of two frames.

    Attributes:
        encounters: the valid rows as an encounters frame; death and hospice are still in it.
        quarantine: the bad rows as they came, with a column `reason` that lists every problem of the row.
    """

    encounters: pd.DataFrame
    quarantine: pd.DataFrame

    @property
    def reasons(self) -> dict[str, int]:
        """Reason to number of rows, the most frequent first."""
        return dict(
            Counter(reason for reasons in self.quarantine["reason"] for reason in reasons.split("; ")).most_common()
        )


def check_encounters(
    raw: pd.DataFrame, batch: str, params: ContractParams, earlier_ids: Collection[int] = ()
) -> CheckedBatch:
    """Split a batch into valid and bad rows, and hold the valid ones to the Pandera schema as well.

    Of several valid rows with one `encounter_id` the first is kept and the others are bad.

    Args:
        raw: a raw frame; an outcome column is left out of the encounters.
        batch: its name, for messages.
        params: how many bad rows are too many.
        earlier_ids: the `encounter_id` of encounters that are there already; a row that repeats one is bad.

    Raises:
        BatchRefused: too many bad rows; it names the most frequent reasons with their counts, and no values.
    """
    checked = CheckedBatch(*_split(raw, batch, RECORD_COLUMNS, params, earlier_ids))
    build_schema().validate(checked.encounters, inplace=True)
    return checked


def split_encounters(raw: pd.DataFrame, batch: str, params: ContractParams) -> CheckedBatch:
    """Split a batch that is looked at once and not kept: as `check_encounters`, whose second look takes a quarter of its time.

    Args:
        raw: texts may be categories; open codes then stay categories.
        batch: its name, for messages.
        params: how many bad rows are too many.

    Raises:
        BatchRefused: as `check_encounters`.
    """
    return CheckedBatch(*_split(raw, batch, RECORD_COLUMNS, params))


def check_outcomes(raw: pd.DataFrame, batch: str, params: ContractParams) -> CheckedBatch:
    """Split the outcomes of a batch into valid rows (an outcomes frame) and bad rows, as `check_encounters` does.

    Raises:
        BatchRefused: as `check_encounters`.
    """
    return CheckedBatch(*_split(raw, batch, _OUTCOME, params))


@cache
def build_schema() -> pa.DataFrameSchema:
    """Build the Pandera schema of an encounters frame from the contract."""
    # Here, because it takes half a second to import and most commands check nothing.
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
    """The position of each row's value among all values of a column, -1 where missing, shape (n,), and these values."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy(), column.cat.categories
    return pd.factorize(column)


def _split(
    raw: pd.DataFrame,
    batch: str,
    columns: Sequence[Column],
    params: ContractParams,
    earlier_ids: Collection[int] = (),
) -> tuple[pd.DataFrame, pd.DataFrame]:
    typed: dict[str, Any] = {}
    found: list[tuple[str, NDArray[np.bool_]]] = []
    for column in columns:
        typed[column.field], problems = _check_column(raw[column.name], column)
        found.extend(problems)
    frame = pd.DataFrame(typed)
    bad = np.logical_or.reduce([rows for _, rows in found]) if found else np.zeros(len(raw), dtype=bool)
    repeated = np.zeros(len(raw), dtype=bool)
    ids = frame.loc[~bad, "encounter_id"]
    repeated[~bad] = ids.duplicated() | ids.isin(earlier_ids)
    if repeated.any():
        found.append((DUPLICATE, repeated))
        bad |= repeated
    if bad.mean() > params.max_bad_share:
        worst = sorted(found, key=lambda reason_rows: -int(reason_rows[1].sum()))[:3]
        counts = "; ".join(f"{reason} ({rows.sum()} rows)" for reason, rows in worst)
        problem = f"{bad.sum()} of {len(raw)} rows are bad, more than {params.max_bad_share:.0%}: {counts}"
        raise BatchRefused(batch, f"{problem}. Correct them where they come from")
    reasons = np.full(len(raw), "", dtype=object)
    for reason, rows in found:
        reasons[rows] = [f"{text}; {reason}" if text else reason for text in reasons[rows]]
    quarantine = raw[bad].assign(reason=pd.Series(reasons[bad], dtype="str", index=raw.index[bad]))
    good = frame[~bad].reset_index(drop=True) if bad.any() else frame
    return good, quarantine.reset_index(drop=True)


def _check_column(texts: pd.Series[Any], column: Column) -> tuple[Any, list[tuple[str, NDArray[np.bool_]]]]:
    if column.kind is Kind.ID and (ids := _all_good_ids(texts)) is not None:
        return ids, []
    codes, distinct = codes_of(texts)
    values = [_value(text, column) for text in distinct]
    # A missing value has the code -1, which finds the last problem.
    missing = codes.min(initial=0) < 0
    problems = [*(column.problem(value) for value in values), column.problem(None) if missing else None]
    found = []
    for problem in dict.fromkeys(filter(None, problems)):
        rows = np.array([other == problem for other in problems])[codes]
        if rows.any():
            found.append((f"{column.name} {problem}", rows))
    match column.kind:
        case Kind.ID | Kind.COUNT:
            numbers = [0 if problem else value for value, problem in zip([*values, 0], problems, strict=True)]
            return np.array(numbers, dtype=np.int64)[codes], found
        case Kind.CODE:
            return texts, found
        case _:
            # What is not allowed becomes missing, in a row that is bad anyway.
            position = {value: number for number, value in enumerate(column.allowed)}
            # No column of the contract allows more than 127 values.
            positions = np.array([*(position.get(text, -1) for text in distinct), -1], dtype=np.int8)[codes]
            return pd.Categorical.from_codes(positions, dtype=_categories(column.allowed), validate=False), found


def _all_good_ids(texts: pd.Series[Any]) -> NDArray[np.int64] | None:
    """The numbers of a column of ids, at the speed of Arrow, which reads just what `_value` does; None where any is bad.

    Ids are nearly all distinct, so that looking at each distinct one would take longer than everything else.
    """
    try:
        ids: NDArray[np.int64] = arrow.array(texts).cast(arrow.int64()).to_numpy()
    except arrow.ArrowInvalid:
        return None
    return ids if (ids > 0).all() else None


def _value(text: str, column: Column) -> str | int:
    return int(text) if column.kind in (Kind.ID, Kind.COUNT) and _WHOLE_NUMBER.fullmatch(text) else text
