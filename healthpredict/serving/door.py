"""Who is let in, and how many at once. It stands before every endpoint and counts what leaves."""

from __future__ import annotations

from time import perf_counter
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from healthpredict.serving.keys import KeyRing
from healthpredict.serving.limits import Limits, Message, Receive, Scope, Send
from healthpredict.serving.metrics import Metrics
from healthpredict.serving.problems import Refused

OPEN: Final = frozenset({"/health", "/health/live", "/health/ready", "/docs", "/openapi.json"})
"""Asked without a key and at any load: probes of the platform, and documentation, which shows no patient."""
RETRY_SECONDS: Final = "1"
_CLIENT_LEFT: Final = 499
"""Not of HTTP; widely used for a caller that did not wait."""
_FAULT: Final = 500


class Door:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, metrics: Metrics, limits: Limits, keys: KeyRing | None) -> None:
        """Args: app, what is behind; metrics, where requests are counted; limits; keys, None where anyone may ask."""
        self._app = app
        self._metrics = metrics
        self._at_most = limits.requests
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request in, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        status = _FAULT
        metrics = self._metrics

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        metrics.in_flight += 1
        try:
            refused = None if scope["path"] in OPEN else self._refusal(scope)
            if refused is None:
                await self._app(scope, receive, send_noting_status)
            else:
                await refused.response()(scope, receive, send_noting_status)
        except ClientDisconnect:
            status = _CLIENT_LEFT
        finally:
            metrics.in_flight -= 1
            metrics.answered(scope["path"], status, perf_counter() - started)

    def _refusal(self, scope: Scope) -> Refused | None:
        if self._keys is not None:
            authorization = next((value for name, value in scope["headers"] if name == b"authorization"), None)
            if not self._keys.accepts(authorization):
                return Refused(
                    401,
                    "An API key is needed that is in force. Send it as `Authorization: Bearer KEY`.",
                    headers={"www-authenticate": "Bearer"},
                )
        if self._metrics.in_flight > self._at_most:
            return Refused(
                503,
                f"{self._at_most} requests are being answered. Ask again.",
                headers={"retry-after": RETRY_SECONDS},
            )
        return None
