"""Small hand-made resources of one patient: Ada, 67, diabetic, three days in hospital in May 2024."""

from __future__ import annotations

from typing import Any

Resource = dict[str, Any]
PATIENT = {"reference": "Patient/ada"}
STAY = {"reference": "Encounter/stay"}


def concept(system: str, code: str, display: str | None = None) -> Resource:
    coding = {"system": system, "code": code}
    return {"coding": [coding | ({"display": display} if display else {})]}


def icd10(code: str) -> Resource:
    return concept("http://hl7.org/fhir/sid/icd-10-cm", code)


def snomed(code: str) -> Resource:
    return concept("http://snomed.info/sct", code)


def patient(**changes: Any) -> Resource:
    return {"resourceType": "Patient", "id": "ada", "gender": "female", "birthDate": "1956-07-30"} | changes


def encounter(name: str = "stay", kind: str = "IMP", start: str = "", end: str = "", **changes: Any) -> Resource:
    period = {"start": start or "2024-05-07T09:30:00-05:00", "end": end or "2024-05-10T14:00:00-05:00"}
    return {
        "resourceType": "Encounter",
        "id": name,
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": kind},
        "subject": PATIENT,
        "period": period,
    } | changes


def condition(name: str, code: Resource, **changes: Any) -> Resource:
    return {
        "resourceType": "Condition",
        "id": name,
        "code": code,
        "subject": PATIENT,
        "encounter": STAY,
        "recordedDate": "2024-05-08",
    } | changes


def observation(name: str, loinc: str, value: float | None, unit: str, **changes: Any) -> Resource:
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "category": [concept("http://terminology.hl7.org/CodeSystem/observation-category", "laboratory")],
        "code": concept("http://loinc.org", loinc),
        "subject": PATIENT,
        "encounter": STAY,
        "effectiveDateTime": "2024-05-08T06:00:00-05:00",
        "valueQuantity": {"value": value, "unit": unit},
    } | changes


def order(
    name: str, drug: str, dose: float | None = None, authored: str = "2024-05-07T12:00:00-05:00", **changes: Any
) -> Resource:
    found = {
        "resourceType": "MedicationRequest",
        "id": name,
        "status": "active",
        "intent": "order",
        "medicationCodeableConcept": {"text": drug},
        "subject": PATIENT,
        "encounter": STAY,
        "authoredOn": authored,
    }
    if dose is not None:
        quantity = {"value": dose, "unit": "mg"}
        found["dosageInstruction"] = [{"doseAndRate": [{"doseQuantity": quantity}]}]
    return found | changes


def bundle(*resources: Resource) -> Resource:
    return {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": resource} for resource in resources]}


DIABETES = condition("diabetes", icd10("E11.9"))
BASIC = (patient(), encounter(), DIABETES)
"""The least from which there is a prediction."""
