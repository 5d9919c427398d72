"""The API around one bundle."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from uuid import uuid4

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from healthpredict.bundle.manifest import Manifest
from healthpredict.bundle.model import TOLERANCE, Bundle
from healthpredict.serving.encounter import Encounter, as_sent, read_encounter
from healthpredict.serving.problems import Problem, Refused, problem_response


class Prediction(BaseModel):
    """The answer for one encounter.

    Attributes:
        readmission_risk: calibrated probability (0-1) of a readmission within 30 days, or of any, as `/model` says.
        high_risk: whether the risk is at or above the threshold.
        threshold: of this model version (0-1).
        model_version: in the registry.
        bundle_digest: sha256 that names everything the prediction was made with.
        request_id: new for every request.
    """

    model_config = ConfigDict(protected_namespaces=())

    readmission_risk: float
    high_risk: bool
    threshold: float
    model_version: int
    bundle_digest: str
    request_id: str


class ServedModel(Manifest):
    """The manifest of the bundle, and the digest that names it."""

    bundle_digest: str


class Health(BaseModel):
    """That the service is well."""

    status: str = "ok"


def create_app(bundle: Bundle) -> FastAPI:
    """Make the API.

    Args:
        bundle: loaded. It is replaceable while the service runs: handlers read `app.state.bundle`.

    Raises:
        BundleError: the bundle does not reproduce its golden rows.
    """
    bundle.verify()
    app = FastAPI(
        title="Health Predict",
        description="The risk that a patient with diabetes is readmitted, known at discharge.",
        version="1",
    )
    app.state.bundle = bundle
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _client_left)
    app.add_exception_handler(Exception, _failed)

    @app.post("/predict", summary="The risk for one encounter", **_predict_documentation(bundle))
    async def predict(request: Request) -> Response:
        record = read_encounter(await request.body())
        return Response(_predict(app.state.bundle, record).model_dump_json(), media_type="application/json")

    @app.get("/model", summary="What is served: version, evaluation, origin")
    async def model() -> ServedModel:
        served: Bundle = app.state.bundle
        return ServedModel(bundle_digest=served.digest, **served.manifest.model_dump())

    @app.get("/health/live", summary="The process answers")
    async def live() -> Health:
        return Health()

    @app.get("/health", include_in_schema=False)
    @app.get(
        "/health/ready", summary="The model predicts as it was trained to", responses={503: _problem_documentation()}
    )
    async def ready() -> Health:
        served: Bundle = app.state.bundle
        row = served.golden[0]
        if not abs(served.risk(row.record) - row.risk) <= TOLERANCE:
            raise Refused(503, "The model does not reproduce its golden row.")
        return Health()

    return app


def _predict(bundle: Bundle, record: dict[str, Any]) -> Prediction:
    risk, threshold = bundle.risk(record), bundle.manifest.threshold
    return Prediction(
        readmission_risk=risk,
        high_risk=risk >= threshold,
        threshold=threshold,
        model_version=bundle.manifest.model_version,
        bundle_digest=bundle.digest,
        request_id=str(uuid4()),
    )


def _problem_documentation() -> dict[str, Any]:
    schema = Problem.model_json_schema()
    # In OpenAPI a reference starts at the whole document, not at this schema.
    schema["properties"]["errors"]["items"] = schema.pop("$defs")["FieldProblem"]
    return {"content": {"application/problem+json": {"schema": schema}}}


def _predict_documentation(bundle: Bundle) -> dict[str, Any]:
    """The body is read as bytes, so its schema is given to OpenAPI here, with a real row and its real answer."""
    record = next((r.record for r in bundle.golden if None not in r.record.values()), bundle.golden[0].record)
    body = {"schema": Encounter.model_json_schema(), "example": as_sent(record)}
    answer = {"application/json": {"example": _predict(bundle, record).model_dump()}}
    return {
        "response_model": Prediction,
        "responses": {
            200: {"content": answer},
            400: {"description": "The body is not JSON", **_problem_documentation()},
            422: {
                "description": "The encounter breaks the contract, or ended in death or hospice",
                **_problem_documentation(),
            },
        },
        "openapi_extra": {"requestBody": {"required": True, "content": {"application/json": body}}},
    }


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return problem_response(error.problem)


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = problem_response(Refused(error.status_code, f"{error.detail}. /docs lists what can be asked.").problem)
    response.headers.update(error.headers or {})
    return response


async def _client_left(_request: Request, _error: Exception) -> Response:
    return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody reads it


async def _failed(_request: Request, _error: Exception) -> Response:
    response = problem_response(Refused(500, "The service failed. Its log says where.").problem)
    response.headers["connection"] = "close"  # uvicorn closes it after a fault: the client must not use it again
    return response
