"""Describe one stay as a record of the contract. `rules.RULES` states every rule and its source."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from healthpredict.data.code_lists import race_of
from healthpredict.data.contract import AGE_BANDS, BY_FIELD, LARGEST_ID, MEDICATIONS
from healthpredict.fhir.chart import DRUGS, PROCEDURES, RESULTS, VISITS
from healthpredict.fhir.dates import Moment, age_range, read_moment
from healthpredict.fhir.diagnoses import read_diagnoses
from healthpredict.fhir.doses import dose_change
from healthpredict.fhir.drugs import antidiabetics, drug_key
from healthpredict.fhir.history import History, visits_before
from healthpredict.fhir.measurements import Measured, read_a1c, read_glucose, read_weight
from healthpredict.fhir.references import target
from healthpredict.fhir.resources import NO_PERIOD, Encounter, Identifier, Patient
from healthpredict.fhir.rules import (
    ADMISSION_HOURS,
    ADMITTERS,
    EARLIER_ORDERS_DAYS,
    LOCAL,
    YEAR_DAYS,
)
from healthpredict.fhir.stays import Stay
from healthpredict.fhir.terminology import Diagnosis

RACE_EXTENSIONS: Final = (
    "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race",
    "http://hl7.org/fhir/us/core/StructureDefinition/us-core-ethnicity",
)
_GENDERS: Final = {"female": "Female", "male": "Male", "other": "Unknown/Invalid", "unknown": "Unknown/Invalid"}
_UNKNOWN_GENDER: Final = "Unknown/Invalid"
_NO_TYPE: Final = "6"
_NO_DISPOSITION: Final = "18"
_NO_SOURCE: Final = "17"
_EXPIRED: Final = "11"
_EMERGENCY_ROOM: Final = "7"
_NO_ORDER: Final = 2**31
_EPOCH: Final = datetime(1900, 1, 1, tzinfo=UTC)
_HASH_BITS: Final = 35
_MINUTE_BITS: Final = 28

Value = str | int | None


@dataclass(slots=True)
class Description:
    """A stay as a record.

    Attributes:
        record: `Column.field` -> value, for every column but the outcome.
        unknown: field -> why its value cannot be known. The record then has what `rules.RULES` says.
        limited: field -> why its value was limited to the contract's range.
        unknown_codes: `system|code` -> number of times that the stay uses a code that is not known.
        obstacles: why there is no prediction, in sentences. The record is then incomplete.
        own_diagnosis: whether any diagnosis was recorded for the stay itself.
        principal: the first diagnosis, or None.
    """

    record: dict[str, Value] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    limited: dict[str, str] = field(default_factory=dict)
    unknown_codes: Counter[str] = field(default_factory=Counter)
    obstacles: list[str] = field(default_factory=list)
    own_diagnosis: bool = False
    principal: Diagnosis | None = None


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
    record = found.record
    record["encounter_id"] = encounter_id_of(stay.last)
    record["patient_id"] = patient_id_of(patient) if patient else None
    _describe_person(found, patient, stay)
    _measure(found, history, "weight", read_weight(history.measured["weight"].of(stay, until)))
    _describe_admission(found, history, stay, until, patient)
    _describe_payer(found, history, stay)
    _describe_specialty(found, history, stay)
    _count_services(found, history, stay, until)
    _count_visits(found, history, stay)
    _describe_diagnoses(found, history, stay, until)
    for name, read in (("max_glu_serum", read_glucose), ("A1Cresult", read_a1c)):
        _measure(found, history, name, read(history.measured[name].of(stay, until)))
        if not history.laboratory and RESULTS not in history.chart.delivered and name not in found.unknown:
            found.unknown[name] = f"no {RESULTS} was delivered"
    _describe_drugs(found, history, stay, until)
    return found


def encounter_id_of(encounter: Encounter) -> int:
    """Return `encounter_id`, see `rules.RULES`."""
    known = _local_identifier(encounter.identifier, "encounter_id")
    if known is not None:
        return known
    start = read_moment((encounter.period or NO_PERIOD).start)
    minutes = int((start.time - _EPOCH).total_seconds() // 60) if start else 0
    within = max(0, min(minutes, (1 << _MINUTE_BITS) - 1))
    return (within << _HASH_BITS | _digest(encounter.id or "") >> (63 - _HASH_BITS)) or 1


def patient_id_of(patient: Patient) -> int:
    """Return `patient_id`, see `rules.RULES`."""
    known = _local_identifier(patient.identifier, "patient_id")
    return known if known is not None else _digest(patient.id or "") or 1


def _local_identifier(identifiers: tuple[Identifier, ...], name: str) -> int | None:
    for identifier in identifiers:
        text = identifier.value
        if identifier.system == f"{LOCAL}{name}" and text and text.isascii() and text.isdigit():
            number = int(text)
            return number if 0 < number <= LARGEST_ID else None
    return None


def _digest(text: str) -> int:
    """Return 63 bits of the SHA-256 of a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def _count(found: Description, name: str, number: int, delivered: bool, missing: str) -> None:
    """Set a count, limited to the contract's range. Args: missing, what was not delivered, if `delivered` is false."""
    column = BY_FIELD[name]
    assert column.minimum is not None and column.maximum is not None
    limited = min(max(number, column.minimum), column.maximum)
    if limited != number:
        found.limited[name] = f"outside {column.minimum} to {column.maximum}, limited to this range"
    found.record[name] = limited
    if not delivered:
        found.unknown[name] = f"no {missing} was delivered"


def _measure(found: Description, history: History, name: str, measured: Measured) -> None:
    found.record[name] = measured.value
    if measured.problem is not None:
        found.unknown[name] = measured.problem
    history.use(measured.used)


def _describe_person(found: Description, patient: Patient | None, stay: Stay) -> None:
    record = found.record
    codes = [
        code
        for extension in (patient.extension if patient else ())
        if extension.url in RACE_EXTENSIONS
        for part in extension.extension
        if part.url == "ombCategory" and part.valueCoding is not None and (code := part.valueCoding.code)
    ]
    record["race"] = race_of(codes)
    if record["race"] is None:
        found.unknown["race"] = "the Patient has no known OMB category"
    record["gender"] = _GENDERS.get((patient.gender if patient else None) or "", _UNKNOWN_GENDER)
    if patient is None or patient.gender not in _GENDERS:
        found.unknown["gender"] = "the Patient has no gender"
    ages = age_range(patient.birthDate if patient else None, stay.start.day)
    bands = {min(age // 10, len(AGE_BANDS) - 1) for age in ages} if ages else set()
    if len(bands) == 1:
        record["age"] = AGE_BANDS[bands.pop()]
    else:
        record["age"] = None
        found.obstacles.append(
            "The age band is not known: the birth date has no day or month, and its possible days give several bands."
            if bands
            else "The age is not known: the Patient has no valid birth date."
        )


def _describe_admission(
    found: Description, history: History, stay: Stay, until: Moment, patient: Patient | None
) -> None:
    record, first = found.record, stay.encounters[0]
    value = history.chart.terminology.value
    priority = next((encounter.priority for encounter in stay.encounters if encounter.priority), None)
    record["admission_type_id"] = value("admission_type_id", priority, found.unknown_codes) if priority else None
    if record["admission_type_id"] is None:
        record["admission_type_id"] = _NO_TYPE
        found.unknown["admission_type_id"] = "Encounter.priority is missing or not known"
    dispositions = [
        details.discharge_disposition
        for encounter in reversed(stay.encounters)
        if (details := encounter.hospitalization) is not None and details.discharge_disposition is not None
    ]
    values = (value("discharge_disposition_id", concept, found.unknown_codes) for concept in dispositions)
    record["discharge_disposition_id"] = next((known for known in values if known is not None), None)
    died = read_moment(patient.deceasedDateTime) if patient else None
    if record["discharge_disposition_id"] is None and died is not None and died.within(stay.start, until):
        record["discharge_disposition_id"] = _EXPIRED
    if record["discharge_disposition_id"] is None:
        record["discharge_disposition_id"] = _NO_DISPOSITION
        found.unknown["discharge_disposition_id"] = "the disposition is missing or not known"
    source = first.hospitalization.admit_source if first.hospitalization else None
    record["admission_source_id"] = value("admission_source_id", source, found.unknown_codes) if source else None
    if record["admission_source_id"] is None and _emergency_before(history, stay):
        record["admission_source_id"] = _EMERGENCY_ROOM
    if record["admission_source_id"] is None:
        record["admission_source_id"] = _NO_SOURCE
        found.unknown["admission_source_id"] = "the source is missing or not known, and no emergency visit precedes"
    days = (until.day - stay.start.day).days
    column = BY_FIELD["time_in_hospital"]
    assert column.maximum is not None
    record["time_in_hospital"] = min(max(days, 1), column.maximum)
    if days < 0:
        found.obstacles.append("The stay ends before it starts.")
    if days > column.maximum:
        found.limited["time_in_hospital"] = f"longer than {column.maximum} days, counted as {column.maximum}"


def _emergency_before(history: History, stay: Stay) -> list[Encounter]:
    """Return the emergency encounters that led to the admission."""
    earliest = stay.start.time - timedelta(hours=ADMISSION_HOURS)
    return [
        encounter
        for start, encounter in history.emergency
        if start.time <= stay.start.time
        and (end := read_moment((encounter.period or NO_PERIOD).end)) is not None
        and end.time >= earliest
    ]


def _describe_payer(found: Description, history: History, stay: Stay) -> None:
    active = []
    for coverage in history.chart.coverages:
        period = coverage.period or NO_PERIOD
        start, end = read_moment(period.start), read_moment(period.end)
        if (start is None or start.day <= stay.start.day) and (end is None or end.day >= stay.start.day):
            active.append(coverage)
    active.sort(key=lambda coverage: coverage.order or _NO_ORDER)
    history.use(active)
    known = (
        history.chart.terminology.value("payer_code", coverage.type, found.unknown_codes)
        for coverage in active
        if coverage.type is not None
    )
    found.record["payer_code"] = next((code for code in known if code is not None), None)
    if found.record["payer_code"] is None:
        found.unknown["payer_code"] = "no coverage at admission has a known type"


def _describe_specialty(found: Description, history: History, stay: Stay) -> None:
    chosen: dict[str, str] = {}
    for encounter in stay.encounters:
        for participant in encounter.participant:
            reference = target(participant.individual)
            if reference is None:
                continue

            for role in [code.code for concept in participant.type for code in concept.coding if code.code] or [""]:
                chosen.setdefault(role, reference)
    specialty = None
    for role in (*ADMITTERS, ""):
        if role in chosen and specialty is None:
            for concept in history.chart.specialty(chosen[role]):
                specialty = specialty or history.chart.terminology.value(
                    "medical_specialty", concept, found.unknown_codes
                )
    found.record["medical_specialty"] = specialty
    if specialty is None:
        found.unknown["medical_specialty"] = "the specialty of the physician is missing or not known"


def _count_services(found: Description, history: History, stay: Stay, until: Moment) -> None:
    chart = history.chart
    results = history.results.of(stay, until)
    history.use(results)
    _count(found, "num_lab_procedures", len(results), bool(history.laboratory) or RESULTS in chart.delivered, RESULTS)
    procedures = history.procedures.of(stay, until)
    history.use(procedures)
    _count(
        found, "num_procedures", len(procedures), bool(chart.procedures) or PROCEDURES in chart.delivered, PROCEDURES
    )
    administered = history.administrations.of(stay, until)
    ordered = history.orders.of(stay, until)
    history.use(administered)
    history.use(ordered)
    drugs = {
        drug_key(drug) if (drug := chart.medication(item)) is not None else None for item in (administered or ordered)
    }
    if None in drugs:
        found.unknown_codes["medication that was not delivered"] += 1
    delivered = bool(chart.administrations or chart.orders) or DRUGS in chart.delivered
    _count(found, "num_medications", len(drugs - {None}), delivered, DRUGS)


def _count_visits(found: Description, history: History, stay: Stay) -> None:
    start, chart = stay.start.time, history.chart
    delivered = len(chart.encounters) > len(stay.encounters) or VISITS in chart.delivered
    outpatient = visits_before(history.outpatient, start, YEAR_DAYS)
    led = {encounter.id for encounter in _emergency_before(history, stay)}
    emergency = [
        encounter for encounter in visits_before(history.emergency, start, YEAR_DAYS) if encounter.id not in led
    ]
    first = start - timedelta(days=YEAR_DAYS)
    inpatient = [other for other in history.stays if first <= other.start.time < start and other is not stay]
    history.use([chart.encounters[found_id] for found_id in led if found_id in chart.encounters])
    history.use([*outpatient, *emergency, *(item for other in inpatient for item in other.encounters)])
    history.use(stay.encounters)
    for name, visits in (
        ("number_outpatient", outpatient),
        ("number_emergency", emergency),
        ("number_inpatient", inpatient),
    ):
        _count(found, name, len(visits), delivered, VISITS)


def _describe_diagnoses(found: Description, history: History, stay: Stay, until: Moment) -> None:
    diagnoses = read_diagnoses(history, stay, until)
    history.use(diagnoses.used)
    found.unknown_codes.update(diagnoses.unknown)
    codes = diagnoses.codes
    for position in range(3):
        name = f"diag_{position + 1}"
        found.record[name] = codes[position] if position < len(codes) else None
        if position < len(codes) and codes[position] is None:
            found.unknown[name] = "the diagnosis of this rank has no known code"
        elif position >= len(codes) and diagnoses.unknown:
            found.unknown[name] = "the other diagnoses have no known code"
    found.own_diagnosis = diagnoses.own
    found.principal = diagnoses.first
    if codes:
        _count(found, "number_diagnoses", len(codes), delivered=True, missing="")
        if not diagnoses.ranked:
            found.unknown["number_diagnoses"] = (
                "the encounter does not rank its diagnoses; those that were found are counted"
            )
    else:
        found.record["number_diagnoses"] = None
        found.obstacles.append("The stay has no diagnosis with a known code.")


def _describe_drugs(found: Description, history: History, stay: Stay, until: Moment) -> None:
    chart, record = history.chart, found.record
    of_stay = {id(item) for item in history.orders.of(stay, until)}
    earliest = stay.start.time - timedelta(days=EARLIER_ORDERS_DAYS)
    earlier = [
        order
        for order in history.antidiabetic_orders
        if id(order.request) not in of_stay and order.time is not None and earliest <= order.time.time < stay.start.time
    ]
    during = [order for order in history.antidiabetic_orders if id(order.request) in of_stay]
    history.use([order.request for order in earlier])
    given = {
        name
        for item in history.administrations.of(stay, until)
        if (drug := chart.medication(item)) is not None
        for name in antidiabetics(drug)
    }
    before = {name for order in earlier for name in order.columns}
    ordered = {name for order in during for name in order.columns}
    changed = bool(before) and bool((ordered | given) - before)
    for name in MEDICATIONS:
        column = name.replace("-", "_")
        if name not in before and name not in ordered and name not in given:
            record[column] = "No"
            continue
        baseline = [order for order in earlier if name in order.columns][-1:]
        orders = [*baseline, *(order for order in during if name in order.columns)]
        change = dose_change([order.dose for order in orders]) if name in ordered else "Steady"
        if change is None or not orders:
            found.unknown[column] = "doses are missing, or their units differ"
        record[column] = change or "Steady"
        changed |= change in ("Up", "Down")
    record["change"] = "Ch" if changed else "No"
    record["diabetesMed"] = "Yes" if before | ordered | given else "No"
    if not (chart.administrations or chart.orders or DRUGS in chart.delivered):
        reason = f"no {DRUGS} was delivered"
        found.unknown.update(dict.fromkeys(("change", "diabetesMed"), reason))
        found.unknown.update(dict.fromkeys((name.replace("-", "_") for name in MEDICATIONS), reason))
