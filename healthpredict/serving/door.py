"""Who is let in, and how many at once; it stands before every endpoint and counts what leaves.

Predictions are answered right here. What FastAPI does before it calls a function (telemetry, four middlewares, routing,
dependencies, a request and a response object) costs more than a prediction, which needs none of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from healthpredict.serving.keys import KeyRing
from healthpredict.serving.limits import Headers, Limits, Message, Receive, Scope, Send
from healthpredict.serving.metrics import Metrics
from healthpredict.serving.problems import Refused, failed

Judge = Callable[[Headers, bytes], bytes]
"""From the headers and the body of a request to the JSON of its answer, status 200; refuses by raising `Refused`."""
Answer = Callable[[Scope, Receive], Awaitable[bytes]]
"""Reads a request and returns the JSON of its answer, status 200; refuses by raising `Refused`."""

OPEN: Final = frozenset({"/health", "/health/live", "/health/ready", "/docs", "/openapi.json"})
"""Asked without a key and at any load: probes of the platform, and documentation, which shows no patient."""
ADMIN: Final = "/admin/"
RETRY_SECONDS: Final = "1"
_CLIENT_LEFT: Final = 499
"""Not of HTTP; widely used for a caller that did not wait."""


class Door:
    """An ASGI application before another one."""

    def __init__(
        self,
        app: ASGIApp,
        answers: Mapping[str, Answer],
        judges: Mapping[str, Judge],
        metrics: Metrics,
        limits: Limits,
        *,
        keys: KeyRing | None,
        admin_keys: KeyRing | None,
    ) -> None:
        """Put a door before an application.

        Args:
            app: what is behind.
            answers: by path, what answers a POST without it.
            judges: by path, what answers the same at once if all of it is there.
            metrics: where requests are counted.
            limits: of callers.
            keys: that callers need; None where anyone may ask.
            admin_keys: that those need who ask below `/admin/`, in place of `keys`.
        """
        self._app = app
        self._answers = answers
        self._judges = judges
        self._metrics = metrics
        self._at_most = limits.requests
        self._body_bytes = limits.body_bytes
        self._keys = keys
        self._admin_keys = admin_keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        path, metrics = scope["path"], self._metrics
        metrics.in_flight += 1
        status = _CLIENT_LEFT
        answer = self._answers.get(path) if scope["method"] == "POST" else None
        try:
            if path not in OPEN:
                self._let_in(path, dict(scope["headers"]))
            if answer is None:
                status = await self._pass_on(scope, receive, send)
            else:
                body = await answer(scope, receive)
                status = 200
                headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
                await send({"type": "http.response.start", "status": status, "headers": headers})
                await send({"type": "http.response.body", "body": body})
        except Refused as refused:
            status = refused.problem.status
            await refused.response()(scope, receive, send)
        except ClientDisconnect:
            pass  # nobody reads an answer
        except Exception:
            status = 500
            if answer is not None:  # FastAPI has answered for its own
                await failed().response()(scope, receive, send)
            raise
        finally:
            metrics.in_flight -= 1
            metrics.answered(path, status, perf_counter() - started)

    def at_once(self, path: str, headers: Headers, body: bytes) -> bytes | None:
        """Answer a POST that is all there, without leaving the turn of the loop.

        Returns:
            the JSON of its answer, status 200; None where it is refused, or fails: asked with `__call__`, it is said why.
        """
        started = perf_counter()
        if len(body) > self._body_bytes:
            return None
        try:
            self._let_in(path, headers)
            answer = self._judges[path](headers, body)
        except Exception:
            return None
        self._metrics.answered(path, 200, perf_counter() - started)
        return answer

    def _let_in(self, path: str, headers: Headers) -> None:
        keys = self._keys if self._admin_keys is None or not path.startswith(ADMIN) else self._admin_keys
        if keys is not None and not keys.accepts(headers.get(b"authorization")):
            raise Refused(
                401,
                "An API key is needed that is in force. Send it as `Authorization: Bearer KEY`.",
                headers={"www-authenticate": "Bearer"},
            )
        if self._metrics.in_flight > self._at_most:
            raise Refused(
                503,
                f"{self._at_most} requests are being answered. Ask again.",
                headers={"retry-after": RETRY_SECONDS},
            )

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> int:
        """Let the application answer, and return the status that it gave."""
        status = _CLIENT_LEFT

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        await self._app(scope, receive, send_noting_status)
        return status
