"""What became of encounters, as callers report it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from os import urandom
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from healthpredict.data.contract import BY_FIELD
from healthpredict.errors import StorageError
from healthpredict.serving.json_body import read_json
from healthpredict.serving.limits import Limits
from healthpredict.serving.prediction_log import PredictionLog
from healthpredict.serving.problems import FieldProblem, Refused

_COLUMNS: Final = (BY_FIELD["encounter_id"], BY_FIELD["readmitted"])
_ENCOUNTER, _READMITTED = _COLUMNS
_FIELDS: Final = {column.field for column in _COLUMNS}


class Outcome(BaseModel):
    """What became of one encounter."""

    model_config = ConfigDict(extra="forbid")

    encounter_id: int = Field(strict=True, ge=1, le=2**63 - 1, description=_ENCOUNTER.description)
    readmitted: Literal[*_READMITTED.allowed] = Field(description=_READMITTED.description)  # type: ignore[valid-type]


class Outcomes(BaseModel):
    """Outcomes of encounters; of several for one encounter the last counts."""

    model_config = ConfigDict(extra="forbid")

    outcomes: list[Outcome] = Field(min_length=1)


class Recorded(BaseModel):
    """That the outcomes are on the disk.

    Attributes:
        recorded: outcomes.
        request_id: new for every request.
    """

    recorded: int
    request_id: str


async def record_outcomes(log: PredictionLog, body: bytes, limits: Limits) -> dict[str, Any]:
    """Note outcomes, all or none, with the fields of a `Recorded`.

    Args:
        log: where to.
        body: JSON of `Outcomes`.
        limits: of callers.

    Raises:
        Refused: not JSON (400), not outcomes (422), too many (413), or they cannot be written (503).
    """
    try:
        # In a thread for the reading as well: ten thousand take as long as a hundred predictions.
        recorded = await asyncio.to_thread(_record, log, body, limits.batch_rows)
    except StorageError as error:
        raise Refused(503, str(error), headers={"retry-after": "5"}) from error
    return {"recorded": recorded, "request_id": urandom(16).hex()}


def _record(log: PredictionLog, body: bytes, at_most: int) -> int:
    sent = _read(body)
    if len(sent) > at_most:
        raise Refused(413, f"There are {len(sent):,} outcomes, and {at_most:,} is the most. Send several requests.")
    problems = [problem for i, outcome in enumerate(sent) for problem in _problems(f"outcomes.{i}", outcome)]
    if problems or not sent:
        noun = "problem" if len(problems) == 1 else "problems"
        detail = f"The outcomes have {len(problems):,} {noun}" if sent else "There are no outcomes"
        raise Refused(422, f"{detail}; nothing was recorded.", problems)
    log.add_outcomes([dict(outcome) for outcome in sent])
    return len(sent)


def _read(body: bytes) -> list[Any]:
    """The outcomes as they were sent: each object is a tuple of pairs."""
    sent = read_json(body)
    names = [name for name, _ in sent] if isinstance(sent, tuple) else []
    if names.count("outcomes") > 1:
        problem = FieldProblem(field="outcomes", problem="is given twice")
        raise Refused(422, "The list outcomes is given twice; nothing was recorded.", [problem])
    if names != ["outcomes"] or not isinstance(sent[0][1], list):
        raise Refused(422, 'The body is not one JSON object with the list "outcomes" and nothing else.')
    return sent[0][1]


def _problems(place: str, outcome: Any) -> Iterator[FieldProblem]:
    """What is wrong with an outcome, without its values."""
    if not isinstance(outcome, tuple):
        yield FieldProblem(field=place, problem="is not an object")
        return
    values = dict(outcome)
    names = [name for name, _ in outcome]
    for column in _COLUMNS:
        twice = names.count(column.field) > 1
        value = values.get(column.field)
        missing = value is None or (isinstance(value, str) and column.is_missing(value))
        problem = "is given twice" if twice else column.problem(None if missing else value)
        if problem and missing and column is _READMITTED:
            problem += ": leave the encounter out until its outcome is known"
        if problem:
            yield FieldProblem(field=f"{place}.{column.field}", problem=problem)
    if not values.keys() <= _FIELDS:
        yield FieldProblem(field=place, problem="has a field that an outcome does not have")
