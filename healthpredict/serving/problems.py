"""Responses to requests that fail: problem details (RFC 9457). They name fields and never repeat a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

from fastapi import Response
from pydantic import BaseModel

RETRY_SOON: Final = {"retry-after": "1"}
"""Headers of a response that asks the client to wait for another request to end."""
RETRY_LATER: Final = {"retry-after": "5"}
"""Headers of a response that asks the client to wait for the load, or for a disk."""
JSON: Final = "application/json"
GIVEN_TWICE: Final = "is given twice"


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


class ProblemError(Exception):
    """Ends a request with a problem as the response."""

    def __init__(
        self, status: int, detail: str, errors: Sequence[FieldProblem] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        """Describe the problem.

        Args:
            status: of HTTP.
            detail: one sentence without any value, and what to do.
            errors: all the fields that are wrong.
            headers: of the response, such as `RETRY_SOON`.
        """
        super().__init__(detail)
        self.problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, errors=list(errors))
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """Return the response."""
        body = self.problem.model_dump_json()
        return Response(body, self.problem.status, headers=self.headers, media_type="application/problem+json")


def counted(problems: Sequence[FieldProblem]) -> str:
    """Return the number of problems as text: `1 problem`, `1,000 problems`."""
    return f"{len(problems):,} problem{'' if len(problems) == 1 else 's'}"
