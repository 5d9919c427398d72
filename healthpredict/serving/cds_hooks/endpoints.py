"""CDS Hooks 2.0: an EHR asks for the risk of a patient who is being discharged, and shows it as a card."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request, Response

from healthpredict.cds_hooks_params import CDS_SERVICES, CdsHooksParams
from healthpredict.data.contract import DEATH_OR_HOSPICE, DISPOSITION
from healthpredict.errors import StorageError
from healthpredict.fhir.decode import Sent
from healthpredict.fhir.encounter import encounter_from_fhir
from healthpredict.serving import openapi
from healthpredict.serving.cds_hooks.card import Subject, make_card
from healthpredict.serving.cds_hooks.feedback import FeedbackBody, read_feedback
from healthpredict.serving.cds_hooks.fhir_server import FhirServerError, read_missing
from healthpredict.serving.cds_hooks.hook_request import (
    DISCHARGE,
    PATIENT_VIEW,
    PREFETCH,
    REQUIRED,
    AnyRequest,
    RawRequest,
    keys_with_errors,
    names_another_patient,
    read_hook_request,
)
from healthpredict.serving.predictions import identity
from healthpredict.serving.problems import JSON, RETRY_LATER, ProblemError
from healthpredict.serving.reasons import UNEXPLAINED, explain
from healthpredict.serving.request import is_dry_run, read_body
from healthpredict.serving.service import Service

SERVICE_ID: Final = "readmission-risk"
"""EHRs are configured with it, and the prediction log contains it: never rename it."""
PATH: Final = f"{CDS_SERVICES}/{SERVICE_ID}"
_NO_CARD: Final = "healthpredict.no-card-because"
"""Name of the extension of a response without a card, which says why."""


def add_cds_hooks(router: APIRouter, discovery: APIRouter, service: Service, params: CdsHooksParams) -> None:
    """Add the endpoints.

    Args:
        router: for calls and feedback; its routes are `RawBodyRoute`.
        discovery: for the list of services.
        service: see `Service`.
        params: see `CdsHooksParams`.
    """
    hooks = (DISCHARGE, PATIENT_VIEW) if params.patient_view else (DISCHARGE,)
    slots = asyncio.Semaphore(service.limits.hooks)

    @discovery.get(CDS_SERVICES, summary="CDS Hooks: the services of this API")
    async def services() -> dict[str, Any]:
        return {"services": [_described(hook, params) for hook in hooks]}

    @router.post(
        PATH,
        summary="CDS Hooks: a card with the risk of the patient",
        responses={
            **openapi.OF_ANY_BODY,
            412: openapi.problem("A prefetch key is missing, and there is no FHIR server to ask"),
            413: openapi.problem("The body is too long"),
            422: openapi.problem("The body is not a request of a hook that this service answers"),
            **UNEXPLAINED,
            503: openapi.BUSY,
        },
        openapi_extra=_documented(RawRequest, _CALL_EXAMPLE),
    )
    async def call(request: Request) -> Response:
        # Calls without a slot wait with their bodies unread, so that large bodies do not fill the memory.
        async with slots:
            body = await read_body(request, service.limits.hook_body_bytes, service.limits.body_seconds)
            dry_run = is_dry_run(request)
            hook_request = read_hook_request(body, hooks)
            answered = await _answer(hook_request, service, params, dry_run)
        return Response(msgspec.json.encode(answered), media_type=JSON)

    if service.log is None:
        return
    log = service.log

    @router.post(
        f"{PATH}/feedback",
        summary="CDS Hooks: what became of cards",
        responses={
            **openapi.OF_ANY_BODY,
            413: openapi.problem("The body is too long"),
            422: openapi.problem("The body is not feedback; nothing was recorded"),
            503: openapi.problem("Too many requests, or the feedback cannot be written", headers=openapi.RETRY),
        },
        openapi_extra=_documented(FeedbackBody, _FEEDBACK_EXAMPLE),
    )
    async def feedback(request: Request) -> Response:
        body = await read_body(request, service.limits.body_bytes, service.limits.body_seconds)
        lines = read_feedback(body, params)
        try:
            if lines:
                await asyncio.to_thread(log.add_feedback, lines)
        except StorageError as error:
            raise ProblemError(503, str(error), headers=RETRY_LATER) from error
        return Response(b"{}", media_type=JSON)


async def _answer(request: AnyRequest, service: Service, params: CdsHooksParams, dry_run: bool) -> dict[str, Any]:
    try:
        resources = await _resources(request, params)
    except FhirServerError as error:
        return _without_card(str(error))
    if keys := keys_with_errors(request):
        return _without_card(f"The EHR reported an error instead of {', '.join(keys)}.")
    if names_another_patient(request):
        return _without_card("The prefetched Patient is not the patient of the context.")
    found = encounter_from_fhir(resources, encounter_id=request.encounter_id, now=datetime.now(UTC))
    if found.record is None:
        return _without_card(" ".join(found.no_prediction))
    if found.record[DISPOSITION] in DEATH_OR_HOSPICE:
        return _without_card("The stay ends in death or hospice: there is no readmission to predict.")
    bundle = service.bundle
    explained = service.issue(bundle, explain(bundle, found.record), found.record["encounter_id"])
    identified = identity(bundle)
    service.metrics.predicted(explained["readmission_risk"])
    service.log_prediction(PATH, dry_run, explained | identified, found.record.values())
    if explained["high_risk"] is None:
        return _without_card("The service is silent: it predicts, and shows nothing.")
    if params.only_high_risk and not explained["high_risk"]:
        return _without_card("The encounter is not flagged, and the hospital shows only flagged ones.")
    # Before the discharge, no length of stay is final, so the card does not list it as unknown.
    unknown = [field for field in found.unknown if field != "time_in_hospital"]
    subject = Subject(request.patient_id, request.encounter_id, found.record, unknown)
    return {"cards": [make_card(subject, explained, bundle.manifest, params, uuid.UUID(identified["request_id"]))]}


async def _resources(request: AnyRequest, params: CdsHooksParams) -> list[Sent]:
    """Return the prefetched resources, and those that the EHR left out from its FHIR server.

    Raises:
        ProblemError: something is missing, and there is no FHIR server that may be asked (412).
        FhirServerError: the FHIR server did not send what a prediction needs; see `read_missing`.
    """
    given: list[Sent] = [sent for sent in request.prefetched.values() if sent is not None]
    missing = request.missing()
    required = [key for key in REQUIRED if key in missing]
    allowed = {server.rstrip("/") for server in params.fhir_servers}
    if missing and request.fhir_server is not None and request.fhir_server.rstrip("/") in allowed:
        try:
            return given + await read_missing(request, missing.values(), params.fhir_seconds)
        except FhirServerError:
            if required:
                raise
    elif required:
        raise ProblemError(
            412,
            f"The prefetch key {required[0]} is missing, and this service may not read from the FHIR server. "
            f"Prefetch {', '.join(required)}, or ask the hospital to allow the server.",
        )
    return given


def _documented(body: type[msgspec.Struct], example: dict[str, Any]) -> dict[str, Any]:
    return openapi.request_body(openapi.inlined(msgspec.json.schema(body)), example)


def _without_card(because: str) -> dict[str, Any]:
    return {"cards": [], "extension": {_NO_CARD: because}}


def _described(hook: str, params: CdsHooksParams) -> dict[str, Any]:
    return {
        "hook": hook,
        "id": SERVICE_ID,
        "title": "Risk of readmission of patients with diabetes",
        "description": "Shows the risk that a patient with diabetes is readmitted after discharge, and the reasons for it.",
        "prefetch": PREFETCH[hook],
        "usageRequirements": "Without the prefetched data, the service reads them from a FHIR R4 server on its allow-list."
        if params.fhir_servers
        else f"This service reads from no FHIR server, so it needs these prefetch keys: {', '.join(REQUIRED)}.",
    }


_CALL_EXAMPLE: Final[dict[str, Any]] = {
    "hook": DISCHARGE,
    "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
    "context": {"userId": "Practitioner/1", "patientId": "1", "encounterId": "2"},
    "prefetch": dict.fromkeys(PREFETCH[DISCHARGE]) | {"patient": {"resourceType": "Patient", "id": "1"}},
}
_FEEDBACK_EXAMPLE: Final[dict[str, Any]] = {
    "feedback": [
        {
            "card": "4e0a3a1e-3283-4575-ab82-028d55fe2719",
            "outcome": "overridden",
            "overrideReason": {"reason": {"code": "already-arranged"}},
            "outcomeTimestamp": "2026-01-31T10:05:31Z",
        }
    ]
}
