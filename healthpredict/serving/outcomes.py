"""What became of encounters, as callers report it."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from healthpredict.data.contract import BY_FIELD
from healthpredict.errors import StorageError
from healthpredict.serving.limits import Limits
from healthpredict.serving.prediction_log import PredictionLog
from healthpredict.serving.problems import FieldProblem, Refused

_READMITTED: Final = BY_FIELD["readmitted"]
_PROBLEMS_SHOWN: Final = 100


class Outcome(BaseModel):
    """What became of one encounter."""

    model_config = ConfigDict(extra="forbid")

    encounter_id: int = Field(strict=True, ge=1, le=2**63 - 1, description=BY_FIELD["encounter_id"].description)
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
        outcomes = Outcomes.model_validate_json(body).outcomes
    except ValidationError as error:
        raise _refusal(error) from None  # the cause holds values
    if len(outcomes) > limits.batch_rows:
        raise Refused(413, f"There are more than {limits.batch_rows:,} outcomes. Send them in several requests.")
    try:
        await asyncio.to_thread(log.add_outcomes, [outcome.model_dump() for outcome in outcomes])
    except StorageError as error:
        raise Refused(503, str(error), headers={"retry-after": "5"}) from error
    return {"recorded": len(outcomes), "request_id": str(uuid4())}


def _refusal(error: ValidationError) -> Refused:
    problems = []
    for item in error.errors(include_url=False, include_context=False, include_input=False)[:_PROBLEMS_SHOWN]:
        if item["type"] == "json_invalid":
            return Refused(400, "The body is not JSON.")
        # Only names of ours: an unknown one may be anything.
        place = [str(part) for part in item["loc"] if isinstance(part, int) or part in ("outcomes", *BY_FIELD)]
        text = item["msg"] if item["type"] != "literal_error" else f"is not one of {', '.join(_READMITTED.allowed)}"
        problems.append(FieldProblem(field=".".join(place), problem=text))
    return Refused(422, "The body is not a list of outcomes; nothing was recorded.", problems)
