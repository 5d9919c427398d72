"""MLflow's server with one password: HTTP basic authentication before every route.

MLflow's own `basic-auth` application has users and permissions in tables of its own, and hashes a password for tens of
milliseconds at each request. Here a team shares one password of 192 random bits, so a plain comparison is enough.
"""

from __future__ import annotations

import base64
import hmac
import os
from typing import Any

from mlflow.server.fastapi_app import app as mlflow_app

OPEN = "/health"
_EXPECTED = b"Basic " + base64.b64encode(
    f"{os.environ['MLFLOW_TRACKING_USERNAME']}:{os.environ['MLFLOW_TRACKING_PASSWORD']}".encode()
)


def create() -> Any:
    """Return the application that `mlflow server` serves."""
    return _require_password


async def _require_password(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Pass a request on if it has the password or is the health check; otherwise respond with status 401."""
    headers = dict(scope.get("headers", ()))
    allowed = hmac.compare_digest(headers.get(b"authorization", b""), _EXPECTED)
    if scope["type"] == "lifespan" or allowed or (scope["type"] == "http" and scope["path"] == OPEN):
        await mlflow_app(scope, receive, send)
    elif scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
    else:
        challenge = [(b"www-authenticate", b'Basic realm="MLflow"'), (b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 401, "headers": challenge})
        await send({"type": "http.response.body", "body": b"A password is needed. Set MLFLOW_TRACKING_PASSWORD.\n"})
