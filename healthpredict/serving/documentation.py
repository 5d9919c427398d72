"""What OpenAPI says about the endpoints whose bodies are read as bytes: schemas, real examples, every status."""

from __future__ import annotations

from typing import Any, Final

from healthpredict.features.encoder import Value
from healthpredict.serving.answers import Prediction
from healthpredict.serving.batch import BatchPrediction, batch_schema
from healthpredict.serving.door import ADMIN, OPEN
from healthpredict.serving.encounter import Encounter, as_sent
from healthpredict.serving.limits import Limits
from healthpredict.serving.outcomes import Outcomes, Recorded
from healthpredict.serving.problems import problem_documentation
from healthpredict.serving.reasons import Explained
from healthpredict.serving.reload import Reloaded

_LARGEST_ID: Final = 2**63 - 1
_RETRY: Final = {"Retry-After": "Seconds to wait"}
_BUSY: Final = problem_documentation("Too many requests are being answered", headers=_RETRY)
_OF_ANY_BODY: Final = {
    400: problem_documentation("The body is not JSON"),
    408: problem_documentation("The body was not there in time"),
}
_KEYS: Final = {
    name: {"type": "http", "scheme": "bearer", "description": f"{whose}: `healthpredict keys add NAME` makes one"}
    for name, whose in (("key", "Of a caller"), ("admin_key", "Of an administrator, in a file of its own"))
}
_OF_ONE_ENCOUNTER: Final = {
    **_OF_ANY_BODY,
    413: problem_documentation("The body is too long"),
    422: problem_documentation(
        "The encounter breaks the contract, or ended in death or hospice; or X-Dry-Run is wrong"
    ),
    503: _BUSY,
}


def predict_documentation(record: dict[str, Value], prediction: dict[str, Any]) -> dict[str, Any]:
    """Of `/predict`. Args: record, an encounter of nobody; prediction, its answer."""
    return {
        "summary": "The risk for one encounter",
        "response_model": Prediction,
        "responses": {
            200: {"content": {"application/json": {"example": prediction}}},
            **_OF_ONE_ENCOUNTER,
        },
        "openapi_extra": _request_body(Encounter.model_json_schema(), as_sent(record)) | _dry_run(),
    }


def explain_documentation(record: dict[str, Value], explained: dict[str, Any] | None) -> dict[str, Any]:
    """Of `/explain`. Args: record, an encounter of nobody; explained, its answer, None where the bundle has no explainer."""
    example = {} if explained is None else {"example": explained}
    return {
        "summary": "The risk for one encounter, and its reasons",
        "response_model": Explained,
        "responses": {
            200: {"content": {"application/json": example}},
            **_OF_ONE_ENCOUNTER,
            501: problem_documentation("The model version was built without explanations"),
        },
        "openapi_extra": _request_body(Encounter.model_json_schema(), as_sent(record)) | _dry_run(),
    }


def batch_documentation(record: dict[str, Value], prediction: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """Of `/predict/batch`. Args: as `predict_documentation`, and the limits of the service."""
    row = {"readmission_risk": prediction["readmission_risk"], "high_risk": prediction["high_risk"], "problem": None}
    answer = {**prediction, "results": [row], "predicted": 1, "refused": 0}
    example = {name: answer[name] for name in BatchPrediction.model_fields}
    return {
        "summary": f"The risks for up to {limits.batch_rows:,} encounters",
        "response_model": BatchPrediction,
        "responses": {
            200: {"content": {"application/json": {"example": example}}},
            **_OF_ANY_BODY,
            413: problem_documentation("The body is too long, or has too many encounters"),
            422: problem_documentation("The body is not a batch, or X-Dry-Run is wrong"),
            429: problem_documentation("Too many batches are being answered", headers=_RETRY),
            503: _BUSY,
        },
        "openapi_extra": _request_body(batch_schema(limits.batch_rows), {"encounters": [as_sent(record)]}) | _dry_run(),
    }


def outcomes_documentation(limits: Limits) -> dict[str, Any]:
    """Of `/outcomes`. Args: limits, of the service."""
    schema = Outcomes.model_json_schema()
    schema["properties"]["outcomes"] |= {"items": schema.pop("$defs")["Outcome"], "maxItems": limits.batch_rows}
    return {
        "summary": "What became of encounters",
        "response_model": Recorded,
        "responses": {
            **_OF_ANY_BODY,
            413: problem_documentation("The body is too long, or has too many outcomes"),
            422: problem_documentation("The body is not a list of outcomes; nothing was recorded"),
            503: problem_documentation("Too many requests, or the outcomes cannot be written", headers=_RETRY),
        },
        "openapi_extra": _request_body(schema, {"outcomes": [{"encounter_id": 4711, "readmitted": "NO"}]}),
    }


def reload_documentation() -> dict[str, Any]:
    """Of `/admin/reload`."""
    return {
        "summary": "Look at the source of the bundle again, and serve what is there once it is verified",
        "response_model": Reloaded,
        "responses": {409: problem_documentation("The bundle was refused; the old one keeps answering"), 503: _BUSY},
    }


def with_keys(document: dict[str, Any], *, of_callers: bool) -> None:
    """Say in an OpenAPI document which endpoints need a key: those of administrators, and all where callers need one."""
    refusal = problem_documentation(
        "No API key, or one that is not in force", headers={"WWW-Authenticate": "Always `Bearer`"}
    )
    for path, operations in document["paths"].items():
        of_administrator = path.startswith(ADMIN)
        if not of_administrator and (path in OPEN or not of_callers):
            continue
        name = "admin_key" if of_administrator else "key"
        document["components"].setdefault("securitySchemes", {})[name] = _KEYS[name]
        for operation in operations.values():
            operation["security"] = [{name: []}]
            operation["responses"]["401"] = refusal


def with_whole_limits(node: Any) -> None:
    """Put limits of whole numbers right, which FastAPI has made floats of: the largest identifier became one larger."""
    if isinstance(node, list):
        for inner in node:
            with_whole_limits(inner)
    elif isinstance(node, dict):
        for name, inner in node.items():
            if name in ("minimum", "maximum") and isinstance(inner, float) and inner.is_integer():
                node[name] = min(int(inner), _LARGEST_ID)
            else:
                with_whole_limits(inner)


def _request_body(schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": schema, "example": example}}
    description = "JSON in UTF-8. A field that is given twice is rejected."
    return {"requestBody": {"required": True, "description": description, "content": content}}


def _dry_run() -> dict[str, Any]:
    description = (
        "true: not a real encounter; it is logged as a dry run and never learned from. true or false in any letter case; "
        "any other value is rejected (422)."
    )
    schema = {"type": "string", "enum": ["true", "false"], "default": "false"}
    return {"parameters": [{"name": "X-Dry-Run", "in": "header", "description": description, "schema": schema}]}
