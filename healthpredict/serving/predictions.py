"""Predict for one encounter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict

from healthpredict.bundle.model import Bundle
from healthpredict.features.encoder import Value
from healthpredict.serving import openapi
from healthpredict.serving.encounter import Encounter, as_sent, read_encounter
from healthpredict.serving.problems import JSON, ProblemError
from healthpredict.serving.request import is_dry_run, read_body, read_json
from healthpredict.serving.service import Service

_random: Final = Random()  # noqa: S311 -- a request id is not secret, and `uuid4` needs a system call each time
RESPONSES: Final[openapi.Responses] = {
    **openapi.OF_ANY_BODY,
    413: openapi.problem("The body is too long"),
    422: openapi.problem("The encounter breaks the contract, or ended in death or hospice; or X-Dry-Run is wrong"),
    503: openapi.BUSY,
}
"""The error responses to one encounter."""
Answer = Callable[[Bundle, Mapping[str, Value]], dict[str, Any]]
"""Takes a bundle and a record by `Column.field`, and returns the fields of the response, without those of `identity`."""


class Identified(BaseModel):
    """Which model made a prediction, for which request.

    Attributes:
        threshold: risk (0-1) from which this model version calls a risk high.
        model_version: in the registry.
        bundle_digest: SHA-256 of the bundle, which contains everything that a prediction needs.
        request_id: new for every request, 32 hexadecimal digits.
    """

    model_config = ConfigDict(protected_namespaces=())

    threshold: float
    model_version: int
    bundle_digest: str
    request_id: str


class Prediction(Identified):
    """The response to one encounter.

    Attributes:
        readmission_risk: calibrated probability (0-1) of the `outcome` that `/model` names: a readmission within 30 days, or any.
        high_risk: whether the encounter is flagged: its risk is at or above the threshold, and the flag is not held back. Null
            while the service is silent.
    """

    readmission_risk: float
    high_risk: bool | None


def add_prediction(router: APIRouter, service: Service) -> None:
    """Add the endpoint for the risk of one encounter."""
    example = predict_one(service.bundle, example_record(service.bundle)) | identity(service.bundle)

    @router.post(
        "/predict",
        summary="The risk for one encounter",
        response_model=Prediction,
        responses={200: openapi.response_example(example), **RESPONSES},
        openapi_extra=body_of_one(service.bundle),
    )
    async def predict(request: Request) -> Response:
        return await respond(request, service, predict_one)


async def respond(request: Request, service: Service, answer: Answer) -> Response:
    """Answer a request with one encounter, and log the prediction.

    Raises:
        ProblemError: the body or the header X-Dry-Run cannot be used (400, 408, 413, 422).
    """
    body = await read_body(request, service.limits.body_bytes, service.limits.body_seconds)
    try:
        dry_run = is_dry_run(request)
        record = read_encounter(read_json(body))
    except ProblemError as error:
        service.metrics.rejected(error.problem)
        raise
    bundle = service.bundle
    prediction = service.issue(bundle, answer(bundle, record), record["encounter_id"])
    answered = prediction | identity(bundle)
    service.metrics.predicted(answered["readmission_risk"])
    service.log_prediction(request.scope["path"], dry_run, answered, record.values())
    return Response(msgspec.json.encode(answered), media_type=JSON)


def predict_one(bundle: Bundle, record: Mapping[str, Value]) -> dict[str, Any]:
    """Predict for one encounter."""
    return classified(bundle, bundle.risk(record))


def classified(bundle: Bundle, risk: float) -> dict[str, Any]:
    """Return a risk, and whether it is high."""
    return {"readmission_risk": risk, "high_risk": risk >= bundle.manifest.threshold}


def identity(bundle: Bundle) -> dict[str, Any]:
    """Return the fields of an `Identified` for a new request."""
    return model_of(bundle) | {"request_id": new_request_id()}


def model_of(bundle: Bundle) -> dict[str, Any]:
    """Return the fields of an `Identified` that name the model."""
    return {
        "threshold": bundle.manifest.threshold,
        "model_version": bundle.manifest.model_version,
        "bundle_digest": bundle.digest,
    }


def new_request_id() -> str:
    """Return a request id."""
    return f"{_random.getrandbits(128):032x}"


def body_of_one(bundle: Bundle) -> dict[str, Any]:
    """Describe a request with one encounter."""
    body = openapi.request_body(Encounter.model_json_schema(), as_sent(example_record(bundle)))
    return body | {"parameters": [openapi.DRY_RUN]}


def example_record(bundle: Bundle) -> dict[str, Value]:
    """Return a golden row as an example for the documentation, without missing values if there is such a row."""
    return next((row.record for row in bundle.golden if None not in row.record.values()), bundle.golden[0].record)
