"""What went wrong with a request, as RFC 9457 problem details. They name fields and never repeat a value."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

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
    """A request that is answered with a problem."""

    def __init__(self, status: int, detail: str, errors: Sequence[FieldProblem] = ()) -> None:
        """Args: status, of HTTP; detail, one sentence without any value; errors, all the fields that are wrong."""
        super().__init__(detail)
        self.problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, errors=list(errors))


def problem_response(problem: Problem) -> Response:
    """The answer that carries a problem."""
    return Response(problem.model_dump_json(), problem.status, media_type="application/problem+json")
