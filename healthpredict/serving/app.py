"""The API around one bundle."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request, Response, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from healthpredict.bundle.manifest import Manifest
from healthpredict.bundle.model import TOLERANCE, Bundle
from healthpredict.prediction_log.writer import PredictionLog
from healthpredict.serving.admission import ADMIN, SCRIPTS, Admission
from healthpredict.serving.keys import KeyRing
from healthpredict.serving.limits import Limits
from healthpredict.serving.metrics import CONTENT_TYPE, Metrics
from healthpredict.serving.outcomes import outcomes_router
from healthpredict.serving.predictions import predictions_router
from healthpredict.serving.problems import Refused, problem_documentation
from healthpredict.serving.reload import BundleSource, Reloaded, Reloader
from healthpredict.serving.service import BUSY, Service

_LARGEST_ID: Final = 2**63 - 1


class ServedModel(Manifest):
    """The manifest of the bundle, and the digest that names it."""

    bundle_digest: str


class Health(BaseModel):
    """That the service is well."""

    status: str = "ok"


def create_app(
    bundle: Bundle,
    *,
    limits: Limits | None = None,
    keys: KeyRing | None = None,
    log: PredictionLog | None = None,
    source: BundleSource | None = None,
    admin_keys: KeyRing | None = None,
) -> FastAPI:
    """Make the API.

    Args:
        bundle: loaded. A reload replaces it while the service runs: handlers read `app.state.bundle`.
        limits: of callers; by default those of `Limits`.
        keys: that callers need. Without them the service answers only programs on its own machine.
        log: where predictions and outcomes are logged. The caller closes it.
        source: where `app.state.reloader` looks for another bundle.
        admin_keys: needed to ask for a reload over HTTP. Without them there is no such endpoint.

    Raises:
        BundleError: the bundle does not reproduce its golden rows.
    """
    bundle.verify()
    app = FastAPIOffline(
        title="Health Predict",
        description="The risk that a patient with diabetes is readmitted, known at discharge.",
        version="1",
        redoc_url=None,
        static_url=SCRIPTS,
    )
    app.state.bundle = bundle
    app.state.draining = False
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    limits = limits or Limits()
    metrics = Metrics(lambda: app.state.bundle, log)
    service = Service(app.state, limits, metrics, log)
    of_callers = {} if keys is None else _needs("key", "Of a caller")
    routers = [(make(service), of_callers) for make in (predictions_router, outcomes_router, _model_router)]
    routers.append((_health_router(service), {}))
    if source is not None:
        app.state.reloader = Reloader(app, source)
        if admin_keys is not None:
            needs = _needs("admin_key", "Of an administrator, in a file of its own")
            routers.append((_admin_router(app.state.reloader), needs))
    for router, needs in routers:
        app.include_router(router, **needs)
        metrics.endpoints |= {route.path for route in router.routes if isinstance(route, APIRoute)}
    app.add_middleware(Admission, state=app.state, metrics=metrics, limits=limits, keys=keys, admin_keys=admin_keys)
    _document_whole_limits(app)
    return app


def _needs(scheme: str, whose: str) -> dict[str, Any]:
    """Return how a router is documented that needs a key; `Admission` is what checks it."""
    description = f"{whose}: `healthpredict keys add NAME` makes one"
    bearer = HTTPBearer(scheme_name=scheme, description=description, auto_error=False)
    refusal = problem_documentation(
        "No API key, or one that is not in force", headers={"WWW-Authenticate": "Always `Bearer`"}
    )
    return {"dependencies": [Security(bearer)], "responses": {401: refusal}}


def _model_router(service: Service) -> APIRouter:
    router = APIRouter()

    @router.get("/model", summary="What is served: version, evaluation, origin")
    async def model() -> ServedModel:
        return ServedModel(bundle_digest=service.bundle.digest, **service.bundle.manifest.model_dump())

    @router.get(
        "/metrics",
        summary="What the service counted, for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        return Response(service.metrics.render(), media_type=CONTENT_TYPE)

    return router


def _health_router(service: Service) -> APIRouter:
    router = APIRouter()

    @router.get("/health/live", summary="The process answers")
    async def live() -> Health:
        return Health()

    @router.get("/health", include_in_schema=False)
    @router.get(
        "/health/ready",
        summary="The model predicts as it was trained to",
        responses={503: problem_documentation("It does not")},
    )
    async def ready() -> Health:
        row = service.bundle.golden[0]
        if not abs(service.bundle.risk(row.record) - row.risk) <= TOLERANCE:
            raise Refused(503, "The model does not reproduce its golden row.")
        return Health()

    return router


def _admin_router(reloader: Reloader) -> APIRouter:
    router = APIRouter()

    @router.post(
        f"{ADMIN}reload",
        summary="Look at the source of the bundle again, and serve what is there once it is verified",
        responses={409: problem_documentation("The bundle was refused; the old one keeps answering"), 503: BUSY},
    )
    async def reload() -> Reloaded:
        return await reloader.reload()

    return router


def _document_whole_limits(app: FastAPI) -> None:
    """Keep the limits of whole numbers whole in the OpenAPI document: as a float, the largest identifier is one larger."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        _make_whole(document)
        return document

    app.openapi = openapi  # type: ignore[method-assign] # as FastAPI's documentation does


def _make_whole(node: Any) -> None:
    if isinstance(node, list):
        for inner in node:
            _make_whole(inner)
    elif isinstance(node, dict):
        for name, inner in node.items():
            if name in ("minimum", "maximum") and isinstance(inner, float) and inner.is_integer():
                node[name] = min(int(inner), _LARGEST_ID)
            else:
                _make_whole(inner)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return error.response()


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = f"{error.detail}. /docs lists the endpoints."
    return Refused(error.status_code, detail, headers=error.headers).response()
