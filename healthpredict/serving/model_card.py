"""`GET /model/card`: the model card of the bundle that is served."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from healthpredict.serving import openapi
from healthpredict.serving.problems import JSON, ProblemError
from healthpredict.serving.service import Service

HTML: Final = "text/html"
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""The page needs no script and no other resource."""
_CONTENT: Final[dict[str, Any]] = {
    JSON: {"schema": {"type": "object"}},
    HTML: {"schema": {"type": "string"}},
}


def add_model_card(router: APIRouter, service: Service) -> None:
    """Add the endpoint."""

    @router.get(
        "/model/card",
        summary="The model card as it was when the bundle was built: JSON, or a page if Accept prefers text/html",
        response_class=Response,
        responses={
            200: {"description": "The card", "content": _CONTENT},
            404: openapi.problem("The bundle has no model card"),
        },
    )
    async def model_card(request: Request) -> Response:
        card = service.bundle.card
        if card is None:
            raise ProblemError(404, "This bundle was built without a model card. `healthpredict card` writes one.")
        headers = {"Vary": "Accept"}
        if prefers_html(request.headers.get("accept", "")):
            return Response(card.page, media_type=HTML, headers=headers | {"Content-Security-Policy": _POLICY})
        return Response(card.data, media_type=JSON, headers=headers)


def prefers_html(accept: str) -> bool:
    """Return whether an Accept header (RFC 9110, section 12.5.1) prefers HTML to JSON."""
    weights = {}
    for part in accept.lower().split(","):
        name, *parameters = (word.strip() for word in part.split(";"))
        weights[name] = next((_weight(word[2:]) for word in parameters if word.startswith("q=")), 1.0)
    html, json = (
        next((weights[name] for name in (kind, f"{kind.partition('/')[0]}/*", "*/*") if name in weights), 0.0)
        for kind in (HTML, JSON)
    )
    return html > json


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
