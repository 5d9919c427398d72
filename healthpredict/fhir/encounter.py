"""From FHIR R4 resources to an encounter of the contract."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from healthpredict.data.contract import RECORD_COLUMNS
from healthpredict.fhir.chart import REPEATED, Chart
from healthpredict.fhir.dates import read_moment
from healthpredict.fhir.decode import Sent, structs_of
from healthpredict.fhir.description import Value
from healthpredict.fhir.diagnoses import has_diabetes
from healthpredict.fhir.history import History
from healthpredict.fhir.persons import Persons
from healthpredict.fhir.record import describe
from healthpredict.fhir.references import target
from healthpredict.fhir.resources import (
    AnyResource,
    Encounter,
    Medication,
    Patient,
    PractitionerRole,
    subject_of,
)
from healthpredict.fhir.stays import Stay, class_of
from healthpredict.fhir.terminology import Terminology

TRANSFER_DAYS: Final = 1
"""CMS counts an admission on the day of a discharge or the next as a transfer."""
OTHER_PATIENT: Final = "is about another patient, or about nobody"
_NOT_FILTERED: Final = frozenset({Patient, Medication, PractitionerRole})
_FIELDS: Final = tuple(column.field for column in RECORD_COLUMNS)
_DEFAULT: Final = Terminology()


@dataclass(frozen=True, slots=True)
class Reading:
    """What FHIR resources say about a stay.

    Attributes:
        record: `Column.field` -> value for every column but the outcome, or None if there is no prediction.
        no_prediction: why there is none, in sentences; empty if there is a record.
        unknown: field -> why its value cannot be known. The record has what `rules.RULES` says: null, or the contract's value for
            it.
        limited: field -> why its value was limited to the contract's range.
        unknown_codes: `system|code` -> number of times that the stay uses a code that is not known.
        left_out: `Type: reason` -> number of resources that do not count.
    """

    record: dict[str, Value] | None
    no_prediction: tuple[str, ...] = ()
    unknown: dict[str, str] = field(default_factory=dict)
    limited: dict[str, str] = field(default_factory=dict)
    unknown_codes: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)


def encounter_from_fhir(
    resources: Iterable[Sent],
    *,
    encounter_id: str | None = None,
    now: datetime | None = None,
    terminology: Terminology = _DEFAULT,
) -> Reading:
    """Read the record of one inpatient stay from FHIR R4 resources.

    Args:
        resources: resources and Bundles of them, in any order: plain JSON objects, structs of `fhir.resources`, or JSON text
            (bytes or `msgspec.Raw`), which is the fastest. Types that are not needed are counted and ignored. A malformed resource
            is left out and listed.
        encounter_id: `Encounter.id` of the stay. Without it, the only stay that has not ended counts, else the only one.
        now: the current time with time zone, for a stay that has not ended.
        terminology: by default with the table of `fhir.snomed`; with a hospital's own map if it has one. Create one per process.

    Returns:
        The record, or the reasons why there is no prediction.
    """
    chart = Chart(terminology)
    left_out: Counter[str] = Counter()
    seen: set[tuple[type, str]] = set()
    others: list[AnyResource] = []
    for resource in structs_of(resources, left_out):
        kind = type(resource)
        if resource.id is not None:
            key = (kind, resource.id)
            if key in seen:
                left_out[f"{kind.__name__}: {REPEATED}"] += 1
                continue
            seen.add(key)
        if kind in _NOT_FILTERED:
            chart.add(resource)
        else:
            others.append(resource)
    return _read(chart, others, left_out, encounter_id, now)


def _read(
    chart: Chart,
    others: list[AnyResource],
    left_out: Counter[str],
    encounter_id: str | None,
    now: datetime | None,
) -> Reading:
    persons = Persons()
    for patient in chart.patients.values():
        persons.link(patient.id, patient.link)
    named = _patient_of(others, encounter_id, chart.patients)
    person = None if named is None else persons.of(named)
    for resource in others:
        subject = target(subject_of(resource))
        if subject is not None and persons.of(subject) == person:
            chart.add(resource)
        else:
            left_out[f"{type(resource).__name__}: {OTHER_PATIENT}"] += 1
    left_out.update({f"{kind}: {reason}": number for (kind, reason), number in chart.left_out.items()})
    if chart.wrong_version is not None:
        return _none([f"The resources are not FHIR R4 but {chart.wrong_version}. Send FHIR R4 (4.0.1)."], left_out)
    history = History(chart, TRANSFER_DAYS)
    stay, problem = _choose(history, encounter_id)
    if stay is None:
        return _none([problem], left_out)
    found = describe(history, stay, now)
    reasons = [*_scope(history, stay, now), *found.obstacles]
    return Reading(
        None if reasons else {name: found.record[name] for name in _FIELDS},
        tuple(reasons),
        found.unknown,
        found.limited,
        dict(found.unknown_codes),
        dict(left_out),
    )


def _none(reasons: list[str], left_out: Counter[str]) -> Reading:
    return Reading(None, tuple(reasons), left_out=dict(left_out))


def _patient_of(resources: list[AnyResource], encounter_id: str | None, patients: Collection[str]) -> str | None:
    """Return the id of the patient of the named encounter, else of the only patient."""
    if encounter_id is not None:
        for resource in resources:
            if resource.id == encounter_id and isinstance(resource, Encounter):
                return target(subject_of(resource))
    if len(patients) == 1:
        return next(iter(patients))
    subjects = {target(subject_of(resource)) for resource in resources} - {None}
    return subjects.pop() if len(subjects) == 1 else None


def _choose(history: History, encounter_id: str | None) -> tuple[Stay | None, str]:
    """Return the stay to describe, or None and the reason why there is none."""
    stays = history.stays
    if encounter_id is not None:
        named = history.chart.encounters.get(encounter_id)
        if named is None:
            return None, "The Encounter of the request was not delivered, or it was cancelled."
        for stay in stays:
            if encounter_id in stay.ids:
                return stay, ""
        if class_of(named) is None or not (named.period and read_moment(named.period.start)):
            return None, "The Encounter of the request has no class, or no period whose start names a day."
        return None, f"The Encounter of the request is not an inpatient one; its class is {class_of(named)}."
    acute = [stay for stay in stays if stay.acute]
    if not acute:
        return (
            None,
            "There is no acute inpatient Encounter whose start names a day, or there are several patients.",
        )
    open_stays = [stay for stay in acute if stay.end is None]
    candidates = open_stays or acute
    if len(candidates) > 1:
        return None, f"There are {len(candidates)} inpatient stays. Name the Encounter of the discharge."
    return candidates[0], ""


def _scope(history: History, stay: Stay, now: datetime | None) -> list[str]:
    """Return why a patient is out of scope: deceased, or without diabetes."""
    reasons = []
    patient = history.patient_of(stay)
    end = stay.end
    died = read_moment(patient.deceasedDateTime) if patient else None
    if patient is not None and (patient.deceasedBoolean or patient.deceasedDateTime):
        until = end.day if end else now.date() if now else None
        if died is None or until is None or died.day <= until:
            reasons.append("The patient is deceased.")
    if not has_diabetes(history, stay):
        reasons.append("The patient has no diagnosis of diabetes until the end of the stay: out of scope.")
    return reasons
