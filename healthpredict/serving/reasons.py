"""The reasons for a risk: what each column, or two columns together, add to it."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np
from pydantic import BaseModel

from healthpredict.bundle.model import Bundle
from healthpredict.data.contract import BY_FIELD
from healthpredict.features.encoder import Value
from healthpredict.features.sources import LEVEL_SOURCES, MEDICATION_FIELDS, PRIOR_VISITS
from healthpredict.serving.answers import Prediction, classified
from healthpredict.serving.problems import Refused

_SUMS: Final = {
    "prior_visits": ("All visits in the year before the encounter", PRIOR_VISITS),
    "medications_given": ("Diabetes drugs given, their number", MEDICATION_FIELDS),
    "medications_changed": ("Diabetes drugs with a changed dosage, their number", MEDICATION_FIELDS),
}
_COLUMN_OF: Final = {"age_years": "age", **{source.name: source.column for source in LEVEL_SOURCES}}


class Reason(BaseModel):
    """What one column, or several together, add to the risk.

    Attributes:
        name: in plain words.
        fields: of the encounter, that it is made from.
        contribution: added to the log-odds; above 0 it raises the risk.
    """

    name: str
    fields: tuple[str, ...]
    contribution: float


class Explained(Prediction):
    """A risk and its reasons: `expected_log_odds` and all contributions add up to `log_odds`.

    Attributes:
        log_odds: ln(risk / (1 - risk)), within 1e-4 in the risk.
        expected_log_odds: where nothing of the encounter is known.
        expected_risk: the same as a risk (0-1).
        reasons: the strongest first, in either direction.
    """

    log_odds: float
    expected_log_odds: float
    expected_risk: float
    reasons: list[Reason]


@cache
def reason_of(feature: str) -> tuple[str, tuple[str, ...]]:
    """Return the name of a feature for people and the fields that it is made from. Features of the same fields are one reason."""
    if feature in _SUMS:
        return _SUMS[feature]
    fields = tuple(dict.fromkeys(_COLUMN_OF.get(part, part) for part in feature.split(" x ")))
    return ", together with: ".join(BY_FIELD[field].description for field in fields), fields


def explain(bundle: Bundle, record: dict[str, Value]) -> dict[str, Any]:
    """Return the fields of `Explained` for an encounter, except those that name the model and the request.

    Raises:
        Refused: the bundle contains no explainer (501).
    """
    features = bundle.encode(record)
    explanation = bundle.explain(features)
    if explanation is None:
        raise Refused(501, "This model version was built without explanations. Train a new one.")
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
