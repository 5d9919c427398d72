"""Find the index admissions of a person, and whether a readmission followed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date
from typing import Final

from healthpredict.data.import_params import ImportParams
from healthpredict.fhir.description import Description
from healthpredict.fhir.diagnoses import has_diabetes, read_diagnoses
from healthpredict.fhir.history import History
from healthpredict.fhir.planned import is_medical_cancer, is_planned, is_psychiatric, is_rehabilitation
from healthpredict.fhir.record import describe
from healthpredict.fhir.stays import Stay

_AGAINST_ADVICE: Final = "7"
_ACUTE_HOSPITAL: Final = "2"

NOT_ACUTE = "not acute care (class NONAC, or skilled nursing)"
NO_END = "no end: unfinished, or its end names no day"
NO_DIABETES = "no diagnosis of diabetes until discharge"
NO_DIAGNOSIS = "no diagnosis was recorded for the stay"
AGAINST_ADVICE = "ended against medical advice"
TRANSFERRED = "ended with a transfer to another acute hospital"
PSYCHIATRIC = "psychiatric principal diagnosis"
REHABILITATION = "rehabilitation"
CANCER = "medical treatment of cancer"
NO_FOLLOW_UP = "too close to the end of the export"
DEATH_WITHOUT_DATE = "the patient died, but the date is not known"


@dataclass(frozen=True, slots=True)
class Admission:
    """An index admission.

    Attributes:
        stay: the stay.
        description: its record, and what is not known about it.
        readmitted: the contract's outcome, or None if it is not known yet.
        no_outcome: why it is not known, or None.
        planned: whether a planned readmission was not counted.
    """

    stay: Stay
    description: Description
    readmitted: str | None
    no_outcome: str | None
    planned: bool


@dataclass(frozen=True, slots=True)
class Admissions:
    """The stays of a person.

    Attributes:
        index: index admissions in the order of their start.
        left_out: why a stay is none -> number of stays.
    """

    index: list[Admission]
    left_out: Counter[str]


def find_admissions(history: History, params: ImportParams, last_day: date) -> Admissions:
    """Return the index admissions of a person. Args: last_day, until when the export reports encounters."""
    found, left_out = [], Counter[str]()
    for stay in history.stays:
        reason = _unfit(history, stay, params)
        if reason is None:
            description = describe(history, stay)
            reason = _excluded(history, stay, description, params)
            if reason is None:
                found.append(_with_outcome(history, stay, description, params, last_day))
        if reason is not None:
            left_out[reason] += 1
    return Admissions(found, left_out)


def _unfit(history: History, stay: Stay, params: ImportParams) -> str | None:
    if not stay.acute:
        return NOT_ACUTE
    if stay.end is None:
        return NO_END
    if params.require_diabetes and not has_diabetes(history, stay):
        return NO_DIABETES
    return None


def _excluded(history: History, stay: Stay, description: Description, params: ImportParams) -> str | None:
    if params.require_diagnosis and not description.own_diagnosis:
        return NO_DIAGNOSIS
    if description.obstacles:
        return description.obstacles[0]
    disposition = description.record["discharge_disposition_id"]
    if params.exclude_against_advice and disposition == _AGAINST_ADVICE:
        return AGAINST_ADVICE
    if params.exclude_transferred and disposition == _ACUTE_HOSPITAL:
        return TRANSFERRED
    principal = description.principal
    if params.exclude_psychiatric and is_psychiatric(principal):
        return PSYCHIATRIC
    if params.exclude_rehabilitation and is_rehabilitation(principal):
        return REHABILITATION
    assert stay.end is not None
    if params.exclude_cancer and is_medical_cancer(principal, history.procedures.of(stay, stay.end)):
        return CANCER
    return None


def _with_outcome(
    history: History, stay: Stay, description: Description, params: ImportParams, last_day: date
) -> Admission:
    """Add the outcome. If the first readmission is planned, later ones within the days do not count either, as in CMS's measure."""
    assert stay.end is not None
    later = [other for other in history.stays if other.acute and other.start.time > stay.start.time]
    days = [(other.start.day - stay.end.day).days for other in later]
    planned = False
    if days and days[0] <= params.readmission_days:
        planned = params.planned_readmissions and _is_planned(history, later[0])
        if not planned:
            return Admission(stay, description, "<30", None, planned=False)
    followed = (last_day - stay.end.day).days
    patient = history.patient_of(stay)
    if patient is not None and patient.deceasedBoolean and not patient.deceasedDateTime and not later:
        return Admission(stay, description, None, DEATH_WITHOUT_DATE, planned)
    if followed < params.readmission_days:
        return Admission(stay, description, None, NO_FOLLOW_UP, planned)
    after = any(params.readmission_days < day <= params.later_days for day in days)
    return Admission(stay, description, ">30" if after else "NO", None, planned)


def _is_planned(history: History, stay: Stay) -> bool:
    until = stay.end or stay.start
    diagnoses = read_diagnoses(history, stay, until)
    return is_planned(diagnoses.first if diagnoses.own else None, history.procedures.of(stay, until))
