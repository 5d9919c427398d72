"""What went wrong with a request, as RFC 9457 problem details. They name fields and never repeat a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from http import HTTPStatus
from typing import Any

from fastapi import Response
from pydantic import BaseModel


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    field: str
    problem: str


class Problem(BaseModel):
    """Problem details (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] = []


class Refused(Exception):
    """A request that gets a problem as its response."""

    def __init__(
        self, status: int, detail: str, errors: Sequence[FieldProblem] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        """Refuse a request.

        Args:
            status: of HTTP.
            detail: one sentence without any value, and what to do.
            errors: all the fields that are wrong.
            headers: of the response, such as `Retry-After`.
        """
        super().__init__(detail)
        self.problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, errors=list(errors))
        self.headers = headers

    def response(self) -> Response:
        """Return the response that carries the problem."""
        headers = dict(self.headers or {})
        body = self.problem.model_dump_json()
        return Response(body, self.problem.status, headers=headers, media_type="application/problem+json")


def failed() -> Refused:
    """Return the response to a fault of the service."""
    return Refused(500, "The service failed. Its log says where.")


def problem_documentation(description: str, *, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return what OpenAPI says about a response that carries a problem.

    Args:
        description: when it is sent.
        headers: names and descriptions of its further headers.
    """
    documentation: dict[str, Any] = {
        "description": description,
        "content": {"application/problem+json": {"schema": _problem_schema()}},
    }
    if headers:
        documentation["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in headers.items()
        }
    return documentation


@cache
def _problem_schema() -> dict[str, Any]:
    schema = Problem.model_json_schema()
    # In OpenAPI a reference starts at the whole document, not at this schema.
    schema["properties"]["errors"]["items"] = schema.pop("$defs")["FieldProblem"]
    return schema
