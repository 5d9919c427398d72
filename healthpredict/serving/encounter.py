"""Check one encounter of a request, and describe it for OpenAPI. Both are derived from the table of columns.

Names are accepted as in the data set and with underscores for hyphens. Every problem is listed, and no message repeats a value,
except a diagnosis code that its system does not have or that exists in both systems.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, create_model

from healthpredict.data.code_lists import accepted_pattern, accepted_value
from healthpredict.data.contract import (
    DEATH_OR_HOSPICE,
    DIAGNOSES,
    DIAGNOSIS_CODING,
    FEATURE_COLUMNS,
    LARGEST_ID,
    MISSING_WORDS,
    NOT_MEASURED,
    RECORD_COLUMNS,
    Column,
    Kind,
)
from healthpredict.data.diagnosis import read_diagnosis, unambiguous
from healthpredict.features.encoder import Value
from healthpredict.serving.problems import GIVEN_TWICE, FieldProblem, ProblemError, counted
from healthpredict.serving.request import not_json

_DISPOSITION: Final = "discharge_disposition_id"
_NOT_AT_RISK: Final = "ended in death or hospice: there is no readmission to predict"
_LONGEST_NAME_SHOWN: Final = 64
_BY_NAME: Final = {
    name: column for column in (*RECORD_COLUMNS, DIAGNOSIS_CODING) for name in (column.name, column.field)
}
_WORD_PATTERN: Final = "|".join(
    "".join(f"[{letter.upper()}{letter}]" if letter.isalpha() else re.escape(letter) for letter in word)
    for word in sorted(MISSING_WORDS)
)


def _is_optional(column: Column) -> bool:
    return column.nullable or column.kind is Kind.ID


def _type(column: Column) -> Any:
    """Return the type of a column in the documentation. A column that may be null may also have a word for missing."""
    accepted: Any
    match column.kind:
        case Kind.CATEGORY:
            accepted = Literal[*_categories(column)]
            if NOT_MEASURED in column.allowed:
                accepted |= _text(rf"\s*{NOT_MEASURED}\s*")
        case Kind.CODE:
            accepted = _text(f"({column.pattern})")
        case Kind.ID:
            accepted = Annotated[int, Field(strict=True, ge=1, le=LARGEST_ID)]
        case _:
            accepted = Annotated[int, Field(strict=True, ge=column.minimum, le=column.maximum)]
    if pattern := accepted_pattern(column.name):
        accepted |= _text(f"({pattern})")
    return accepted | _text(rf"\s*({_WORD_PATTERN})\s*") | None if _is_optional(column) else accepted


def _text(pattern: str) -> Any:
    return Annotated[str, Field(pattern=f"^{pattern}$")]


def _categories(column: Column) -> list[str]:
    # The codes of death and hospice are allowed in data, but not for a prediction.
    left_out = DEATH_OR_HOSPICE if column.field == _DISPOSITION else ()
    return [value for value in column.allowed if value not in left_out]


_COLUMNS: Final = tuple((column, frozenset(_categories(column))) for column in RECORD_COLUMNS)
"""Each column, and the values that are accepted without a further check."""

_RECORD_FIELDS: Final = tuple(column.field for column in RECORD_COLUMNS)


def _field(column: Column) -> tuple[Any, Any]:
    description = column.description + (". Not used for the prediction" if column.kind is Kind.ID else "")
    return _type(column), Field(
        default=None if _is_optional(column) else ..., alias=column.name, description=description
    )


_FIELDS: Final[dict[str, Any]] = {column.field: _field(column) for column in (*RECORD_COLUMNS, DIAGNOSIS_CODING)}
Encounter: Final = create_model(
    "Encounter",
    __doc__="One encounter at discharge, its fields named as in the data set, or with underscores for hyphens.",
    __config__=ConfigDict(extra="forbid", validate_by_name=True, validate_by_alias=True),
    **_FIELDS,
)
"""The schema of a request, for the documentation. An absent field, null and words for missing all mean missing."""


def read_encounter(sent: Any) -> tuple[Value, ...]:
    """Check one encounter and return its values.

    Args:
        sent: the encounter as `read_json` returns it.

    Returns:
        The values of `RECORD_COLUMNS`, in this order; None is missing.

    Raises:
        ProblemError: it is not an object, or fields break the contract; all of them are listed (422).
    """
    if not isinstance(sent, tuple):
        raise ProblemError(422, "The encounter is not one JSON object.")
    sent_as: dict[str, str] = {}
    record: dict[str, Any] = {}
    problems: dict[str, str] = {}
    unknown: list[str] = []
    for name, value in sent:
        column = _BY_NAME.get(name)
        if column is None:
            unknown.append(_shown(name))
        elif column.name in record:
            first = sent_as[column.name]
            problems[column.name] = GIVEN_TWICE if name == first else f"{GIVEN_TWICE}, as {first} and {name}"
        else:
            sent_as[column.name], record[column.name] = name, value
    coding, problem = _checked(DIAGNOSIS_CODING, record.get(DIAGNOSIS_CODING.name))
    if problem:
        problems.setdefault(DIAGNOSIS_CODING.name, problem)
        coding = None
    values: list[Value] = []
    for column, allowed in _COLUMNS:
        value = record.get(column.name)
        if not (isinstance(value, str) and value in allowed):
            value, problem = _checked(column, value)
            if column.name in DIAGNOSES and value is not None and problem is None:
                value, problem = _read_diagnosis(value, coding)
            if problem:
                problems.setdefault(column.name, problem)
        values.append(value)
    problems |= dict.fromkeys(unknown, "is not a field of an encounter")
    if problems:
        listed = [FieldProblem(field=field, problem=problem) for field, problem in problems.items()]
        raise ProblemError(422, f"The encounter has {counted(listed)}.", listed)
    return tuple(values)


def record_of(values: tuple[Value, ...]) -> dict[str, Value]:
    """Return the values of `read_encounter` by `Column.field`."""
    return dict(zip(_RECORD_FIELDS, values, strict=True))


def _shown(name: str) -> str:
    try:
        return name[:_LONGEST_NAME_SHOWN].encode().decode()
    except UnicodeEncodeError:  # half of a surrogate pair is not a character
        raise not_json() from None


def _checked(column: Column, value: Any) -> tuple[Value, str | None]:
    """Return the value for the record, and its problem or None. As in files, spaces around words for missing are ignored."""
    if isinstance(value, str) and column.is_missing(value):
        value = None
    elif isinstance(value, str) and NOT_MEASURED in column.allowed and value.strip() == NOT_MEASURED:
        value = NOT_MEASURED
    elif isinstance(value, str):
        value = accepted_value(column.name, value)
    if value is None and _is_optional(column):
        return None, None
    if column.field == _DISPOSITION and isinstance(value, str) and value in DEATH_OR_HOSPICE:
        return None, _NOT_AT_RISK
    return value, column.problem(value)


def _read_diagnosis(value: Any, coding: Any) -> tuple[str | None, str | None]:
    """Return the canonical form of a code that matches the contract's pattern, and its problem; one of them is None."""
    code, problem = read_diagnosis(value, coding)
    return code, problem and f"is {value}, which {problem}"


def as_sent(record: Mapping[str, Value]) -> dict[str, Value]:
    """Return a record by `Column.field` as a caller sends it: fields named as in the data set, null for missing."""
    sent = {column.name: record.get(column.field) for column in FEATURE_COLUMNS}
    return sent | {name: unambiguous(code) for name in DIAGNOSES if isinstance(code := sent[name], str)}
