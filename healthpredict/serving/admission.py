"""The middleware in front of every endpoint: it checks keys, limits the requests in flight, and counts responses."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Collection
from time import perf_counter
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from healthpredict.cds_hooks_params import CDS_SERVICES
from healthpredict.serving.cds_hooks.tokens import Tokens
from healthpredict.serving.keys import KeyRing
from healthpredict.serving.problems import JSON, RETRY_SOON, ProblemError
from healthpredict.serving.request import discard_body
from healthpredict.serving.service import Service

_log = logging.getLogger(__name__)
ADMIN: Final = "/admin/"
PATHS_WITHOUT_KEY: Final = frozenset(
    {"/health", "/health/live", "/health/ready", "/docs", "/openapi.json", "/model/card", CDS_SERVICES}
)
"""Paths that need no key and are answered under any load: health probes, and descriptions, which contain no patient data.
Browsers of clinicians, which have no key, open the model card."""
SCRIPTS: Final = "/docs/scripts"
_CLIENT_LEFT: Final = 499
"""Not an HTTP status, but widely used in logs for a client that did not wait for the response."""


class Admission:
    """A pure ASGI middleware."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        service: Service,
        keys: KeyRing | None,
        admin_keys: KeyRing | None,
        tokens: Tokens | None,
        origins: Collection[str],
    ) -> None:
        """Put admission in front of an application.

        Args:
            app: the application. While its `state.draining` is true, responses ask clients to close their connections.
            service: provides limits and metrics.
            keys: keys of callers. Without them, the service answers only programs on this machine.
            admin_keys: keys for `/admin/`, which replace `keys` there.
            tokens: tokens of EHRs, which `/cds-services/` accepts besides keys.
            origins: web origins whose pages may use a service without keys.
        """
        self._app = app
        self._limits = service.limits
        self._metrics = service.metrics
        self._keys = keys
        self._admin_keys = admin_keys
        self._tokens = tokens
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or reject it."""
        started = perf_counter()
        status = 0

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if scope["app"].state.draining:
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        rejection = await self._rejection(scope["path"], Headers(scope=scope), scope["method"])
        # Do not count rejected requests: slow bodies of theirs must not use up the limit.
        self._metrics.in_flight += rejection is None
        try:
            if rejection is None:
                await self._app(scope, receive, send_counted)
            else:
                await discard_body(scope, receive, self._limits.body_seconds)
                await rejection.response()(scope, receive, send_counted)
        except ClientDisconnect:
            # The server reports a client that left and a body that is not valid HTTP in the same way.
            broken = ProblemError(400, "The body is incomplete or not valid HTTP.", headers={"connection": "close"})
            await broken.response()(scope, receive, send)
        except Exception:
            _log.exception("A request to %s failed", self._metrics.endpoint(scope["path"]))
            if not status:
                failed = ProblemError(500, "The service failed. Its log says where.")
                await failed.response()(scope, receive, send_counted)
        finally:
            self._metrics.in_flight -= rejection is None
            self._metrics.answered(scope["path"], status or _CLIENT_LEFT, perf_counter() - started)

    async def _rejection(self, path: str, headers: Headers, method: str) -> ProblemError | None:
        """Return why a request is not admitted, or None if it is."""
        if self._keys is None and (problem := _cross_site_problem(headers, self._origins)):
            return ProblemError(
                403, f"{problem}: without API keys the service answers only programs on its own machine."
            )
        if path in PATHS_WITHOUT_KEY or path.startswith(f"{SCRIPTS}/"):
            return None
        needs_admin_key = path.startswith(ADMIN) and self._admin_keys is not None
        keys = self._admin_keys if needs_admin_key else self._keys
        authorization = headers.get("authorization")
        has_key = keys is not None and keys.accepts(authorization)
        if self._tokens is not None and path.startswith(f"{CDS_SERVICES}/"):
            if not has_key and (problem := await self._tokens.problem(authorization, path)):
                return _unauthorized(f"{problem} Send an API key or a token as `Authorization: Bearer ...`.")
        elif keys is not None and not has_key:
            return _unauthorized("A valid API key is needed. Send it as `Authorization: Bearer KEY`.")
        if keys is None and method == "POST" and not _is_json(headers):
            return ProblemError(415, f"Without API keys the service accepts only `Content-Type: {JSON}`.")
        if self._metrics.in_flight >= self._limits.requests:
            return ProblemError(
                503, f"{self._limits.requests} requests are being answered. Ask again.", headers=RETRY_SOON
            )
        return None


def is_loopback(host: str | None) -> bool:
    """Return whether a host is this machine itself: `localhost`, or a loopback address."""
    try:
        return host == "localhost" or (host is not None and ipaddress.ip_address(host).is_loopback)
    except ValueError:
        return False


def _unauthorized(detail: str) -> ProblemError:
    return ProblemError(401, detail, headers={"www-authenticate": "Bearer"})


def _is_json(headers: Headers) -> bool:
    return headers.get("content-type", "").partition(";")[0].strip().lower() == JSON


def _cross_site_problem(headers: Headers, origins: Collection[str]) -> str | None:
    """Return the header that shows that a request comes from a web page of another site, or None.

    Such a page can make a browser on this machine send requests to 127.0.0.1, by its address or by a name that the site's own
    name server resolves to it.
    """
    hosts = headers.getlist("host") or [""]
    if not all(is_loopback(_host(f"//{host}")) for host in hosts):
        return "The header Host names another machine"
    origin = headers.get("origin")
    if origin is not None and origin not in origins and not is_loopback(_host(origin)):
        return "The header Origin names another site"
    return None


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
