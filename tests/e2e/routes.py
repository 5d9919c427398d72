"""Every route that the two servers have, asked without a password."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.e2e.stack import Stack

METHODS = {"DELETE", "GET", "PATCH", "POST", "PUT"}
# Both servers are asked for their routes in their containers: what is mounted there is what answers. FastAPI keeps the routers that
# an application includes, each with a prefix.
_WALK = """
import json
found = []
def walk(routes, prefix=""):
    for route in routes:
        path = prefix + getattr(route, "path", "")
        if getattr(route, "methods", None):
            found.extend([method, path] for method in route.methods)
        elif "WebSocket" in type(route).__name__:
            found.append(["WEBSOCKET", path])
        elif hasattr(route, "original_router"):
            walk(route.original_router.routes, prefix + route.include_context.prefix)
        else:
            walk(getattr(route, "routes", None) or (), path)
"""
_PREFECT = f"""{_WALK}
from prefect.server.api.server import create_app
walk(create_app().routes)
print(json.dumps(found))
"""
_MLFLOW = f"""{_WALK}
from mlflow.server import app as flask
from mlflow.server.fastapi_app import app
walk(app.routes)
found += [[method, str(rule)] for rule in flask.url_map.iter_rules() for method in rule.methods]
print(json.dumps(found))
"""


def answers_without_password(stack: Stack) -> tuple[dict[str, int], dict[str, int]]:
    """Status by path of what answers otherwise than 401 or 403: Prefect's API, and MLflow.

    Prefect's page itself, which holds nothing but programs for the browser, is served to anyone and not looked at.
    """
    prefect = _routes(stack, "prefect-server", _PREFECT)
    api = [route for route in prefect if route[1].startswith("/api")]
    assert len(api) >= 200, "these are not all routes of Prefect"
    mlflow = _routes(stack, "mlflow", _MLFLOW)
    assert len(mlflow) >= 900, "these are not all routes of MLflow"
    return _ask(stack.prefect, api), _ask(stack.mlflow, mlflow)


def _routes(stack: Stack, service: str, program: str) -> list[list[str]]:
    printed = stack.inside(service, "python", "-W", "ignore", "-c", program).splitlines()[-1]
    found: list[list[str]] = json.loads(printed)
    return found


def _ask(url: str, routes: list[list[str]]) -> dict[str, int]:
    answered: dict[str, Any] = {}
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
        for method, template in routes:
            path = re.sub(r"\{[^}]*\}|<[^>]*>", "00000000-0000-0000-0000-000000000000", template)
            if method == "WEBSOCKET":
                if _listens(url.replace("http", "ws") + path):
                    answered[path] = 101
            elif method in METHODS:
                status = client.request(method, path, content=b"{}").status_code
                if status not in (401, 403):
                    answered[path] = status
    return answered


def _listens(url: str) -> bool:
    """Whether a socket takes a message from somebody who has not said the password."""
    try:
        with connect(url, subprotocols=["prefect"], open_timeout=30, proxy=None) as socket:  # type: ignore[list-item]
            socket.send(json.dumps({"type": "auth", "token": "admin:wrong"}))
            return "auth_success" in str(socket.recv(timeout=30))
    except (ConnectionClosed, InvalidStatus):
        return False
