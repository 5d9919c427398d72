"""Patient resources."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Final, NamedTuple

from healthpredict.fhir.administrative import RACE_EXTENSIONS
from healthpredict.fhir.rules import LOCAL
from healthpredict.fhir.write.codes import Resource
from healthpredict.fhir.write.dated import DatedRow

_RACE_SYSTEM: Final = "urn:oid:2.16.840.1.113883.6.238"
_RACES: Final = {"Caucasian": "2106-3", "AfricanAmerican": "2054-5", "Asian": "2028-9", "Other": "2131-1"}
_HISPANIC: Final = "2135-2"
_GENDERS: Final = {"Female": "female", "Male": "male"}


class Person(NamedTuple):
    """One Patient resource and the stays that refer to it."""

    id: str
    race: str | None
    gender: str
    birth: tuple[date, date]


def assign_person(persons: list[Person], patient_id: int, stay: DatedRow) -> int:
    """Return the index of the Patient that fits a stay; add one if none fits."""
    row, day = stay.row, stay.start.date()
    low, high = (int(part) for part in row["age"].strip("[)").split("-"))
    earliest, latest = _years_before(day, high) + timedelta(days=1), _years_before(day, low)
    for index, person in enumerate(persons):
        common = max(person.birth[0], earliest), min(person.birth[1], latest)
        if (person.race, person.gender) == (row["race"], row["gender"]) and common[0] <= common[1]:
            persons[index] = person._replace(birth=common)
            return index
    suffix = f"-{len(persons) + 1}" if persons else ""
    persons.append(Person(f"p{patient_id}{suffix}", row["race"], row["gender"], (earliest, latest)))
    return len(persons) - 1


def _years_before(day: date, years: int) -> date:
    try:
        return day.replace(year=day.year - years)
    except ValueError:  # 29 February
        return day.replace(year=day.year - years, day=28)


def patient_of(patient_id: int, persons: Sequence[Person], index: int) -> Resource:
    """Return a Patient, born in the middle of the possible days. All but the first are linked to it."""
    person = persons[index]
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
    if index:
        patient["link"] = [{"other": {"reference": f"Patient/{persons[0].id}"}, "type": "seealso"}]
    return patient
