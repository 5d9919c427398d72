"""Write encounters of the contract as FHIR R4 resources, with made-up dates. An import gives the same rows again.

A person's encounters keep their order and are `GAP_DAYS` apart, so that visits of the year before one of them, and what follows
another, never mix. Visits that the row only counts, and readmissions that it only reports, are encounters without details: earlier
inpatient visits have the class NONAC (not acute), so that they are no index admissions, and readmissions have no diagnosis.
What the data set does not have is not made up: laboratory results and diagnoses that it only counts have no value and no code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple

from healthpredict.data.code_lists import CODE_LISTS
from healthpredict.data.contract import MEDICATIONS, NOT_MEASURED
from healthpredict.data.diagnosis import Coding, coding_of
from healthpredict.fhir.administrative import RACE_EXTENSIONS
from healthpredict.fhir.drugs import OTHER, RXNORM, RXNORM_INGREDIENTS
from healthpredict.fhir.rules import LOCAL, LOINC, PARTICIPATION_TYPE
from healthpredict.fhir.terminology import ICD_SYSTEMS

Row = Mapping[str, Any]
"""A record by `Column.field`, with `readmitted`."""
Resource = dict[str, Any]

GAP_DAYS: Final = 430
"""Days between the stays of a person: the year before one, and the 60 days after the other in which a readmission is written."""
READMITTED_DAYS: Final = {"<30": 10, ">30": 45}
FOLLOW_UP_DAYS: Final = 400
"""Days between the last discharge and the end of the export."""
_EARLIER_ORDER_DAYS: Final = 40
_UCUM: Final = "http://unitsofmeasure.org"
_CATEGORY: Final = "http://terminology.hl7.org/CodeSystem/observation-category"
_CONDITION_CATEGORY: Final = "http://terminology.hl7.org/CodeSystem/condition-category"
_ACT_CODE: Final = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_RACE_SYSTEM: Final = "urn:oid:2.16.840.1.113883.6.238"
_RACES: Final = {"Caucasian": "2106-3", "AfricanAmerican": "2054-5", "Asian": "2028-9", "Other": "2131-1"}
_HISPANIC: Final = "2135-2"
_GENDERS: Final = {"Female": "female", "Male": "male"}
_A1C: Final = {"Norm": 6.0, ">7": 7.5, ">8": 9.0}
_GLUCOSE: Final = {"Norm": 120, ">200": 250, ">300": 350}
_TESTS: Final = ("2951-2", "2823-3", "2160-0", "3094-0", "718-7", "6690-2", "777-3", "2075-0")
"""LOINC codes for tests that the row only counts: sodium, potassium, creatinine, urea nitrogen, blood count, chloride."""
_DOSES: Final = {"Steady": (1,), "Up": (1, 2), "Down": (2, 1)}
_NOT_STANDARD: Final = frozenset({("discharge_disposition_id", "25")})
"""Values for which a modern code would say more than the data set does."""
_INGREDIENTS: Final = {name: code for code, name in reversed(RXNORM_INGREDIENTS.items()) if name != OTHER}
_OTHER_DRUG: Final = next(code for code, name in RXNORM_INGREDIENTS.items() if name == OTHER)


def _standard_codes() -> dict[tuple[str, str], tuple[str, str]]:
    """Return (column, value) -> system and code, where exactly one current code of the column's main list has the value."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    seen: set[str] = set()
    for codes in CODE_LISTS:
        if codes.column in seen:
            continue
        seen.add(codes.column)
        values = {code: value for code, value in codes.values.items() if value and not (code.isdigit() and code > "80")}
        if codes.hierarchical:
            values = {code: value for code, value in codes.values.items() if value}
        once = Counter(values.values())
        for code, value in values.items():
            if once[value] == 1 and (codes.column, value) not in _NOT_STANDARD:
                found[codes.column, value] = (codes.systems[0], code)
    return found


_STANDARD: Final = _standard_codes()


class Person(NamedTuple):
    """One Patient resource and the stays that refer to it."""

    id: str
    race: str | None
    gender: str
    birth: tuple[date, date]


class Stay(NamedTuple):
    """A row with made-up dates."""

    row: Row
    start: datetime
    end: datetime


def date_stays(rows: Sequence[Row], earliest: Sequence[date]) -> list[Stay]:
    """Make up dates for the stays of one person, in the order of the rows.

    Args:
        rows: of one person, by time.
        earliest: the first possible day of each admission.
    """
    found: list[Stay] = []
    for row, day in zip(rows, earliest, strict=True):
        start = datetime(day.year, day.month, day.day, 10, tzinfo=UTC)
        if found:
            after = found[-1].end + timedelta(days=GAP_DAYS)
            start = max(start, after.replace(hour=10))
        end = (start + timedelta(days=row["time_in_hospital"])).replace(hour=15)
        found.append(Stay(row, start, end))
    return found


def write_person(patient_id: int, stays: Sequence[Stay]) -> Iterator[Resource]:
    """Yield the resources of one person.

    Rows that contradict each other in race, gender or age get Patient resources that are linked.
    """
    persons: list[Person] = []
    of_stay = [_assign(persons, patient_id, stay) for stay in stays]
    for number in range(len(persons)):
        yield _patient(patient_id, persons, number)
    first = min(stay.start for stay in stays) - timedelta(days=1)
    yield {
        "resourceType": "Condition",
        "id": f"d{patient_id}",
        "category": [_concept(_CONDITION_CATEGORY, "problem-list-item")],
        "code": {**_concept(ICD_SYSTEMS[Coding.ICD9][0], "250.00"), "text": "Diabetes mellitus"},
        "subject": {"reference": f"Patient/{persons[0].id}"},
        "recordedDate": first.isoformat(),
    }
    for stay, number in zip(stays, of_stay, strict=True):
        yield from _stay_resources(stay, f"Patient/{persons[number].id}")


def write_roles(specialties: Sequence[str]) -> Iterator[Resource]:
    """Yield a PractitionerRole for each specialty. Their ids are those that `write_person` refers to."""
    for specialty in specialties:
        yield {
            "resourceType": "PractitionerRole",
            "id": role_id(specialty),
            "specialty": [_coded("medical_specialty", specialty)],
        }


def role_id(specialty: str) -> str:
    """Return the id of the PractitionerRole of a specialty: FHIR allows letters, digits, hyphens and points in ids."""
    return "role-" + "".join(letter if letter.isalnum() else "." for letter in specialty)[:58]


def _assign(persons: list[Person], patient_id: int, stay: Stay) -> int:
    """Return the number of the Patient that fits a stay; add one if none fits."""
    row, day = stay.row, stay.start.date()
    low, high = (int(part) for part in row["age"].strip("[)").split("-"))
    earliest, latest = _years_before(day, high) + timedelta(days=1), _years_before(day, low)
    for number, person in enumerate(persons):
        common = max(person.birth[0], earliest), min(person.birth[1], latest)
        if (person.race, person.gender) == (row["race"], row["gender"]) and common[0] <= common[1]:
            persons[number] = person._replace(birth=common)
            return number
    suffix = f"-{len(persons) + 1}" if persons else ""
    persons.append(Person(f"p{patient_id}{suffix}", row["race"], row["gender"], (earliest, latest)))
    return len(persons) - 1


def _years_before(day: date, years: int) -> date:
    try:
        return day.replace(year=day.year - years)
    except ValueError:  # 29 February
        return day.replace(year=day.year - years, day=28)


def _patient(patient_id: int, persons: Sequence[Person], number: int) -> Resource:
    person = persons[number]
    earliest, latest = person.birth
    patient: Resource = {
        "resourceType": "Patient",
        "id": person.id,
        "identifier": [{"system": f"{LOCAL}patient_id", "value": str(patient_id)}],
        "gender": _GENDERS.get(person.gender, "unknown"),
        "birthDate": (earliest + (latest - earliest) // 2).isoformat(),
    }
    if person.race is not None:
        hispanic = person.race == "Hispanic"
        code = _HISPANIC if hispanic else _RACES[person.race]
        patient["extension"] = [
            {
                "url": RACE_EXTENSIONS[1 if hispanic else 0],
                "extension": [
                    {"url": "ombCategory", "valueCoding": {"system": _RACE_SYSTEM, "code": code}},
                    {"url": "text", "valueString": person.race},
                ],
            }
        ]
    if number:
        patient["link"] = [{"other": {"reference": f"Patient/{persons[0].id}"}, "type": "seealso"}]
    return patient


def _stay_resources(stay: Stay, patient: str) -> Iterator[Resource]:
    row, number = stay.row, stay.row["encounter_id"]
    subject = {"reference": patient}
    encounter = {"reference": f"Encounter/e{number}"}
    conditions = list(_conditions(stay, subject, encounter))
    yield _encounter(stay, subject, conditions)
    yield from conditions
    yield from _visits(stay, subject)
    yield from _observations(stay, subject, encounter)
    yield from _medications(stay, subject, encounter)
    for count in range(row["num_procedures"]):
        yield {
            "resourceType": "Procedure",
            "id": f"pr{number}-{count}",
            "status": "completed",
            "code": {"text": "Procedure that the data set counts"},
            "subject": subject,
            "encounter": encounter,
            "performedDateTime": stay.start.isoformat(),
        }
    if row["payer_code"] is not None:
        yield {
            "resourceType": "Coverage",
            "id": f"c{number}",
            "status": "active",
            "type": _coded("payer_code", row["payer_code"]),
            "beneficiary": subject,
            "period": {"start": stay.start.date().isoformat(), "end": stay.end.date().isoformat()},
            "payor": [{"display": "Payer of the stay"}],
        }


def _encounter(stay: Stay, subject: Resource, conditions: Sequence[Resource]) -> Resource:
    row = stay.row
    encounter: Resource = {
        "resourceType": "Encounter",
        "id": f"e{row['encounter_id']}",
        "identifier": [{"system": f"{LOCAL}encounter_id", "value": str(row["encounter_id"])}],
        "status": "finished",
        "class": {"system": _ACT_CODE, "code": "IMP"},
        "priority": _coded("admission_type_id", row["admission_type_id"]),
        "subject": subject,
        "period": {"start": stay.start.isoformat(), "end": stay.end.isoformat()},
        "diagnosis": [
            {"condition": {"reference": f"Condition/{condition['id']}"}, "rank": rank}
            for rank, condition in enumerate(conditions, 1)
        ],
        "hospitalization": {
            "admitSource": _coded("admission_source_id", row["admission_source_id"]),
            "dischargeDisposition": _coded("discharge_disposition_id", row["discharge_disposition_id"]),
        },
    }
    if row["medical_specialty"] is not None:
        role = {"reference": f"PractitionerRole/{role_id(row['medical_specialty'])}"}
        encounter["participant"] = [{"type": [_concept(PARTICIPATION_TYPE, "ADM")], "individual": role}]
    return encounter


def _conditions(stay: Stay, subject: Resource, encounter: Resource) -> Iterator[Resource]:
    row = stay.row
    listed = max((rank for rank in (1, 2, 3) if row[f"diag_{rank}"] is not None), default=0)
    # A synthetic row may list more diagnoses than it counts.
    for rank in range(1, max(row["number_diagnoses"], listed) + 1):
        code = row.get(f"diag_{rank}")
        yield {
            "resourceType": "Condition",
            "id": f"d{row['encounter_id']}-{rank}",
            "category": [_concept(_CONDITION_CATEGORY, "encounter-diagnosis")],
            "code": _diagnosis(code)
            if code is not None
            else {"text": "Diagnosis whose code the data set does not have"},
            "subject": subject,
            "encounter": encounter,
            "recordedDate": stay.end.isoformat(),
        }


def _diagnosis(code: str) -> Resource:
    coding = coding_of(code)
    if coding is Coding.ICD9 and code[0].isdigit():
        category, point, rest = code.partition(".")
        code = f"{category:0>3}{point}{rest}"
    return _concept(ICD_SYSTEMS[coding][0], code)


def _visits(stay: Stay, subject: Resource) -> Iterator[Resource]:
    """Yield the visits that the row counts, and the readmission that it reports."""
    row = stay.row
    for kind, column, hours in (
        ("AMB", "number_outpatient", 1),
        ("EMER", "number_emergency", 4),
        ("NONAC", "number_inpatient", 24),
    ):
        for count in range(row[column]):
            # Spread over the days 4 to 364 before the admission.
            start = stay.start - timedelta(days=4 + 360 * count / row[column])
            yield _visit(f"v{row['encounter_id']}-{kind}-{count}", kind, subject, start, hours)
    days = READMITTED_DAYS.get(row["readmitted"])
    if days is not None:
        yield _visit(f"r{row['encounter_id']}", "IMP", subject, stay.end + timedelta(days=days), 24)


def _visit(name: str, kind: str, subject: Resource, start: datetime, hours: int) -> Resource:
    return {
        "resourceType": "Encounter",
        "id": name,
        "status": "finished",
        "class": {"system": _ACT_CODE, "code": kind},
        "subject": subject,
        "period": {
            "start": start.isoformat(timespec="seconds"),
            "end": (start + timedelta(hours=hours)).isoformat(timespec="seconds"),
        },
    }


def _observations(stay: Stay, subject: Resource, encounter: Resource) -> Iterator[Resource]:
    row, number = stay.row, stay.row["encounter_id"]
    measured = []
    if row["A1Cresult"] != NOT_MEASURED:
        measured.append(("4548-4", {"value": _A1C[row["A1Cresult"]], "unit": "%", "system": _UCUM, "code": "%"}))
    if row["max_glu_serum"] != NOT_MEASURED:
        measured.append(
            ("2345-7", {"value": _GLUCOSE[row["max_glu_serum"]], "unit": "mg/dL", "system": _UCUM, "code": "mg/dL"})
        )
    tests = row["num_lab_procedures"]
    common = {
        "resourceType": "Observation",
        "status": "final",
        "subject": subject,
        "encounter": encounter,
        "effectiveDateTime": stay.start.isoformat(),
    }
    laboratory = [_concept(_CATEGORY, "laboratory")]
    for count, (code, quantity) in enumerate(measured):
        result = common | {"id": f"m{number}-{count}", "code": _concept(LOINC, code), "valueQuantity": quantity}
        # A row may count fewer tests than it has results.
        yield result | {"category": laboratory} if count < tests else result
    absent = _concept("http://terminology.hl7.org/CodeSystem/data-absent-reason", "unknown")
    for count in range(len(measured), tests):
        test = _concept(LOINC, _TESTS[count % len(_TESTS)])
        yield common | {"id": f"o{number}-{count}", "category": laboratory, "code": test, "dataAbsentReason": absent}
    if row["weight"] is not None:
        text = row["weight"].strip("[)")
        pounds = 210.0 if text.startswith(">") else int(text.split("-")[0]) + 12.5
        quantity = {"value": pounds, "unit": "lb", "system": _UCUM, "code": "[lb_av]"}
        vital = [_concept(_CATEGORY, "vital-signs")]
        yield common | {
            "id": f"w{number}",
            "category": vital,
            "code": _concept(LOINC, "29463-7"),
            "valueQuantity": quantity,
        }


def _medications(stay: Stay, subject: Resource, encounter: Resource) -> Iterator[Resource]:
    row, number = stay.row, stay.row["encounter_id"]
    drugs = [(name, row[name.replace("-", "_")]) for name in MEDICATIONS if row[name.replace("-", "_")] != "No"]
    changed = row["change"] == "Ch" and all(change == "Steady" for _, change in drugs)
    if changed or (row["diabetesMed"] == "Yes" and not drugs):
        # Another antidiabetic before the stay, which those of the stay replaced.
        time = stay.start - timedelta(days=_EARLIER_ORDER_DAYS)
        drug = {**_concept(RXNORM, _OTHER_DRUG), "text": "exenatide"}
        yield _order(f"h{number}", "stopped", drug, subject, time)
    for name, change in drugs:
        for count, dose in enumerate(_DOSES[change]):
            time = stay.start + timedelta(hours=count)
            yield _order(f"a{number}-{name}-{count}", "completed", _drug(name), subject, time) | {
                "encounter": encounter,
                "dosageInstruction": [
                    {
                        "timing": {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d"}},
                        "doseAndRate": [
                            {"doseQuantity": {"value": dose, "unit": "dose", "system": _UCUM, "code": "{dose}"}}
                        ],
                    }
                ],
            }
    for count in range(row["num_medications"]):
        drug = (
            _drug(drugs[count][0])
            if count < len(drugs)
            else {**_concept(f"{LOCAL}drug", str(count)), "text": f"Drug {count}"}
        )
        yield {
            "resourceType": "MedicationAdministration",
            "id": f"g{number}-{count}",
            "status": "completed",
            "medicationCodeableConcept": drug,
            "subject": subject,
            "context": encounter,
            "effectiveDateTime": stay.start.isoformat(),
        }


def _order(name: str, status: str, drug: Resource, subject: Resource, time: datetime) -> Resource:
    return {
        "resourceType": "MedicationRequest",
        "id": name,
        "status": status,
        "intent": "order",
        "medicationCodeableConcept": drug,
        "subject": subject,
        "authoredOn": time.isoformat(),
    }


def _drug(name: str) -> Resource:
    """Return the concept of a column: its RxNorm ingredient, or for combinations and names that are no drugs, only the text."""
    code = _INGREDIENTS.get(name)
    text = name.replace("-", " / ")
    return {"text": text} if code is None else {**_concept(RXNORM, code), "text": text}


def _coded(column: str, value: str) -> Resource:
    system, code = _STANDARD.get((column, value), (f"{LOCAL}{column}", value))
    return _concept(system, code)


def _concept(system: str, code: str) -> Resource:
    return {"coding": [{"system": system, "code": code}]}
