"""The contract at the door: the model of a request, made from the table of columns.

msgspec reads what is right, and named as in the data set, in four microseconds. Everything else goes to Pydantic, which takes
twice as long, knows the other names as well and finds every problem; and for a refused one the contract itself says, column by
column, what is wrong. Property tests hold that all three agree. No message repeats a value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from operator import itemgetter
from typing import Annotated, Any, Final, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from healthpredict.data.contract import (
    COLUMNS,
    DEATH_OR_HOSPICE,
    FEATURE_COLUMNS,
    MISSING,
    RECORD_COLUMNS,
    Column,
    Kind,
)
from healthpredict.features.encoder import Value
from healthpredict.serving.problems import FieldProblem, Refused

_DISPOSITION: Final = "discharge_disposition_id"
_NOT_AT_RISK: Final = "ended in death or hospice: there is no readmission to predict"
_LONGEST_NAME_SHOWN: Final = 64
_BY_NAME: Final = {name: column for column in COLUMNS for name in (column.name, column.field)}
_nullable: Final = itemgetter(
    *(i for i, column in enumerate(RECORD_COLUMNS) if column.nullable or column.kind is Kind.ID)
)


def _type(column: Column) -> Any:
    """What pydantic accepts for a column; `?` stands for missing wherever null does."""
    optional = column.nullable or column.kind is Kind.ID
    missing = (MISSING, None) if optional else ()
    if column.kind is Kind.CATEGORY:
        # The codes of death and hospice are in the contract of the data, but not in that of a prediction.
        left_out = DEATH_OR_HOSPICE if column.field == _DISPOSITION else ()
        return Literal[*(value for value in column.allowed if value not in left_out), *missing]
    accepted: Any
    if column.kind is Kind.CODE:
        or_missing = f"|{re.escape(MISSING)}" if optional else ""
        accepted = Annotated[str, Field(pattern=f"^({column.pattern}{or_missing})$")]
        return accepted | None if optional else accepted
    low, high = (1, 2**63 - 1) if column.kind is Kind.ID else (column.minimum, column.maximum)
    accepted = Annotated[int, Field(strict=True, ge=low, le=high)]
    return accepted | Literal[MISSING] | None if optional else accepted


def _field(column: Column) -> tuple[Any, Any]:
    optional = column.nullable or column.kind is Kind.ID
    description = column.description + (". Not used for the prediction" if column.kind is Kind.ID else "")
    return _type(column), Field(default=None if optional else ..., alias=column.name, description=description)


class _ByEitherName(BaseModel):
    """One encounter at discharge, its fields named as in the data set, or with underscores for hyphens."""

    model_config = ConfigDict(extra="forbid", validate_by_name=True, validate_by_alias=True)


_FIELDS: Final[dict[str, Any]] = {column.field: _field(column) for column in RECORD_COLUMNS}
Encounter: Final = create_model("Encounter", __base__=_ByEitherName, __doc__=_ByEitherName.__doc__, **_FIELDS)
"""A request. Absent, null and `?` are missing; identifiers are welcome, so that a row can be sent as it is, and unused."""


def _quick_field(column: Column) -> tuple[Any, ...]:
    """A field as msgspec knows it: name, type and, where it may be absent, None."""
    optional = column.nullable or column.kind is Kind.ID
    accepted: Any
    if column.kind in (Kind.ID, Kind.COUNT):
        low, high = (1, 2**63 - 1) if column.kind is Kind.ID else (column.minimum, column.maximum)
        accepted = Annotated[int, msgspec.Meta(ge=low, le=high)]
        accepted = accepted | Literal[MISSING] | None if optional else accepted
    elif column.kind is Kind.CODE:
        # Python's regular expressions let a line break stand before `$`.
        accepted = Annotated[str, msgspec.Meta(pattern=rf"^({column.pattern}|{re.escape(MISSING)})\Z")] | None
        assert optional
    else:
        accepted = _type(column)
    return (column.field, accepted, None) if optional else (column.field, accepted)


_quick: Final = msgspec.json.Decoder(
    msgspec.defstruct(
        "QuickEncounter",
        [_quick_field(column) for column in RECORD_COLUMNS],
        rename={column.field: column.name for column in COLUMNS},
        forbid_unknown_fields=True,
        kw_only=True,
    )
)


def read_encounter(body: bytes) -> tuple[Value, ...]:
    """Read the body of a request.

    Args:
        body: one JSON object.

    Returns:
        values of `RECORD_COLUMNS`, in this order; None is missing.

    Raises:
        Refused: not JSON (400), or one or more fields break the contract (422), all of them listed.
    """
    try:
        values: tuple[Value, ...] = msgspec.structs.astuple(_quick.decode(body))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        values = _read_thoroughly(body)
    if MISSING in _nullable(values):
        return tuple([None if value == MISSING else value for value in values])
    return values


def record_of(values: tuple[Value, ...]) -> dict[str, Value]:
    """What `read_encounter` returned, by `Column.field`."""
    return dict(zip(_FIELDS, values, strict=True))


def _read_thoroughly(body: bytes) -> tuple[Value, ...]:
    try:
        return tuple(vars(Encounter.model_validate_json(body)).values())
    except ValidationError as error:
        raise _refusal(error) from None  # the cause holds values


def as_sent(record: Mapping[str, Value]) -> dict[str, Value]:
    """A record by `Column.field`, as a caller sends it: named as in the data set, with null for missing."""
    return {column.name: record.get(column.field) for column in FEATURE_COLUMNS}


def _refusal(error: ValidationError) -> Refused:
    problems: dict[str, str] = {}
    for item in error.errors(include_url=False, include_context=False):
        if not item["loc"]:
            if item["type"] == "json_invalid":
                return Refused(400, "The body is not JSON.")
            return Refused(422, "The body is not one JSON object.")
        name = str(item["loc"][0])
        column = _BY_NAME.get(name)
        if item["type"] == "extra_forbidden":
            repeated = column is not None and column.kind is not Kind.OUTCOME
            problems[name[:_LONGEST_NAME_SHOWN]] = "is given twice" if repeated else "is not a field of an encounter"
        elif column is not None:
            problems[column.name] = _problem(column, None if item["type"] == "missing" else item["input"])
    noun = "problem" if len(problems) == 1 else "problems"
    listed = [FieldProblem(field=field, problem=problem) for field, problem in problems.items()]
    return Refused(422, f"The encounter has {len(listed)} {noun}.", listed)


def _problem(column: Column, value: Any) -> str:
    if column.field == _DISPOSITION and value in DEATH_OR_HOSPICE:
        return _NOT_AT_RISK
    return column.problem(None if value == MISSING else value) or "breaks the contract"
