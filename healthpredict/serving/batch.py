"""Predict for many encounters in one request. Each is read and encoded like a single one; the model predicts all together."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import msgspec
import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from healthpredict.bundle.model import Bundle
from healthpredict.features.encoder import Value
from healthpredict.serving import openapi
from healthpredict.serving.encounter import Encounter, as_sent, read_encounter
from healthpredict.serving.predictions import Identified, classified, example_record, identity, predict_one
from healthpredict.serving.problems import JSON, RETRY_LATER, RETRY_SOON, Problem, ProblemError
from healthpredict.serving.request import discard_body, is_dry_run, read_body, read_list
from healthpredict.serving.service import Service

_PATH: Final = "/predict/batch"
_MAX_COMMAS_PER_ROW: Final = 2 * len(Encounter.model_fields)
_ROWS_AT_ONCE: Final = 50
"""Encounters between two event loop iterations, in which other requests are handled: about a millisecond."""


class RowResult(BaseModel):
    """The result for one encounter of a batch: a risk, or a problem.

    Attributes:
        readmission_risk: as in `Prediction`; null if there is a problem.
        high_risk: as in `Prediction`; null also if there is a problem.
        problem: why there is no risk; null if there is one.
    """

    readmission_risk: float | None
    high_risk: bool | None
    problem: Problem | None


class BatchPrediction(Identified):
    """The response to a batch.

    Attributes:
        results: in the order of the encounters, one for each.
        predicted: encounters with a risk.
        refused: encounters with a problem.
    """

    results: list[RowResult]
    predicted: int
    refused: int


def add_batch(router: APIRouter, service: Service) -> None:
    """Add the endpoint for many encounters."""
    limits = service.limits
    slots = asyncio.Semaphore(limits.batches)
    record = example_record(service.bundle)
    row = predict_one(service.bundle, record) | {"problem": None}
    body_documentation = openapi.request_body(_schema(limits.batch_rows), {"encounters": [as_sent(record)]})

    @router.post(
        _PATH,
        summary=f"The risks for up to {limits.batch_rows:,} encounters",
        response_model=BatchPrediction,
        responses={
            200: openapi.response_example(_response_fields([row], 1) | identity(service.bundle)),
            **openapi.OF_ANY_BODY,
            413: openapi.problem("The body is too long, or has too many encounters"),
            422: openapi.problem("The body is not a batch, or X-Dry-Run is wrong"),
            429: openapi.problem("Too many batches are being answered", headers=openapi.RETRY),
            503: openapi.BUSY,
        },
        openapi_extra=body_documentation | {"parameters": [openapi.DRY_RUN]},
    )
    async def predict_many(request: Request) -> Response:
        if slots.locked():
            await discard_body(request.scope, request.receive, limits.body_seconds)
            raise ProblemError(429, f"{limits.batches} batches are being answered. Ask again.", headers=RETRY_SOON)
        # The time limit cancels nothing here: a thread cannot be cancelled, and would continue after its slot is free.
        async with slots:
            body = await read_body(request, limits.batch_body_bytes, limits.body_seconds)
            dry_run = is_dry_run(request)
            bundle = service.bundle
            results, encounters = await _predict_batch(service, bundle, body)
            identified = identity(bundle)
            await _log_batch(service, dry_run, identified, results, encounters)
            predicted = len(results) - encounters.count(None)
            answered = _response_fields(results, predicted) | identified
            return Response(msgspec.json.encode(answered), media_type=JSON)


def _schema(rows: int) -> dict[str, Any]:
    """Return the JSON schema of a request with up to `rows` encounters."""
    encounters = {"type": "array", "maxItems": rows, "items": Encounter.model_json_schema()}
    return {
        "type": "object",
        "title": "Batch",
        "description": "Encounters at discharge. Each has a result of its own: a risk, or a problem.",
        "properties": {"encounters": encounters},
        "required": ["encounters"],
        "additionalProperties": False,
    }


def _response_fields(results: list[dict[str, Any]], predicted: int) -> dict[str, Any]:
    return {"results": results, "predicted": predicted, "refused": len(results) - predicted}


def read_batch(body: bytes, at_most: int) -> list[Any]:
    """Decode a batch of at most so many encounters, each for `read_encounter`.

    Raises:
        ProblemError: not JSON (400), not a batch (422), or too many encounters (413).
    """
    if body.count(b",") > at_most * _MAX_COMMAS_PER_ROW:  # decoding millions of tiny rows would take a gigabyte
        raise ProblemError(
            413, f"There are too many values: {at_most:,} encounters is the most. Send several requests."
        )
    return read_list(body, "encounters", at_most)


async def _predict_batch(
    service: Service, bundle: Bundle, body: bytes
) -> tuple[list[dict[str, Any]], list[tuple[Value, ...] | None]]:
    """Predict for the encounters of a body.

    Returns:
        The fields of a `RowResult` for each row, and the values of each encounter, or None if it has a problem.

    Raises:
        ProblemError: not a batch (400, 422), too large (413), or not finished in time (503).
    """
    limits, metrics = service.limits, service.metrics
    deadline = time.monotonic() + limits.batch_seconds

    def check_time() -> None:
        if time.monotonic() > deadline:
            detail = (
                f"The batch was not finished within {limits.batch_seconds:g} seconds. Send it again, or smaller ones."
            )
            raise ProblemError(503, detail, headers=RETRY_LATER)

    # In a thread, because ten thousand encounters take as long as thousands of predictions.
    rows = await asyncio.to_thread(read_batch, body, limits.batch_rows)
    features = np.empty((len(rows), len(bundle.encoder.feature_names)), dtype=np.float32)
    results: list[dict[str, Any]] = []
    encounters: list[tuple[Value, ...] | None] = []
    good: list[int] = []
    for i, row in enumerate(rows):
        if i % _ROWS_AT_ONCE == 0:
            await asyncio.sleep(0)
            check_time()
        try:
            record = read_encounter(row)
        except ProblemError as error:
            metrics.rejected(error.problem)
            results.append({"readmission_risk": None, "high_risk": None, "problem": error.problem.model_dump()})
            encounters.append(None)
        else:
            features[len(good)] = bundle.encode(record)
            good.append(i)
            results.append({})
            encounters.append(tuple(record.values()))
    risks = (await asyncio.to_thread(bundle.risks, features[: len(good)])).tolist() if good else []
    check_time()
    for i, risk in zip(good, risks, strict=True):
        metrics.predicted(risk)
        encounter_id = (encounters[i] or (None,))[0]
        results[i] = service.issue(bundle, classified(bundle, risk), encounter_id) | {"problem": None}
    metrics.batch_done(predicted=len(good), refused=len(rows) - len(good))
    return results, encounters


async def _log_batch(
    service: Service,
    dry_run: bool,
    identified: dict[str, Any],
    results: list[dict[str, Any]],
    encounters: list[tuple[Value, ...] | None],
) -> None:
    """Log the predictions of a batch once all are made, so that a batch that fails and is sent again is logged once."""
    for i, (result, encounter) in enumerate(zip(results, encounters, strict=True)):
        if i % _ROWS_AT_ONCE == 0:
            await asyncio.sleep(0)
        if encounter is not None:
            service.log_prediction(_PATH, dry_run, result | identified, encounter)
