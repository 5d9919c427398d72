"""Describe one stay as a record of the contract. `rules.RULES` states every rule and its source."""

from __future__ import annotations

from datetime import datetime

from healthpredict.fhir.administrative import (
    describe_admission,
    describe_payer,
    describe_person,
    describe_specialty,
)
from healthpredict.fhir.clinical import (
    count_services,
    count_visits,
    describe_diagnoses,
    describe_drugs,
    describe_laboratory,
    describe_weight,
)
from healthpredict.fhir.dates import Moment
from healthpredict.fhir.description import Description
from healthpredict.fhir.history import History
from healthpredict.fhir.ids import encounter_id_of, patient_id_of
from healthpredict.fhir.stays import Stay


def describe(history: History, stay: Stay, now: datetime | None = None) -> Description:
    """Describe a stay.

    Args:
        history: of the person.
        stay: one of its stays.
        now: with time zone. A stay that has not ended is counted until then; without it, there is no prediction.
    """
    found = Description()
    until = stay.end or (None if now is None else Moment(now, now.date(), exact=True))
    if until is None:
        found.obstacles.append("The stay has no end, and no current time was given.")
        until = stay.start
    elif stay.end is None:
        found.unknown["time_in_hospital"] = "the stay has not ended; its days until now count"
    patient = history.patient_of(stay)
    if patient is None:
        found.obstacles.append("The Patient of the stay was not delivered.")
    found.record["encounter_id"] = encounter_id_of(stay.last)
    found.record["patient_id"] = patient_id_of(patient) if patient else None
    describe_person(found, patient, stay)
    describe_weight(found, history, stay, until)
    describe_admission(found, history, stay, until, patient)
    describe_payer(found, history, stay)
    describe_specialty(found, history, stay)
    count_services(found, history, stay, until)
    count_visits(found, history, stay)
    describe_diagnoses(found, history, stay, until)
    describe_laboratory(found, history, stay, until)
    describe_drugs(found, history, stay, until)
    return found
