"""What the endpoints share."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from healthpredict.bundle.model import Bundle
from healthpredict.prediction_log.writer import PredictionLog
from healthpredict.serving.limits import Limits
from healthpredict.serving.metrics import Metrics


@dataclass
class Service:
    """What the endpoints share.

    Attributes:
        bundle: the bundle that is served now. A reload replaces it.
        limits: limits of requests.
        metrics: counters of requests, predictions and problems.
        log: log of predictions and outcomes, or None.
    """

    bundle: Bundle
    limits: Limits
    metrics: Metrics
    log: PredictionLog | None


class RawBodyRoute(APIRoute):
    """A route whose endpoint takes the request, reads its body and returns the response.

    FastAPI documents it and handles its exceptions, but does not read or validate the body.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the endpoint itself."""
        return self.endpoint
