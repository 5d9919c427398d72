"""Which requests are admitted, and how many at once. One middleware in front of every endpoint, which also counts responses."""

from __future__ import annotations

import ipaddress
import logging
from time import perf_counter
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, State
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from healthpredict.serving.keys import KeyRing
from healthpredict.serving.limits import Limits, discard_body
from healthpredict.serving.metrics import Metrics
from healthpredict.serving.problems import Refused, failed

_log = logging.getLogger(__name__)
ADMIN: Final = "/admin/"
PATHS_WITHOUT_KEY: Final = frozenset({"/health", "/health/live", "/health/ready", "/docs", "/openapi.json"})
"""Paths that need no key and are answered under any load: probes of the platform, and documentation, which shows no patient."""
SCRIPTS: Final = "/docs/scripts"
RETRY_SECONDS: Final = "1"
_JSON: Final = "application/json"
_CLIENT_LEFT: Final = 499
"""Not a status of HTTP, but widely used for a client that did not wait for the response."""


class Admission:
    """A pure ASGI middleware."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        state: State,
        metrics: Metrics,
        limits: Limits,
        keys: KeyRing | None,
        admin_keys: KeyRing | None,
    ) -> None:
        """Put admission in front of an application.

        Args:
            app: the next application.
            state: of the application; while `draining` is true, responses ask clients to close their connections.
            metrics: counts requests.
            limits: of the service.
            keys: of callers. Without them the service only talks to programs on this machine.
            admin_keys: needed below `/admin/`, in place of `keys`.
        """
        self._app = app
        self._state = state
        self._metrics = metrics
        self._limits = limits
        self._keys = keys
        self._admin_keys = admin_keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        started = perf_counter()
        status = 0

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._state.draining:
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        refused = self._refusal(scope["path"], Headers(scope=scope), scope["method"])
        # A refused request may be slow to send its body; it must not take the place of an admitted one.
        self._metrics.in_flight += refused is None
        try:
            if refused is None:
                await self._app(scope, receive, send_counted)
            else:
                await discard_body(scope, receive, self._limits.body_seconds)
                await refused.response()(scope, receive, send_counted)
        except ClientDisconnect:
            # The server says the same of a client that left and of a body that is not valid HTTP.
            broken = Refused(400, "The body is incomplete or not valid HTTP.", headers={"connection": "close"})
            await broken.response()(scope, receive, send)
        except Exception:
            _log.exception("A request to %s failed", self._metrics.endpoint(scope["path"]))
            if not status:
                await failed().response()(scope, receive, send_counted)
        finally:
            self._metrics.in_flight -= refused is None
            self._metrics.answered(scope["path"], status or _CLIENT_LEFT, perf_counter() - started)

    def _refusal(self, path: str, headers: Headers, method: str) -> Refused | None:
        """Return why a request is not admitted, or None if it is."""
        if self._keys is None and (problem := _of_another_site(headers)):
            return Refused(403, f"{problem}: without API keys the service answers only programs on its own machine.")
        if path in PATHS_WITHOUT_KEY or path.startswith(f"{SCRIPTS}/"):
            return None
        of_administrator = path.startswith(ADMIN) and self._admin_keys is not None
        keys = self._admin_keys if of_administrator else self._keys
        if keys is not None and not keys.accepts(headers.get("authorization")):
            return Refused(
                401,
                "An API key is needed that is in force. Send it as `Authorization: Bearer KEY`.",
                headers={"www-authenticate": "Bearer"},
            )
        if keys is None and method == "POST" and not _is_json(headers):
            return Refused(415, f"Without API keys the service accepts only `Content-Type: {_JSON}`.")
        if self._metrics.in_flight >= self._limits.requests:
            return Refused(
                503,
                f"{self._limits.requests} requests are being answered. Ask again.",
                headers={"retry-after": RETRY_SECONDS},
            )
        return None


def is_loopback(host: str | None) -> bool:
    """Return whether a host is this machine's own: `localhost`, or a loopback address."""
    try:
        return host == "localhost" or (host is not None and ipaddress.ip_address(host).is_loopback)
    except ValueError:
        return False


def _is_json(headers: Headers) -> bool:
    return headers.get("content-type", "").partition(";")[0].strip().lower() == _JSON


def _of_another_site(headers: Headers) -> str | None:
    """Return what shows that a request comes from a web page of another site, or None.

    Such a page can make a browser on this machine send requests to 127.0.0.1, under this address or under a name that the
    site's own name server points there.
    """
    hosts = headers.getlist("host") or [""]
    if not all(is_loopback(_host(f"//{host}")) for host in hosts):
        return "The header Host names another machine"
    if "origin" in headers and not is_loopback(_host(headers["origin"])):
        return "The header Origin names another site"
    return None


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
