"""What became of encounters, as callers report it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from os import urandom
from typing import Any, Final, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from healthpredict.data.contract import BY_FIELD
from healthpredict.errors import StorageError
from healthpredict.serving.limits import Limits
from healthpredict.serving.prediction_log import PredictionLog
from healthpredict.serving.problems import FieldProblem, Refused

_COLUMNS: Final = (BY_FIELD["encounter_id"], BY_FIELD["readmitted"])
_ENCOUNTER, _READMITTED = _COLUMNS


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


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    # Not `Outcomes`: Pydantic keeps half a kilobyte for every problem, and a body of nothing else has a million.
    outcomes: list[Any]


_decoder: Final = msgspec.json.Decoder(_Body)


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
    try:
        outcomes = _decoder.decode(body).outcomes
    except msgspec.ValidationError:
        raise Refused(422, 'The body is not one JSON object with the list "outcomes" and nothing else.') from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused(400, "The body is not JSON.") from None
    if len(outcomes) > at_most:
        raise Refused(413, f"There are {len(outcomes):,} outcomes, and {at_most:,} is the most. Send several requests.")
    problems = [problem for i, outcome in enumerate(outcomes) for problem in _problems(f"outcomes.{i}", outcome)]
    if problems or not outcomes:
        noun = "problem" if len(problems) == 1 else "problems"
        detail = f"The outcomes have {len(problems):,} {noun}" if outcomes else "There are no outcomes"
        raise Refused(422, f"{detail}; nothing was recorded.", problems)
    log.add_outcomes(outcomes)
    return len(outcomes)


def _problems(place: str, outcome: Any) -> Iterator[FieldProblem]:
    """What is wrong with an outcome, without its values."""
    if not isinstance(outcome, dict):
        yield FieldProblem(field=place, problem="is not an object")
        return
    for column in _COLUMNS:
        problem = column.problem(outcome.get(column.field))
        if problem:
            yield FieldProblem(field=f"{place}.{column.field}", problem=problem)
    if len(outcome) > sum(column.field in outcome for column in _COLUMNS):
        yield FieldProblem(field=place, problem="has a field that an outcome does not have")
