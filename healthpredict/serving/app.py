"""The API around one bundle."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute

from healthpredict.bundle.manifest import Manifest
from healthpredict.bundle.model import TOLERANCE, Bundle
from healthpredict.cds_hooks_params import CdsHooksParams
from healthpredict.prediction_log.writer import PredictionLog
from healthpredict.serving import openapi
from healthpredict.serving.admission import ADMIN, SCRIPTS, Admission
from healthpredict.serving.batch import add_batch
from healthpredict.serving.cds_hooks.endpoints import add_cds_hooks
from healthpredict.serving.cds_hooks.tokens import Tokens
from healthpredict.serving.hold_out import HoldOut
from healthpredict.serving.keys import KeyRing
from healthpredict.serving.limits import Limits
from healthpredict.serving.metrics import CONTENT_TYPE, Metrics
from healthpredict.serving.model_card import add_model_card
from healthpredict.serving.outcomes import add_outcomes
from healthpredict.serving.predictions import add_prediction
from healthpredict.serving.problems import ProblemError
from healthpredict.serving.reasons import add_explanation
from healthpredict.serving.reload import BundleSource, Reloaded, Reloader
from healthpredict.serving.service import RawBodyRoute, Service


class ServedModel(Manifest):
    """The manifest of the bundle, its digest, and whether the service is silent."""

    bundle_digest: str
    silent: bool


class Health(BaseModel):
    """The response if the check passed."""

    status: str = "ok"


def create_app(
    bundle: Bundle,
    *,
    limits: Limits | None = None,
    keys: KeyRing | None = None,
    log: PredictionLog | None = None,
    source: BundleSource | None = None,
    admin_keys: KeyRing | None = None,
    cds_hooks: CdsHooksParams | None = None,
    silent: bool = False,
    hold_out: HoldOut | None = None,
) -> FastAPI:
    """Make the API.

    Args:
        bundle: to serve until a reload replaces it.
        limits: limits of requests; by default, those of `Limits`.
        keys: keys of callers. Without them, the service answers only programs on its own machine.
        log: log of predictions and outcomes. The caller closes it.
        source: source from which `app.state.reloader` fetches another bundle. Without it, the reloader is None.
        admin_keys: keys for the endpoint that reloads the bundle. Without them, that endpoint does not exist.
        cds_hooks: parameters of CDS Hooks; by default, those of `CdsHooksParams`.
        silent: see `Service`.
        hold_out: see `Service`.

    Raises:
        BundleError: the bundle does not reproduce its golden rows.
    """
    bundle.verify()
    service = Service(bundle, limits or Limits(), Metrics(log), log, silent, hold_out)
    cds_hooks = cds_hooks or CdsHooksParams()
    reloader = None if source is None else Reloader(service, source)
    routes = _routes(service, cds_hooks, needs_key=keys is not None, reloader=None if admin_keys is None else reloader)
    service.metrics.endpoints |= {route.path for route in routes if isinstance(route, APIRoute)}
    app = FastAPIOffline(
        title="Health Predict",
        description="The risk that a patient with diabetes is readmitted, known at discharge.",
        version="1",
        redoc_url=None,
        static_url=SCRIPTS,
        routes=routes,
    )
    app.state.service, app.state.reloader, app.state.draining = service, reloader, False
    app.add_exception_handler(ProblemError, _problem_response)
    app.add_exception_handler(HTTPException, _http_error_response)
    app.add_middleware(
        Admission,
        service=service,
        keys=keys,
        admin_keys=admin_keys,
        tokens=Tokens(cds_hooks) if cds_hooks.clients else None,
        origins=cds_hooks.origins,
    )
    if cds_hooks.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=cds_hooks.origins,
            allow_methods=("GET", "POST"),
            allow_headers=("authorization", "content-type"),
            allow_private_network=True,  # a page of the EHR may call a service in the hospital's own network
        )
    openapi.keep_whole_limits(app)
    return app


def _routes(
    service: Service, cds_hooks: CdsHooksParams, *, needs_key: bool, reloader: Reloader | None
) -> list[BaseRoute]:
    """Return all routes. FastAPI matches them in order, so the most frequent one comes first."""
    of_callers = openapi.needs_key("key", "Of a caller") if needs_key else {}
    raw = APIRouter(route_class=RawBodyRoute, **of_callers)
    add_prediction(raw, service)
    add_explanation(raw, service)
    add_batch(raw, service)
    if service.log is not None:
        add_outcomes(raw, service, service.log)
    described, open_to_all = APIRouter(**of_callers), APIRouter()
    add_cds_hooks(raw, open_to_all, service, cds_hooks)
    _add_model(described, service)
    add_model_card(open_to_all, service)
    _add_health(open_to_all, service)
    admin = APIRouter(**openapi.needs_key("admin_key", "Of an administrator, in a file of its own"))
    if reloader is not None:
        _add_reload(admin, reloader)
    return [*raw.routes, *described.routes, *open_to_all.routes, *admin.routes]


def _add_model(router: APIRouter, service: Service) -> None:
    @router.get("/model", summary="What is served: version, evaluation, origin")
    async def model() -> ServedModel:
        bundle = service.bundle
        return ServedModel(bundle_digest=bundle.digest, silent=service.silent, **bundle.manifest.model_dump())

    @router.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        return Response(service.metrics.render(service.bundle), media_type=CONTENT_TYPE)


def _add_health(router: APIRouter, service: Service) -> None:
    @router.get("/health/live", summary="Whether the process responds")
    async def live() -> Health:
        return Health()

    @router.get("/health", include_in_schema=False)
    @router.get(
        "/health/ready",
        summary="Whether the model reproduces a golden row",
        responses={503: openapi.problem("It does not")},
    )
    async def ready() -> Health:
        row = service.bundle.golden[0]
        if not abs(service.bundle.risk(row.record) - row.risk) <= TOLERANCE:
            raise ProblemError(503, "The model does not reproduce its golden row.")
        return Health()


def _add_reload(router: APIRouter, reloader: Reloader) -> None:
    @router.post(
        f"{ADMIN}reload",
        summary="Fetch the bundle from its source again, verify it and serve it",
        responses={409: openapi.problem("The bundle was refused; the old one keeps answering"), 503: openapi.BUSY},
    )
    async def reload() -> Reloaded:
        return await reloader.reload()


async def _problem_response(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return error.response()


async def _http_error_response(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = f"{error.detail}. /docs lists the endpoints."
    return ProblemError(error.status_code, detail, headers=error.headers).response()
