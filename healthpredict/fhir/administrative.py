"""Describe the person, the admission and discharge, the payer and the specialty of a stay. `rules.RULES` has the rules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from healthpredict.data.code_lists import race_of
from healthpredict.data.contract import AGE_BANDS, BY_FIELD
from healthpredict.fhir.dates import Moment, age_range, read_moment
from healthpredict.fhir.description import Description
from healthpredict.fhir.history import History
from healthpredict.fhir.references import target
from healthpredict.fhir.resources import NO_PERIOD, Concept, Patient
from healthpredict.fhir.rules import ADMITTERS
from healthpredict.fhir.stays import Stay

RACE_EXTENSIONS: Final = (
    "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race",
    "http://hl7.org/fhir/us/core/StructureDefinition/us-core-ethnicity",
)
_UNKNOWN_GENDER: Final = "Unknown/Invalid"
_GENDERS: Final = {"female": "Female", "male": "Male", "other": _UNKNOWN_GENDER, "unknown": _UNKNOWN_GENDER}
_NO_TYPE: Final = "6"
_NO_DISPOSITION: Final = "18"
_NO_SOURCE: Final = "17"
_EXPIRED: Final = "11"
_EMERGENCY_ROOM: Final = "7"
_NO_ORDER: Final = 2**31


def describe_person(found: Description, patient: Patient | None, stay: Stay) -> None:
    """Set race, gender and age."""
    codes = [
        code
        for extension in (patient.extension if patient else ())
        if extension.url in RACE_EXTENSIONS
        for part in extension.extension
        if part.url == "ombCategory" and part.valueCoding is not None and (code := part.valueCoding.code)
    ]
    found.set_value("race", race_of(codes), "the Patient has no known OMB category")
    gender = _GENDERS.get((patient.gender if patient else None) or "")
    found.set_value("gender", gender, "the Patient has no gender", _UNKNOWN_GENDER)
    ages = age_range(patient.birthDate if patient else None, stay.start.day)
    bands = {min(age // 10, len(AGE_BANDS) - 1) for age in ages} if ages else set()
    if len(bands) == 1:
        found.record["age"] = AGE_BANDS[bands.pop()]
    else:
        found.record["age"] = None
        found.obstacles.append(
            "The age band is not known: the birth date has no day or month, and its possible days give several bands."
            if bands
            else "The age is not known: the Patient has no valid birth date."
        )


def describe_admission(
    found: Description, history: History, stay: Stay, until: Moment, patient: Patient | None
) -> None:
    """Set admission type and source, discharge disposition and length of stay."""
    priority = next((encounter.priority for encounter in stay.encounters if encounter.priority), None)
    found.set_value(
        "admission_type_id",
        _first_known(found, history, "admission_type_id", [priority]),
        "Encounter.priority is missing or not known",
        _NO_TYPE,
    )
    dispositions = (
        encounter.hospitalization.discharge_disposition
        for encounter in reversed(stay.encounters)
        if encounter.hospitalization is not None
    )
    disposition = _first_known(found, history, "discharge_disposition_id", dispositions)
    died = read_moment(patient.deceasedDateTime) if patient else None
    if disposition is None and died is not None and died.within(stay.start, until):
        disposition = _EXPIRED
    found.set_value("discharge_disposition_id", disposition, "the disposition is missing or not known", _NO_DISPOSITION)
    details = stay.encounters[0].hospitalization
    source = _first_known(found, history, "admission_source_id", [details.admit_source if details else None])
    if source is None and history.emergency_before(stay):
        source = _EMERGENCY_ROOM
    found.set_value(
        "admission_source_id",
        source,
        "the source is missing or not known, and no emergency visit precedes",
        _NO_SOURCE,
    )
    days = (until.day - stay.start.day).days
    longest = BY_FIELD["time_in_hospital"].maximum
    assert longest is not None
    found.record["time_in_hospital"] = min(max(days, 1), longest)
    if days < 0:
        found.obstacles.append("The stay ends before it starts.")
    if days > longest:
        found.limited["time_in_hospital"] = f"longer than {longest} days, counted as {longest}"


def describe_payer(found: Description, history: History, stay: Stay) -> None:
    """Set the payer."""
    active = []
    for coverage in history.chart.coverages:
        period = coverage.period or NO_PERIOD
        start, end = read_moment(period.start), read_moment(period.end)
        if (start is None or start.day <= stay.start.day) and (end is None or end.day >= stay.start.day):
            active.append(coverage)
    active.sort(key=lambda coverage: coverage.order or _NO_ORDER)
    history.use(active)
    payer = _first_known(found, history, "payer_code", (coverage.type for coverage in active))
    found.set_value("payer_code", payer, "no coverage at admission has a known type")


def describe_specialty(found: Description, history: History, stay: Stay) -> None:
    """Set the specialty of the physician."""
    of_role: dict[str, str] = {}
    for encounter in stay.encounters:
        for participant in encounter.participant:
            reference = target(participant.individual)
            if reference is not None:
                roles = [code.code for concept in participant.type for code in concept.coding if code.code]
                for role in roles or [""]:
                    of_role.setdefault(role, reference)
    concepts = (
        concept for role in (*ADMITTERS, "") if role in of_role for concept in history.chart.specialty(of_role[role])
    )
    found.set_value(
        "medical_specialty",
        _first_known(found, history, "medical_specialty", concepts),
        "the specialty of the physician is missing or not known",
    )


def _first_known(found: Description, history: History, column: str, concepts: Iterable[Concept | None]) -> str | None:
    """Return the value of the first concept that has one, or None. Unknown codes before it are counted."""
    for concept in concepts:
        if concept is not None:
            value = history.chart.terminology.value(column, concept, found.unknown_codes)
            if value is not None:
                return value
    return None
