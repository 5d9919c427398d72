"""The reasons for a risk: the contributions of columns and of pairs of columns."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from healthpredict.bundle.model import Bundle
from healthpredict.data.contract import BY_FIELD
from healthpredict.features.encoder import Value, columns_of
from healthpredict.serving import openapi
from healthpredict.serving.predictions import (
    RESPONSES,
    Prediction,
    body_of_one,
    classified,
    example_record,
    identity,
    respond,
)
from healthpredict.serving.problems import ProblemError
from healthpredict.serving.service import Service

_SUMS: Final = {
    "prior_visits": "All visits in the year before the encounter",
    "medications_given": "Diabetes drugs given, their number",
    "medications_changed": "Diabetes drugs with a changed dosage, their number",
}


UNEXPLAINED: Final[openapi.Responses] = {501: openapi.problem("The model version was built without explanations")}
"""The error response of `explain`."""


class Reason(BaseModel):
    """The contribution of one column, or of several together. `healthpredict.library` returns it, too.

    Attributes:
        name: description in plain words.
        fields: fields of the encounter that it is computed from.
        contribution: added to the log-odds; above 0 it raises the risk.
    """

    name: str
    fields: tuple[str, ...]
    contribution: float


class Explained(Prediction):
    """A risk and its reasons: `expected_log_odds` and all contributions add up to `log_odds`.

    Attributes:
        log_odds: ln(risk / (1 - risk)), within 1e-4 in the risk.
        expected_log_odds: log-odds of an encounter about which nothing is known.
        expected_risk: the same as a probability (0-1).
        reasons: reasons for a higher or a lower risk, the strongest first.
    """

    log_odds: float
    expected_log_odds: float
    expected_risk: float
    reasons: list[Reason]


def add_explanation(router: APIRouter, service: Service) -> None:
    """Add the endpoint for the risk of one encounter with its reasons."""
    bundle = service.bundle
    example = None if bundle.explainer is None else explain(bundle, example_record(bundle)) | identity(bundle)

    @router.post(
        "/explain",
        summary="The risk for one encounter, and its reasons",
        response_model=Explained,
        responses={
            **({} if example is None else {200: openapi.response_example(example)}),
            **RESPONSES,
            **UNEXPLAINED,
        },
        openapi_extra=body_of_one(bundle),
    )
    async def explain_one(request: Request) -> Response:
        return await respond(request, service, explain)


@cache
def reason_of(feature: str) -> tuple[str, tuple[str, ...]]:
    """Return the name of a feature for people and the fields that it is made from. Features of the same fields are one reason."""
    fields = columns_of(feature)
    return _SUMS.get(feature) or ", together with: ".join(BY_FIELD[field].description for field in fields), fields


def explain(bundle: Bundle, record: Mapping[str, Value]) -> dict[str, Any]:
    """Return the fields of `Explained` for an encounter, except those that name the model and the request.

    Raises:
        ProblemError: the bundle contains no explainer (501).
    """
    features = bundle.encode(record)
    explanation = bundle.explain(features)
    if explanation is None:
        raise ProblemError(501, "This model version was built without explanations. Train a new one.")
    sums: dict[tuple[str, tuple[str, ...]], float] = {}
    for feature, contribution in zip(bundle.encoder.feature_names, explanation.contributions.tolist(), strict=True):
        reason = reason_of(feature)
        sums[reason] = sums.get(reason, 0.0) + contribution
    strongest_first = sorted(sums.items(), key=lambda item: -abs(item[1]))
    return {
        **classified(bundle, bundle.risk(record)),
        "log_odds": explanation.expected + float(explanation.contributions.sum()),
        "expected_log_odds": explanation.expected,
        "expected_risk": float(1 / (1 + np.exp(-explanation.expected))),
        "reasons": [
            {"name": name, "fields": fields, "contribution": contribution}
            for (name, fields), contribution in strongest_first
        ],
    }
