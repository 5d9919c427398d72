"""The card that a clinician sees (CDS Hooks 2.0, "Card Attributes")."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from healthpredict.bundle.manifest import Manifest
from healthpredict.cds_hooks_params import CdsHooksParams, Suggestion
from healthpredict.features.encoder import Value
from healthpredict.serving.cds_hooks.phrases import columns_of, name_of, phrase_of

OVERRIDE_SYSTEM: Final = "urn:health-predict:override-reason"
"""EHRs send it back with feedback, so it must not change."""
_REASONS: Final = 5
_WITHIN: Final = {"within_30_days": "within 30 days", "any": "at any time"}


@dataclass(frozen=True)
class Subject:
    """What a card is about.

    Attributes:
        patient_id: FHIR id of the patient.
        encounter_id: FHIR id of the encounter.
        record: its values by `Column.field`.
        unknown: fields whose values are not known.
    """

    patient_id: str
    encounter_id: str | None
    record: Mapping[str, Value]
    unknown: Sequence[str]


def make_card(
    subject: Subject, explained: Mapping[str, Any], manifest: Manifest, params: CdsHooksParams, card_id: uuid.UUID
) -> dict[str, Any]:
    """Return a card.

    Args:
        subject: what it is about.
        explained: fields of `reasons.Explained`, without those that identify the request.
        manifest: of the bundle that predicted.
        params: of the hospital.
        card_id: `uuid` of the card. Feedback names it.
    """
    high = explained["high_risk"]
    card: dict[str, Any] = {
        "uuid": str(card_id),
        "summary": _summary(explained, manifest, params),
        "indicator": _indicator(explained, params),
        "detail": _detail(subject, explained, manifest),
        "source": _source(manifest, params),
        "overrideReasons": [
            {"code": reason.code, "system": OVERRIDE_SYSTEM, "display": reason.display}
            for reason in params.override_reasons
        ],
    }
    if high and params.suggestions:
        card["suggestions"] = [_suggestion(each, subject, card_id) for each in params.suggestions]
        card["selectionBehavior"] = "any"
    return card


def suggestion_id(card_id: uuid.UUID, suggestion: Suggestion) -> str:
    """Return the `uuid` of a suggestion of a card. It is computed from both, so no card has to be stored.

    EHRs send it back with feedback, so its computation must not change.
    """
    return str(uuid.uuid5(card_id, f"{suggestion.system}|{suggestion.code}"))


def _summary(explained: Mapping[str, Any], manifest: Manifest, params: CdsHooksParams) -> str:
    level = "high" if explained["high_risk"] else "not high"
    return (
        f"Readmission {_WITHIN[manifest.outcome]}: {explained['readmission_risk']:.0%} risk, {level}. "
        f"Of {params.population}, {manifest.test.evaluation.prevalence:.0%} return."
    )


def _indicator(explained: Mapping[str, Any], params: CdsHooksParams) -> str:
    if params.critical_risk is not None and explained["readmission_risk"] >= params.critical_risk:
        return "critical"
    return "warning" if explained["high_risk"] else "info"


def _detail(subject: Subject, explained: Mapping[str, Any], manifest: Manifest) -> str:
    risk, threshold = explained["readmission_risk"], manifest.threshold
    side = "at or above" if explained["high_risk"] else "below"
    unknown = [name_of(column) for column in columns_of(tuple(subject.unknown))]
    lines = [
        f"The risk of {risk:.1%} is {side} the threshold of {threshold:.1%}.",
        "",
        "**The strongest reasons**",
        "",
        *(f"{i}. {each}" for i, each in enumerate(_strongest(explained, subject.record), start=1)),
        "",
        f"**Not known for this prediction:** {'; '.join(unknown) or 'nothing'}.",
        "",
        "A prediction from routine data. It does not replace clinical judgement.",
    ]
    return "\n".join(lines)


def _strongest(explained: Mapping[str, Any], record: Mapping[str, Value]) -> list[str]:
    """Return a phrase for each column with a large contribution. Columns that contribute together share it equally."""
    sums: dict[str, float] = {}
    for reason in explained["reasons"]:
        columns = columns_of(reason["fields"])
        for column in columns:
            sums[column] = sums.get(column, 0.0) + reason["contribution"] / len(columns)
    strongest = sorted(sums.items(), key=lambda item: -abs(item[1]))[:_REASONS]
    return [f"{phrase_of(column, record)} ({_effect(contribution)})" for column, contribution in strongest]


def _effect(contribution: float) -> str:
    percent = abs(math.expm1(contribution))
    return f"{'raises' if contribution > 0 else 'lowers'} the odds by {percent:.0%}"


def _source(manifest: Manifest, params: CdsHooksParams) -> dict[str, Any]:
    source = {"label": f"Health Predict, model version {manifest.model_version}"}
    if params.base_url is not None:
        source["url"] = f"{params.base_url.rstrip('/')}/model/card"
    return source


def _suggestion(suggestion: Suggestion, subject: Subject, card_id: uuid.UUID) -> dict[str, Any]:
    coding = {"system": suggestion.system, "code": suggestion.code, "display": suggestion.display}
    order: dict[str, Any] = {
        "resourceType": "ServiceRequest",
        "status": "draft",
        "intent": "proposal",
        "code": {"coding": [coding], "text": suggestion.display},
        "subject": {"reference": f"Patient/{subject.patient_id}"},
    }
    if subject.encounter_id is not None:
        order["encounter"] = {"reference": f"Encounter/{subject.encounter_id}"}
    return {
        "label": suggestion.label,
        "uuid": suggestion_id(card_id, suggestion),
        "isRecommended": True,
        "actions": [{"type": "create", "description": suggestion.label, "resource": order}],
    }
