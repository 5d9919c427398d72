"""Shifts to plant into batches without drift."""

from __future__ import annotations

from healthpredict.data.plant import Shift

STRENGTHS = (0.1, 0.25, 0.5)
"""Share of the encounters that a shift changes, or what corresponds to it."""


def shift(name: str, strength: float) -> Shift:
    """One of `SHIFTS` at a strength. The share is halved if encounters are replaced, and doubled if columns are exchanged."""
    of = SHIFTS[name]
    factor = {"more_of": 0.5, "exchange": 2.0}.get(of.kind, 1.0)
    return of.model_copy(update={"strength": min(1.0, factor * strength)})


SHIFTS: dict[str, Shift] = {
    "more inpatient visits": Shift(kind="add", columns=("number_inpatient",), value=1.0),
    "longer stays": Shift(kind="add", columns=("time_in_hospital",), value=2.0),
    "laboratory tests in other units": Shift(kind="scale", columns=("num_lab_procedures",), value=1.5),
    "more drugs": Shift(kind="scale", columns=("num_medications",), value=1.3),
    "payer not entered": Shift(kind="set", columns=("payer_code",)),
    "new payer": Shift(kind="set", columns=("payer_code",), value="ZZ"),
    "specialty not entered": Shift(kind="set", columns=("medical_specialty",)),
    "A1C measured": Shift(kind="set", columns=("A1Cresult",), value=">8"),
    "insulin stopped": Shift(kind="set", columns=("insulin",), value="No"),
    "other diagnosis": Shift(kind="set", columns=("diag_1",), value="428"),
    "older patients": Shift(kind="more_of", columns=("age",), value="[80-90)"),
    "sent to nursing homes": Shift(kind="more_of", columns=("discharge_disposition_id",), value="3"),
    "joint: age and visits": Shift(kind="exchange", columns=("age", "number_inpatient")),
    "joint: disposition and diagnosis": Shift(kind="exchange", columns=("discharge_disposition_id", "diag_1")),
    "joint: days and drugs": Shift(
        kind="exchange", columns=("time_in_hospital", "num_medications", "num_lab_procedures")
    ),
    # These ten were added when the limits and methods of ours were final, and before any detector was run on them.
    "joint: race and payer": Shift(kind="exchange", columns=("race", "payer_code")),
    "joint: gender and specialty": Shift(kind="exchange", columns=("gender", "medical_specialty")),
    "joint: A1C and insulin": Shift(kind="exchange", columns=("A1Cresult", "insulin")),
    "joint: admission type and source": Shift(kind="exchange", columns=("admission_type_id", "admission_source_id")),
    "joint: secondary diagnoses": Shift(kind="exchange", columns=("diag_2", "diag_3")),
    "joint: emergency and outpatient visits": Shift(kind="exchange", columns=("number_emergency", "number_outpatient")),
    "joint: diagnoses and laboratory tests": Shift(kind="exchange", columns=("number_diagnoses", "num_lab_procedures")),
    "joint: metformin and change of drugs": Shift(kind="exchange", columns=("metformin", "change", "diabetesMed")),
    "joint: procedures, specialty and diagnosis": Shift(
        kind="exchange", columns=("num_procedures", "medical_specialty", "diag_1")
    ),
    "joint: age, days and disposition": Shift(
        kind="exchange", columns=("age", "time_in_hospital", "discharge_disposition_id")
    ),
}
