"""The stay itself, its diagnoses, and the visits that its row counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from healthpredict.data.diagnosis import Coding, coding_of
from healthpredict.fhir.rules import LOCAL, PARTICIPATION_TYPE
from healthpredict.fhir.terminology import ICD_SYSTEMS
from healthpredict.fhir.write.codes import Resource, concept, concept_of_value
from healthpredict.fhir.write.dated import DatedRow

_READMITTED_DAYS: Final = {"<30": 10, ">30": 45}
CONDITION_CATEGORY: Final = "http://terminology.hl7.org/CodeSystem/condition-category"
_ACT_CODE: Final = "http://terminology.hl7.org/CodeSystem/v3-ActCode"


def role_id(specialty: str) -> str:
    """Return the id of the PractitionerRole of a specialty: FHIR allows letters, digits, hyphens and points in ids."""
    return "role-" + "".join(letter if letter.isalnum() else "." for letter in specialty)[:58]


def encounter_of(stay: DatedRow, subject: Resource, conditions: Sequence[Resource]) -> Resource:
    """Return the Encounter of the stay. Args: conditions, its diagnoses by rank."""
    row = stay.row
    encounter: Resource = {
        "resourceType": "Encounter",
        "id": f"e{row['encounter_id']}",
        "identifier": [{"system": f"{LOCAL}encounter_id", "value": str(row["encounter_id"])}],
        "status": "finished",
        "class": {"system": _ACT_CODE, "code": "IMP"},
        "priority": concept_of_value("admission_type_id", row["admission_type_id"]),
        "subject": subject,
        "period": {"start": stay.start.isoformat(), "end": stay.end.isoformat()},
        "diagnosis": [
            {"condition": {"reference": f"Condition/{condition['id']}"}, "rank": rank}
            for rank, condition in enumerate(conditions, 1)
        ],
        "hospitalization": {
            "admitSource": concept_of_value("admission_source_id", row["admission_source_id"]),
            "dischargeDisposition": concept_of_value("discharge_disposition_id", row["discharge_disposition_id"]),
        },
    }
    if row["medical_specialty"] is not None:
        role = {"reference": f"PractitionerRole/{role_id(row['medical_specialty'])}"}
        encounter["participant"] = [{"type": [concept(PARTICIPATION_TYPE, "ADM")], "individual": role}]
    return encounter


def conditions_of(stay: DatedRow, subject: Resource, encounter: Resource) -> Iterator[Resource]:
    """Yield the diagnoses that the row lists, and without a code the others that it counts."""
    row = stay.row
    listed = max((rank for rank in (1, 2, 3) if row[f"diag_{rank}"] is not None), default=0)
    # A synthetic row may list more diagnoses than it counts.
    for rank in range(1, max(row["number_diagnoses"], listed) + 1):
        code = row.get(f"diag_{rank}")
        yield {
            "resourceType": "Condition",
            "id": f"d{row['encounter_id']}-{rank}",
            "category": [concept(CONDITION_CATEGORY, "encounter-diagnosis")],
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
    return concept(ICD_SYSTEMS[coding][0], code)


def visits_of(stay: DatedRow, subject: Resource) -> Iterator[Resource]:
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
    days = _READMITTED_DAYS.get(row["readmitted"])
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
