"""The API around one bundle."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from time import time_ns
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Route

from healthpredict.bundle.manifest import Manifest
from healthpredict.bundle.model import TOLERANCE, Bundle
from healthpredict.features.encoder import Value
from healthpredict.serving.answers import identity
from healthpredict.serving.batch import BATCH, Note, predict_batch
from healthpredict.serving.documentation import (
    batch_documentation,
    explain_documentation,
    outcomes_documentation,
    predict_documentation,
    reload_documentation,
    with_keys,
    with_whole_limits,
)
from healthpredict.serving.door import RETRY_SECONDS, Answer, Door, Judge
from healthpredict.serving.encounter import read_encounter, record_of
from healthpredict.serving.keys import KeyRing
from healthpredict.serving.limits import DRY_RUN, Headers, Limits, Receive, Scope, Send, by_name, is_dry_run, read_body
from healthpredict.serving.metrics import CONTENT_TYPE, Metrics
from healthpredict.serving.outcomes import record_outcomes
from healthpredict.serving.prediction_log import PredictionLog
from healthpredict.serving.problems import Refused, failed, problem_documentation
from healthpredict.serving.reasons import explain
from healthpredict.serving.reload import Reloader, Source

_encode = msgspec.json.Encoder().encode


class ServedModel(Manifest):
    """The manifest of the bundle, and the digest that names it."""

    bundle_digest: str


class Health(BaseModel):
    """That the service is well."""

    status: str = "ok"


class Api(FastAPI):
    """FastAPI behind a door."""

    def __init__(
        self,
        bundle: Bundle,
        limits: Limits,
        *,
        keys: KeyRing | None,
        log: PredictionLog | None,
        source: Source | None,
        admin_keys: KeyRing | None,
    ) -> None:
        """See `create_app`."""
        super().__init__(
            title="Health Predict",
            description="The risk that a patient with diabetes is readmitted, known at discharge.",
            version="1",
            redoc_url=None,
        )
        self.state.bundle = bundle
        self._needs_keys = keys is not None
        self.add_exception_handler(Refused, _refused)
        self.add_exception_handler(HTTPException, _http_error)
        self.add_exception_handler(Exception, _failed)
        metrics = Metrics(log)
        judges = _judges(self, metrics, log)
        answers = _add_predictions(self, bundle, limits, metrics, judges)
        answers |= _add_batch(self, bundle, limits, metrics, log)
        if log is not None:
            answers |= _add_outcomes(self, limits, log)
        if source is not None:
            self.state.reloader = Reloader(self, source)
            if admin_keys is not None:
                answers |= _add_reload(self)
        _add_model(self, metrics)
        _add_health(self)
        metrics.endpoints = frozenset(route.path for route in self.routes if isinstance(route, Route))
        self._door = Door(super().__call__, answers, judges, metrics, limits, keys=keys, admin_keys=admin_keys)
        self.at_once = {path.encode(): partial(self._door.at_once, path) for path in judges}
        """For the connection, by path."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._door(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        document = super().openapi()
        with_keys(document, of_callers=self._needs_keys)
        with_whole_limits(document)
        return document


def create_app(
    bundle: Bundle,
    *,
    limits: Limits | None = None,
    keys: KeyRing | None = None,
    log: PredictionLog | None = None,
    source: Source | None = None,
    admin_keys: KeyRing | None = None,
) -> FastAPI:
    """Make the API.

    Args:
        bundle: loaded. It is replaceable while the service runs: handlers read `app.state.bundle`.
        limits: of callers; by default those of `Limits`.
        keys: that callers need; None where anyone who reaches the service may ask.
        log: where predictions and outcomes are noted; None for nowhere. The caller closes it.
        source: where `app.state.reloader` looks for another bundle; None where there is none to come.
        admin_keys: that those need who ask for a reload over HTTP; None where nobody may.

    Raises:
        BundleError: the bundle does not reproduce its golden rows.
    """
    bundle.verify()
    return Api(bundle, limits or Limits(), keys=keys, log=log, source=source, admin_keys=admin_keys)


def _judges(app: FastAPI, metrics: Metrics, log: PredictionLog | None) -> dict[str, Judge]:
    """By endpoint, what answers one encounter."""

    def answered(path: str, dry_run: bool, values: tuple[Value, ...], answer: dict[str, Any]) -> bytes:
        metrics.predicted(answer["readmission_risk"])
        if log is not None:
            log.add((time_ns(), path, dry_run, answer, values))
        return _encode(answer)

    def predict(headers: Headers, body: bytes) -> bytes:
        dry_run = DRY_RUN in headers and is_dry_run(headers)  # hardly ever: a call costs more than to look
        values = read_encounter(body)
        return answered("/predict", dry_run, values, _predict(app.state.bundle, record_of(values)))

    def explain_one(headers: Headers, body: bytes) -> bytes:
        dry_run = is_dry_run(headers)
        values = read_encounter(body)
        served: Bundle = app.state.bundle
        return answered("/explain", dry_run, values, explain(served, record_of(values)) | identity(served))

    return {"/predict": predict, "/explain": explain_one}


def _add_predictions(
    app: FastAPI, bundle: Bundle, limits: Limits, metrics: Metrics, judges: Mapping[str, Judge]
) -> dict[str, Answer]:
    """Add the endpoints for one encounter, and return what waits for it and answers."""

    def waiting(judge: Judge) -> Answer:
        async def answer(scope: Scope, receive: Receive) -> bytes:
            body = await read_body(scope, receive, limits.body_bytes, limits.body_seconds)
            try:
                return judge(by_name(scope["headers"]), body)
            except Refused as refused:
                metrics.refused(refused.problem)
                raise

        answer.__name__ = judge.__name__  # which names the operation in the documentation
        return answer

    record = _example(bundle)
    documentation = {
        "/predict": predict_documentation(record, _predict(bundle, record)),
        "/explain": explain_documentation(record, _example_of_reasons(bundle, record)),
    }
    answers = {path: waiting(judge) for path, judge in judges.items()}
    for path, answer in answers.items():
        _add_answer(app, path, answer, documentation[path])
    return answers


def _add_batch(
    app: FastAPI, bundle: Bundle, limits: Limits, metrics: Metrics, log: PredictionLog | None
) -> dict[str, Answer]:
    batches = 0

    async def batch(scope: Scope, receive: Receive) -> bytes:
        nonlocal batches
        if batches >= limits.batches:
            detail = f"{limits.batches} batches are being answered. Ask again."
            raise Refused(429, detail, headers={"retry-after": RETRY_SECONDS})
        dry_run = is_dry_run(by_name(scope["headers"]))
        batches += 1
        try:
            body = await read_body(scope, receive, limits.batch_body_bytes, limits.body_seconds)
            served: Bundle = app.state.bundle
            who = identity(served)
            note = None if log is None else Note(log, who, dry_run=dry_run)
            return _encode(await predict_batch(served, body, limits, metrics, note) | who)
        finally:
            batches -= 1

    record = _example(bundle)
    _add_answer(app, BATCH, batch, batch_documentation(record, _predict(bundle, record), limits))
    return {BATCH: batch}


def _add_outcomes(app: FastAPI, limits: Limits, log: PredictionLog) -> dict[str, Answer]:
    async def outcomes(scope: Scope, receive: Receive) -> bytes:
        body = await read_body(scope, receive, limits.outcomes_body_bytes, limits.body_seconds)
        return _encode(await record_outcomes(log, body, limits))

    _add_answer(app, "/outcomes", outcomes, outcomes_documentation(limits))
    return {"/outcomes": outcomes}


def _add_reload(app: FastAPI) -> dict[str, Answer]:
    async def reload(_scope: Scope, _receive: Receive) -> bytes:
        return _encode(await app.state.reloader.reload())

    _add_answer(app, "/admin/reload", reload, reload_documentation())
    return {"/admin/reload": reload}


def _add_answer(app: FastAPI, path: str, answer: Answer, documentation: dict[str, Any]) -> None:
    """Add an endpoint that the door answers: FastAPI documents it, and knows which methods it has."""

    async def endpoint(request: Request) -> Response:
        return Response(await answer(request.scope, request.receive), media_type="application/json")

    app.post(path, name=answer.__name__, **documentation)(endpoint)


def _add_model(app: FastAPI, metrics: Metrics) -> None:
    @app.get("/model", summary="What is served: version, evaluation, origin")
    async def model() -> ServedModel:
        served: Bundle = app.state.bundle
        return ServedModel(bundle_digest=served.digest, **served.manifest.model_dump())

    @app.get(
        "/metrics",
        summary="What the service counted, for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def numbers() -> Response:
        served: Bundle = app.state.bundle
        labels = {"version": str(served.manifest.model_version), "digest": served.digest}
        return Response(metrics.render(labels), media_type=CONTENT_TYPE)


def _add_health(app: FastAPI) -> None:
    @app.get("/health/live", summary="The process answers")
    async def live() -> Health:
        return Health()

    @app.get("/health", include_in_schema=False)
    @app.get(
        "/health/ready",
        summary="The model predicts as it was trained to",
        responses={503: problem_documentation("It does not")},
    )
    async def ready() -> Health:
        served: Bundle = app.state.bundle
        row = served.golden[0]
        if not abs(served.risk(row.record) - row.risk) <= TOLERANCE:
            raise Refused(503, "The model does not reproduce its golden row.")
        return Health()


def _predict(bundle: Bundle, record: dict[str, Value]) -> dict[str, Any]:
    """The fields of a `Prediction`."""
    risk = bundle.risk(record)
    return {"readmission_risk": risk, "high_risk": risk >= bundle.manifest.threshold, **identity(bundle)}


def _example(bundle: Bundle) -> dict[str, Value]:
    """For the documentation: an encounter that nobody had, as complete as there is one."""
    return next((row.record for row in bundle.golden if None not in row.record.values()), bundle.golden[0].record)


def _example_of_reasons(bundle: Bundle, record: dict[str, Value]) -> dict[str, Any] | None:
    return None if bundle.explainer is None else explain(bundle, record) | identity(bundle)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return error.response()


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = f"{error.detail}. /docs lists what can be asked."
    return Refused(error.status_code, detail, headers=error.headers).response()


async def _failed(_request: Request, _error: Exception) -> Response:
    return failed().response()
