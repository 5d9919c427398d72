"""What the OpenAPI document says beyond what FastAPI generates."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from fastapi import FastAPI, Security
from fastapi.security import HTTPBearer

from healthpredict.data.contract import LARGEST_ID
from healthpredict.serving.problems import JSON, Problem

Responses = dict[int | str, dict[str, Any]]
"""Descriptions of the responses of an endpoint, by status."""


def inlined(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON schema with each reference replaced by its definition. In OpenAPI, references start at the document's root.

    No definition may refer to itself.
    """
    definitions = schema.get("$defs", {})

    def resolved(part: Any) -> Any:
        if isinstance(part, list):
            return [resolved(each) for each in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return resolved(definitions[part["$ref"].rpartition("/")[2]])
        return {name: resolved(value) for name, value in part.items() if name != "$defs"}

    found: dict[str, Any] = resolved(dict(schema))
    return found


@cache
def _problem_schema() -> dict[str, Any]:
    return inlined(Problem.model_json_schema())


def problem(description: str, *, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Describe a response that carries a problem.

    Args:
        description: when it is sent.
        headers: names and descriptions of its further headers.
    """
    described = {name: {"description": text, "schema": {"type": "string"}} for name, text in (headers or {}).items()}
    content = {"application/problem+json": {"schema": _problem_schema()}}
    return {"description": description, "content": content} | ({"headers": described} if described else {})


RETRY: Final = {"Retry-After": "Seconds to wait"}
BUSY: Final = problem("Too many requests are being answered", headers=RETRY)
OF_ANY_BODY: Final[Responses] = {
    400: problem("The body is not JSON"),
    408: problem("The body did not arrive in time"),
}
DRY_RUN: Final[dict[str, Any]] = {
    "name": "X-Dry-Run",
    "in": "header",
    "description": "true: not a real encounter. It is logged as a dry run and never used for training. "
    "Letter case does not matter; values other than true and false are rejected (422).",
    "schema": {"type": "string", "enum": ["true", "false"], "default": "false"},
}


def request_body(schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    """Describe a body that the endpoint reads itself."""
    content = {JSON: {"schema": schema, "example": example}}
    description = "JSON in UTF-8. A field that is given twice is rejected."
    return {"requestBody": {"required": True, "description": description, "content": content}}


def response_example(example: dict[str, Any]) -> dict[str, Any]:
    """Describe a response by an example."""
    return {"content": {JSON: {"example": example}}}


def needs_key(scheme: str, whose: str) -> dict[str, Any]:
    """Return options of a router whose endpoints need a key. They only document it; `Admission` checks it."""
    description = f"{whose}: `healthpredict keys add NAME` makes one"
    bearer = HTTPBearer(scheme_name=scheme, description=description, auto_error=False)
    unauthorized = problem("The API key is missing or not valid", headers={"WWW-Authenticate": "Always `Bearer`"})
    return {"dependencies": [Security(bearer)], "responses": {401: unauthorized}}


def keep_whole_limits(app: FastAPI) -> None:
    """Write whole numbers without a decimal point: FastAPI turns the largest identifier into a float, which is one larger."""
    generate = app.openapi

    def whole(text: str) -> int | float:
        number = float(text)
        return min(int(number), LARGEST_ID) if number.is_integer() else number

    def openapi() -> dict[str, Any]:
        document: dict[str, Any] = json.loads(json.dumps(generate()), parse_float=whole)
        return document

    app.openapi = openapi  # type: ignore[method-assign] # as FastAPI's documentation does
