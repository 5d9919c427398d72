"""From FHIR R4 resources to an encounter of the contract."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from healthpredict.data.contract import RECORD_COLUMNS
from healthpredict.fhir.chart import REPEATED, Chart
from healthpredict.fhir.dates import read_moment
from healthpredict.fhir.description import Value
from healthpredict.fhir.diagnoses import names_condition
from healthpredict.fhir.history import History
from healthpredict.fhir.record import describe
from healthpredict.fhir.references import target
from healthpredict.fhir.resources import (
    NOT_READ,
    TYPES,
    AnyResource,
    Bundle,
    Encounter,
    Medication,
    Patient,
    PractitionerRole,
    subject_of,
)
from healthpredict.fhir.stays import Stay, class_of
from healthpredict.fhir.terminology import Terminology

TRANSFER_HOURS: Final = 24.0
"""CMS counts an admission on the day of a discharge or the next as a transfer."""
OTHER_PATIENT: Final = "is about another patient, or about nobody"
_DEEPEST: Final = 16
_NOT_FILTERED: Final = frozenset({Patient, Medication, PractitionerRole})
_FIELDS: Final = tuple(column.field for column in RECORD_COLUMNS)
_DEFAULT: Final = Terminology()
_URN: Final = "urn:uuid:"
_read_typed: Final = msgspec.json.Decoder(AnyResource | Bundle).decode
Sent = Mapping[str, Any] | AnyResource | bytes | msgspec.Raw


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
    for resource in _structs(resources, left_out, 0):
        if resource.id is not None:
            key = (type(resource), resource.id)
            if key in seen:
                left_out[f"{type(resource).__name__}: {REPEATED}"] += 1
                continue
            seen.add(key)
        if type(resource) in _NOT_FILTERED:
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
    persons = _persons(chart.patients)
    person = _person_of(others, encounter_id, chart.patients)
    ids = persons.get(person or "", {person} if person else set())
    for resource in others:
        if target(subject_of(resource)) in ids:
            chart.add(resource)
        else:
            left_out[f"{type(resource).__name__}: {OTHER_PATIENT}"] += 1
    left_out.update({f"{kind}: {reason}": number for (kind, reason), number in chart.left_out.items()})
    if chart.wrong_version is not None:
        return _none([f"The resources are not FHIR R4 but {chart.wrong_version}. Send FHIR R4 (4.0.1)."], left_out)
    history = History(chart, TRANSFER_HOURS)
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


def _structs(resources: Iterable[Sent], left_out: Counter[str], depth: int) -> Iterator[AnyResource]:
    """Yield every resource that is needed, also those of Bundles."""
    for sent in resources:
        if isinstance(sent, bytes | msgspec.Raw):
            decoded = _decode(sent, left_out)
            if isinstance(decoded, Bundle):
                yield from _entries(decoded)
                continue
            resource = decoded
        else:
            resource = sent
        if resource is None:
            continue
        if isinstance(resource, Struct):
            yield resource
            continue
        kind = resource.get("resourceType")
        if kind == "Bundle":
            if depth >= _DEEPEST:
                left_out["Bundle: is nested too deeply"] += 1
                continue
            entries = resource.get("entry")
            inner = [
                _named(entry) for entry in (entries if isinstance(entries, list) else ()) if isinstance(entry, Mapping)
            ]
            yield from _structs([item for item in inner if item is not None], left_out, depth + 1)
            continue
        struct = TYPES.get(kind) if isinstance(kind, str) else None
        if struct is None:
            left_out[f"{kind if isinstance(kind, str) else 'no resourceType'}: {NOT_READ}"] += 1
            continue
        try:
            yield msgspec.convert(resource, struct)
        except msgspec.ValidationError as error:
            left_out[f"{kind}: malformed ({error})"] += 1


def _decode(sent: bytes | msgspec.Raw, left_out: Counter[str]) -> AnyResource | Bundle | Mapping[str, Any] | None:
    """Decode JSON into structs, or into plain values if a resource is malformed or of a type that is not needed."""
    try:
        typed: AnyResource | Bundle = _read_typed(sent)
        return typed
    except msgspec.ValidationError:
        pass
    except msgspec.DecodeError:
        left_out["no resource: the JSON is malformed"] += 1
        return None
    plain = msgspec.json.decode(sent)
    if isinstance(plain, dict):
        found: Mapping[str, Any] = plain
        return found
    if plain is not None:
        left_out["no resource: the JSON is no object"] += 1
    return None


def _entries(bundle: Bundle) -> Iterator[AnyResource]:
    """Yield the resources of a Bundle, with the ids by which other entries refer to them."""
    for entry in bundle.entry:
        if entry.resource is None:
            continue
        url = entry.full_url or ""
        if url.startswith(_URN) and entry.resource.id != url[len(_URN) :]:
            yield msgspec.structs.replace(entry.resource, id=url[len(_URN) :])
        else:
            yield entry.resource


def _named(entry: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the resource of an entry of a Bundle, with the id by which other entries refer to it."""
    resource, url = entry.get("resource"), entry.get("fullUrl")
    if not isinstance(resource, Mapping):
        return None
    if isinstance(url, str) and url.startswith(_URN) and resource.get("id") != url[len(_URN) :]:
        return {**resource, "id": url[len(_URN) :]}
    return resource


def _persons(patients: Mapping[str, Patient]) -> dict[str, set[str]]:
    """Return the ids of all Patient resources of the same person, for each id. Links may form cycles."""
    groups: dict[str, set[str]] = {key: {key} for key in patients}
    for key, patient in patients.items():
        for link in patient.link:
            other = target(link.other)
            if other is not None and groups.get(other) is not groups[key]:
                merged = groups[key] | groups.get(other, {other})
                for member in merged:
                    groups[member] = merged
    return groups


def _person_of(resources: list[AnyResource], encounter_id: str | None, patients: Mapping[str, Patient]) -> str | None:
    """Return the patient of the named encounter, else the only patient."""
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
        return None, "There is no inpatient Encounter of one patient with a start that names a day."
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


def has_diabetes(history: History, stay: Stay) -> bool:
    """Return whether any condition of the person until the end of a stay, or a reason of the stay, is diabetes."""
    last = stay.end.day if stay.end else None
    for problem in history.problems:
        if not problem.diagnosis.is_diabetes:
            continue
        if problem.start is None or last is None or problem.start.day <= last:
            return True
        # Diagnoses of a stay are often recorded after its end.
        if target(problem.condition.encounter) in stay.ids or names_condition(stay, problem.condition.id):
            return True
    diagnosis = history.chart.terminology.diagnosis
    return any(diagnosis(concept).is_diabetes for encounter in stay.encounters for concept in encounter.reason_code)
