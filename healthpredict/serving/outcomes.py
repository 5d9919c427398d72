"""The endpoint for outcomes of encounters."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final, Literal

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from healthpredict.data.contract import BY_FIELD, LARGEST_ID
from healthpredict.errors import StorageError
from healthpredict.prediction_log.writer import PredictionLog
from healthpredict.serving import openapi
from healthpredict.serving.predictions import new_request_id
from healthpredict.serving.problems import GIVEN_TWICE, JSON, RETRY_LATER, FieldProblem, ProblemError, counted
from healthpredict.serving.request import read_body, read_list
from healthpredict.serving.service import Service

_COLUMNS: Final = (BY_FIELD["encounter_id"], BY_FIELD["readmitted"])
_ENCOUNTER, _READMITTED = _COLUMNS
_FIELDS: Final = {column.field for column in _COLUMNS}


class Outcome(BaseModel):
    """The outcome of one encounter."""

    model_config = ConfigDict(extra="forbid")

    encounter_id: int = Field(strict=True, ge=1, le=LARGEST_ID, description=_ENCOUNTER.description)
    readmitted: Literal[*_READMITTED.allowed] = Field(description=_READMITTED.description)  # type: ignore[valid-type]


class Outcomes(BaseModel):
    """Outcomes of encounters. If there are several for one encounter, the last one counts."""

    model_config = ConfigDict(extra="forbid")

    outcomes: list[Outcome] = Field(min_length=1)


class Recorded(BaseModel):
    """The response when the outcomes are on the disk.

    Attributes:
        recorded: outcomes.
        request_id: new for every request.
    """

    recorded: int
    request_id: str


def add_outcomes(router: APIRouter, service: Service, log: PredictionLog) -> None:
    """Add the endpoint for outcomes."""
    limits = service.limits
    schema = openapi.inlined(Outcomes.model_json_schema())
    schema["properties"]["outcomes"]["maxItems"] = limits.batch_rows

    @router.post(
        "/outcomes",
        summary="Outcomes of encounters",
        response_model=Recorded,
        responses={
            **openapi.OF_ANY_BODY,
            413: openapi.problem("The body is too long, or has too many outcomes"),
            422: openapi.problem("The body is not a list of outcomes; nothing was recorded"),
            503: openapi.problem("Too many requests, or the outcomes cannot be written", headers=openapi.RETRY),
        },
        openapi_extra=openapi.request_body(schema, {"outcomes": [{"encounter_id": 4711, "readmitted": "NO"}]}),
    )
    async def outcomes(request: Request) -> Response:
        body = await read_body(request, limits.outcomes_body_bytes, limits.body_seconds)
        try:
            # Reading is in the thread too, because ten thousand outcomes take as long as a hundred predictions.
            recorded = await asyncio.to_thread(record_outcomes, log, body, limits.batch_rows)
        except StorageError as error:
            raise ProblemError(503, str(error), headers=RETRY_LATER) from error
        answered = {"recorded": recorded, "request_id": new_request_id()}
        return Response(msgspec.json.encode(answered), media_type=JSON)


def record_outcomes(log: PredictionLog, body: bytes, at_most: int) -> int:
    """Log the outcomes of a body, all or none, and return their number.

    Raises:
        ProblemError: not JSON (400), not outcomes (422), or too many (413).
        StorageError: they are not written, or may not be on the disk.
    """
    sent = read_list(body, "outcomes", at_most)
    problems = [problem for i, outcome in enumerate(sent) for problem in _problems(f"outcomes.{i}", outcome)]
    if problems or not sent:
        detail = f"The outcomes have {counted(problems)}" if sent else "There are no outcomes"
        raise ProblemError(422, f"{detail}; nothing was recorded.", problems)
    log.add_outcomes([dict(outcome) for outcome in sent])
    return len(sent)


def _problems(place: str, outcome: Any) -> Iterator[FieldProblem]:
    """Yield what is wrong with an outcome, without its values."""
    if not isinstance(outcome, tuple):
        yield FieldProblem(field=place, problem="is not an object")
        return
    values = dict(outcome)
    names = [name for name, _ in outcome]
    for column in _COLUMNS:
        twice = names.count(column.field) > 1
        value = values.get(column.field)
        missing = value is None or (isinstance(value, str) and column.is_missing(value))
        problem = GIVEN_TWICE if twice else column.problem(None if missing else value)
        if problem and missing and column is _READMITTED:
            problem += ": leave the encounter out until its outcome is known"
        if problem:
            yield FieldProblem(field=f"{place}.{column.field}", problem=problem)
    if not values.keys() <= _FIELDS:
        yield FieldProblem(field=place, problem="has a field that an outcome does not have")
