"""Check one encounter of a request, and describe it for OpenAPI. Both are derived from the table of columns.

Names are accepted as in the data set and with underscores for hyphens. Every problem is listed, and no message repeats a value,
except a diagnosis code that its system does not have or that exists in both systems.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, create_model

from healthpredict.data.code_lists import accepted_pattern, accepted_value
from healthpredict.data.contract import (
    DEATH_OR_HOSPICE,
    DIAGNOSES,
    DIAGNOSIS_CODING,
    DISPOSITION,
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

_NOT_AT_RISK: Final = "ended in death or hospice: there is no readmission to predict"
_LONGEST_NAME_SHOWN: Final = 64
_SENT_COLUMNS: Final = (*RECORD_COLUMNS, DIAGNOSIS_CODING)
_FIELD_OF: Final = {name: column.field for column in _SENT_COLUMNS for name in (column.name, column.field)}
_NAME_OF: Final = {column.field: column.name for column in _SENT_COLUMNS}
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
    if pattern := accepted_pattern(column.name, without=_left_out(column)):
        accepted |= _text(f"({pattern})")
    return accepted | _text(rf"\s*({_WORD_PATTERN})\s*") | None if _is_optional(column) else accepted


def _text(pattern: str) -> Any:
    return Annotated[str, Field(pattern=f"^{pattern}$")]


def _categories(column: Column) -> list[str]:
    return [value for value in column.allowed if value not in _left_out(column)]


def _left_out(column: Column) -> tuple[str, ...]:
    """Return the values that are allowed in data, but not for a prediction: those of death and hospice."""
    return DEATH_OR_HOSPICE if column.field == DISPOSITION else ()


def _accepts(column: Column) -> Callable[[Any], Any]:
    """Return a fast check of a value of the right type. `_checked` decides about the values that it rejects."""
    match column.kind:
        case Kind.CATEGORY:
            return frozenset(_categories(column)).__contains__
        case Kind.CODE:
            return re.compile(rf"(?!({_WORD_PATTERN})\Z)({column.pattern})").fullmatch
        case Kind.ID:
            return range(1, LARGEST_ID + 1).__contains__
        case _:
            assert column.minimum is not None and column.maximum is not None
            return range(column.minimum, column.maximum + 1).__contains__


_CHECKS: Final = tuple(
    (column, column.field, int if column.kind in (Kind.ID, Kind.COUNT) else str, _accepts(column))
    for column in RECORD_COLUMNS
)


def _field(column: Column) -> tuple[Any, Any]:
    description = column.description + (". Not used for the prediction" if column.kind is Kind.ID else "")
    return _type(column), Field(
        default=None if _is_optional(column) else ..., alias=column.name, description=description
    )


_FIELDS: Final[dict[str, Any]] = {column.field: _field(column) for column in _SENT_COLUMNS}
Encounter: Final = create_model(
    "Encounter",
    __doc__="One encounter at discharge, its fields named as in the data set, or with underscores for hyphens.",
    __config__=ConfigDict(extra="forbid", validate_by_name=True, validate_by_alias=True),
    **_FIELDS,
)
"""The schema of a request, for the documentation. An absent field, null and words for missing all mean missing."""


def read_encounter(sent: Any) -> dict[str, Value]:
    """Check one encounter and return its values.

    Args:
        sent: the encounter as `read_json` returns it.

    Returns:
        The values by `Column.field`, in the order of `RECORD_COLUMNS`; None is missing.

    Raises:
        ProblemError: it is not an object, or fields break the contract; all of them are listed (422).
    """
    if not isinstance(sent, tuple):
        raise ProblemError(422, "The encounter is not one JSON object.")
    given = {_FIELD_OF.get(name): value for name, value in sent}
    problems: dict[str, str] = {}
    record: dict[str, Value] = {}
    for column, field, expected, accepts in _CHECKS:
        value = given.get(field)
        if type(value) is not expected or not accepts(value):
            value, problem = _checked(column, value)
            if problem:
                problems[column.name] = problem
        record[field] = value
    coding: Any = None
    if DIAGNOSIS_CODING.field in given:
        coding, problem = _checked(DIAGNOSIS_CODING, given[DIAGNOSIS_CODING.field])
        if problem:
            problems[DIAGNOSIS_CODING.name], coding = problem, None
    for name in DIAGNOSES:
        code: Any = record[name]
        if code is not None and name not in problems:
            record[name], problem = read_diagnosis(code, coding)
            if problem:
                problems[name] = f"is {code}, which {problem}"
    if len(given) < len(sent) or None in given:
        problems |= _problems_of_names(sent)
    if problems:
        listed = [FieldProblem(field=name, problem=problem) for name, problem in problems.items()]
        raise ProblemError(422, f"The encounter has {counted(listed)}.", listed)
    return record


def _problems_of_names(sent: Sequence[tuple[str, Any]]) -> dict[str, str]:
    """Return the problem of each field that is given twice or unknown."""
    names_by_field: dict[str | None, list[str]] = {}
    for name, _ in sent:
        names_by_field.setdefault(_FIELD_OF.get(name), []).append(name)
    unknown = dict.fromkeys(map(_shown, names_by_field.pop(None, ())), "is not a field of an encounter")
    twice = {
        _NAME_OF[field]: GIVEN_TWICE if names[0] == names[1] else f"{GIVEN_TWICE}, as {names[0]} and {names[1]}"
        for field, names in names_by_field.items()
        if field is not None and len(names) > 1
    }
    return twice | unknown


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
    if column.field == DISPOSITION and isinstance(value, str) and value in DEATH_OR_HOSPICE:
        return None, _NOT_AT_RISK
    return value, column.problem(value)


def as_sent(record: Mapping[str, Value]) -> dict[str, Value]:
    """Return a record by `Column.field` as a caller sends it: fields named as in the data set, null for missing."""
    sent = {column.name: record.get(column.field) for column in FEATURE_COLUMNS}
    return sent | {name: unambiguous(code) for name in DIAGNOSES if isinstance(code := sent[name], str)}
