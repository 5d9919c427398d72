"""The endpoints that predict: one encounter, one encounter with its reasons, and many."""

from __future__ import annotations

from collections.abc import Callable
from time import time_ns
from typing import Any

from fastapi import APIRouter, Request, Response

from healthpredict.bundle.model import Bundle
from healthpredict.features.encoder import Value
from healthpredict.serving.admission import RETRY_SECONDS
from healthpredict.serving.answers import Prediction, classified, identity
from healthpredict.serving.batch import BATCH, BatchPrediction, Logged, batch_schema, predict_batch
from healthpredict.serving.encounter import Encounter, as_sent, read_encounter, record_of
from healthpredict.serving.json_body import read_json
from healthpredict.serving.limits import discard_body, read_body
from healthpredict.serving.problems import Refused, problem_documentation
from healthpredict.serving.reasons import Explained, explain
from healthpredict.serving.service import (
    BUSY,
    DRY_RUN,
    OF_ANY_BODY,
    RETRY,
    RawBodyRoute,
    Service,
    is_dry_run,
    json_response,
    request_body,
)

Answer = Callable[[Bundle, dict[str, Value]], dict[str, Any]]
"""From a bundle and a record, by `Column.field`, to the fields of a response that depend on them."""


def predictions_router(service: Service) -> APIRouter:
    """Return the endpoints that predict."""
    router = APIRouter(route_class=RawBodyRoute)
    record = _example(service.bundle)
    prediction = predict_one(service.bundle, record) | identity(service.bundle)
    _add_single_encounter(router, service, record, prediction)
    _add_batch(router, service, record, prediction)
    return router


def predict_one(bundle: Bundle, record: dict[str, Value]) -> dict[str, Any]:
    """Predict for one encounter."""
    return classified(bundle, bundle.risk(record))


def _add_single_encounter(
    router: APIRouter, service: Service, record: dict[str, Value], prediction: dict[str, Any]
) -> None:
    async def respond(request: Request, answer: Answer) -> Response:
        body = await read_body(request, service.limits.body_bytes, service.limits.body_seconds)
        try:
            dry_run = is_dry_run(request)
            values = read_encounter(read_json(body))
        except Refused as refused:
            service.metrics.refused(refused.problem)
            raise
        bundle = service.bundle
        answered = answer(bundle, record_of(values)) | identity(bundle)
        service.metrics.predicted(answered["readmission_risk"])
        if service.log is not None:
            service.log.add((time_ns(), request.scope["path"], dry_run, answered, values))
        return json_response(answered)

    responses: dict[int | str, dict[str, Any]] = {
        **OF_ANY_BODY,
        413: problem_documentation("The body is too long"),
        422: problem_documentation(
            "The encounter breaks the contract, or ended in death or hospice; or X-Dry-Run is wrong"
        ),
        503: BUSY,
    }
    body = request_body(Encounter.model_json_schema(), as_sent(record)) | {"parameters": [DRY_RUN]}

    @router.post(
        "/predict",
        summary="The risk for one encounter",
        response_model=Prediction,
        responses={200: _example_of(prediction), **responses},
        openapi_extra=body,
    )
    async def predict(request: Request) -> Response:
        return await respond(request, predict_one)

    explained = None if service.bundle.explainer is None else explain(service.bundle, record) | identity(service.bundle)

    @router.post(
        "/explain",
        summary="The risk for one encounter, and its reasons",
        response_model=Explained,
        responses={
            200: _example_of(explained),
            **responses,
            501: problem_documentation("The model version was built without explanations"),
        },
        openapi_extra=body,
    )
    async def explain_one(request: Request) -> Response:
        return await respond(request, explain)


def _add_batch(router: APIRouter, service: Service, record: dict[str, Value], prediction: dict[str, Any]) -> None:
    limits = service.limits
    batches = 0
    row = {name: prediction[name] for name in ("readmission_risk", "high_risk")} | {"problem": None}
    example = {"results": [row], "predicted": 1, "refused": 0}

    @router.post(
        BATCH,
        summary=f"The risks for up to {limits.batch_rows:,} encounters",
        response_model=BatchPrediction,
        responses={
            200: _example_of({name: (prediction | example)[name] for name in BatchPrediction.model_fields}),
            **OF_ANY_BODY,
            413: problem_documentation("The body is too long, or has too many encounters"),
            422: problem_documentation("The body is not a batch, or X-Dry-Run is wrong"),
            429: problem_documentation("Too many batches are being answered", headers=RETRY),
            503: BUSY,
        },
        openapi_extra=request_body(batch_schema(limits.batch_rows), {"encounters": [as_sent(record)]})
        | {"parameters": [DRY_RUN]},
    )
    async def predict_many(request: Request) -> Response:
        nonlocal batches
        if batches >= limits.batches:
            await discard_body(request.scope, request.receive, limits.body_seconds)
            detail = f"{limits.batches} batches are being answered. Ask again."
            raise Refused(429, detail, headers={"retry-after": RETRY_SECONDS})
        batches += 1
        try:
            body = await read_body(request, limits.batch_body_bytes, limits.body_seconds)
            dry_run = is_dry_run(request)
            bundle = service.bundle
            who = identity(bundle)
            logged = None if service.log is None else Logged(service.log, who, dry_run=dry_run)
            answered = await predict_batch(bundle, body, limits, service.metrics, logged)
            return json_response(answered | who)
        finally:
            batches -= 1


def _example(bundle: Bundle) -> dict[str, Value]:
    """Return a made-up encounter for the documentation, as complete as the bundle has one."""
    return next((row.record for row in bundle.golden if None not in row.record.values()), bundle.golden[0].record)


def _example_of(answer: dict[str, Any] | None) -> dict[str, Any]:
    return {"content": {"application/json": {} if answer is None else {"example": answer}}}
