"""Describe drift for clinicians."""

from __future__ import annotations

from typing import Final

from healthpredict.monitoring.data_drift import ColumnDrift
from healthpredict.monitoring.distances import MISSING, OTHER, Method
from healthpredict.monitoring.profile import RISK

_NAMES: Final = {
    RISK: "predicted risk",
    "number_inpatient": "earlier inpatient visits",
    "number_emergency": "earlier emergency visits",
    "number_outpatient": "earlier outpatient visits",
    "num_lab_procedures": "laboratory tests",
    "num_medications": "number of drugs",
    "num_procedures": "procedures",
    "number_diagnoses": "number of diagnoses",
    "time_in_hospital": "days in hospital",
    "diag_1": "primary diagnosis",
    "diag_2": "second diagnosis",
    "diag_3": "third diagnosis",
    "A1Cresult": "haemoglobin A1c",
    "diabetesMed": "diabetes medication",
    "change": "change of medication",
}
_UNNAMED: Final = {MISSING: "missing", OTHER: "other"}


def name_of(column: str) -> str:
    """Return a column's name for people, such as "payer code" for `payer_code`."""
    return _NAMES.get(column) or column.removesuffix("_id").replace("_", " ")


def describe(drift: ColumnDrift) -> str:
    """Return a phrase with the name of the column, how it changed, and its score and limit."""
    score, limit = (f"{100 * value:.1f}" for value in (drift.score, drift.threshold))
    name = name_of(drift.column)
    match drift.method:
        case Method.MISSING:
            return f"{name} missing in {score} more or fewer of 100 encounters (limit {limit})"
        case Method.UNSEEN:
            return f"{name} rare or new in {score} more of 100 encounters (limit {limit})"
        case Method.ONE_CATEGORY:
            return f"{name} {_UNNAMED.get(drift.category or '', drift.category)} ({measured(drift)})"
        case Method.ASSOCIATION | Method.ATTENUATION:
            return f"{name} with {name_of(drift.partner or '')} ({measured(drift)})"
        case _:
            return f"{name} ({measured(drift)})"


def measured(drift: ColumnDrift) -> str:
    """Return the score and its limit."""
    return f"distance {drift.score:.3f}, limit {drift.threshold:.3f}"
