"""Write encounters of the contract as FHIR R4 resources, with made-up dates. An import gives the same rows again.

A person's stays keep their order and are `GAP_DAYS` apart, so that no visit or readmission of one stay falls into the window of
another. A row only counts earlier visits and only reports a readmission. Each is written as an encounter without details: earlier
inpatient visits have the class NONAC (not acute), so that they are no index admissions, and readmissions have no diagnosis.
What the data set does not have is not made up: laboratory results and diagnoses that it only counts have no value and no code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final

from healthpredict.data.diagnosis import Coding
from healthpredict.fhir.terminology import ICD_SYSTEMS
from healthpredict.fhir.write.codes import Resource, concept, concept_of_value
from healthpredict.fhir.write.dated import DatedRow
from healthpredict.fhir.write.persons import Person, assign_person, patient_of
from healthpredict.fhir.write.services import coverages_of, medications_of, observations_of, procedures_of
from healthpredict.fhir.write.stays import CONDITION_CATEGORY, conditions_of, encounter_of, role_id, visits_of

FOLLOW_UP_DAYS: Final = 400
"""Days between the last discharge and the end of the export."""


def write_person(patient_id: int, stays: Sequence[DatedRow]) -> Iterator[Resource]:
    """Yield the resources of one person.

    Rows that contradict each other in race, gender or age get Patient resources that are linked.
    """
    persons: list[Person] = []
    of_stay = [assign_person(persons, patient_id, stay) for stay in stays]
    for index in range(len(persons)):
        yield patient_of(patient_id, persons, index)
    first = min(stay.start for stay in stays) - timedelta(days=1)
    yield {
        "resourceType": "Condition",
        "id": f"d{patient_id}",
        "category": [concept(CONDITION_CATEGORY, "problem-list-item")],
        "code": {**concept(ICD_SYSTEMS[Coding.ICD9][0], "250.00"), "text": "Diabetes mellitus"},
        "subject": {"reference": f"Patient/{persons[0].id}"},
        "recordedDate": first.isoformat(),
    }
    for stay, index in zip(stays, of_stay, strict=True):
        yield from _stay_resources(stay, f"Patient/{persons[index].id}")


def write_roles(specialties: Sequence[str]) -> Iterator[Resource]:
    """Yield a PractitionerRole for each specialty. Their ids are those that `write_person` refers to."""
    for specialty in specialties:
        yield {
            "resourceType": "PractitionerRole",
            "id": role_id(specialty),
            "specialty": [concept_of_value("medical_specialty", specialty)],
        }


def _stay_resources(stay: DatedRow, patient: str) -> Iterator[Resource]:
    subject, encounter = {"reference": patient}, {"reference": f"Encounter/e{stay.row['encounter_id']}"}
    conditions = list(conditions_of(stay, subject, encounter))
    yield encounter_of(stay, subject, conditions)
    yield from conditions
    yield from visits_of(stay, subject)
    yield from observations_of(stay, subject, encounter)
    yield from medications_of(stay, subject, encounter)
    yield from procedures_of(stay, subject, encounter)
    yield from coverages_of(stay, subject)
