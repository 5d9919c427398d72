"""Routes that FastAPI finds and documents, and that answer without the rest of it.

What FastAPI does between a route and its function (dependencies, several exit stacks, a request and a response object) costs
more than a prediction: 40 microseconds of CPU, measured on the machine of the benchmark. A prediction needs none of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Response
from fastapi.routing import APIRoute

from healthpredict.serving.limits import Receive, Scope, Send

Answer = Callable[[Scope, Receive], Awaitable[bytes]]
"""Reads a request and returns the JSON of the answer, status 200; refuses by raising `Refused`."""


class DirectRoute(APIRoute):
    """A POST of JSON that is answered with JSON."""

    def __init__(self, path: str, answer: Answer, **documentation: Any) -> None:
        """Args: path; answer, its function; documentation, as `APIRoute` takes it."""

        async def documented() -> Response:
            raise AssertionError("answered by the ASGI function of the route")

        documented.__name__ = path.strip("/").replace("/", "_")
        super().__init__(path, documented, methods=["POST"], **documentation)

        async def respond(scope: Scope, receive: Receive, send: Send) -> None:
            body = await answer(scope, receive)
            length = b"%d" % len(body)
            headers = [(b"content-type", b"application/json"), (b"content-length", length)]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})

        self.app = respond
