"""What the endpoints share, and how an endpoint reads a body by itself."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import State

from healthpredict.bundle.model import Bundle
from healthpredict.prediction_log.writer import PredictionLog
from healthpredict.serving.limits import Limits
from healthpredict.serving.metrics import Metrics
from healthpredict.serving.problems import FieldProblem, Refused, problem_documentation

_to_json: Final = msgspec.json.Encoder().encode
RETRY: Final = {"Retry-After": "Seconds to wait"}
BUSY: Final = problem_documentation("Too many requests are being answered", headers=RETRY)
OF_ANY_BODY: Final[dict[int | str, dict[str, Any]]] = {
    400: problem_documentation("The body is not JSON"),
    408: problem_documentation("The body was not there in time"),
}
DRY_RUN: Final[dict[str, Any]] = {
    "name": "X-Dry-Run",
    "in": "header",
    "description": "true: not a real encounter; it is logged as a dry run and never learned from. "
    "true or false in any letter case; any other value is rejected (422).",
    "schema": {"type": "string", "enum": ["true", "false"], "default": "false"},
}


@dataclass(frozen=True)
class Service:
    """What the endpoints share.

    Attributes:
        state: of the application; `state.bundle` is the bundle that is served now.
        limits: of callers.
        metrics: counts predictions and problems.
        log: keeps predictions and outcomes, or None.
    """

    state: State
    limits: Limits
    metrics: Metrics
    log: PredictionLog | None

    @property
    def bundle(self) -> Bundle:
        """The bundle that is served now."""
        bundle: Bundle = self.state.bundle
        return bundle


class RawBodyRoute(APIRoute):
    """A route whose endpoint takes the request, reads its body and returns the response.

    FastAPI documents it and handles its exceptions, but neither reads nor validates a body.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the endpoint itself."""
        return self.endpoint


def request_body(schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    """Return what OpenAPI says about a body that the endpoint reads by itself."""
    content = {"application/json": {"schema": schema, "example": example}}
    description = "JSON in UTF-8. A field that is given twice is rejected."
    return {"requestBody": {"required": True, "description": description, "content": content}}


def json_response(fields: dict[str, Any]) -> Response:
    """Return the response with these fields, status 200."""
    return Response(_to_json(fields), media_type="application/json")


def is_dry_run(request: Request) -> bool:
    """Return whether the caller says that the encounter is not a real one: `X-Dry-Run: true`. It is never learned from.

    Raises:
        Refused: the header is there, and is neither true nor false in any letter case (422).
    """
    sent = request.headers.getlist("x-dry-run")
    if not sent:
        return False
    values = {value.strip().lower() for line in sent for value in line.split(",")}
    if values not in ({"true"}, {"false"}):
        problem = FieldProblem(field="X-Dry-Run", problem="is neither true nor false")
        raise Refused(
            422, "The header X-Dry-Run is neither true nor false. Send one of these, or no such header.", [problem]
        )
    return values == {"true"}
