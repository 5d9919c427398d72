"""What was measured, done, given and paid for in a stay."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from healthpredict.data.contract import MEDICATIONS, NOT_MEASURED
from healthpredict.fhir.drugs import OTHER, RXNORM, RXNORM_INGREDIENTS
from healthpredict.fhir.rules import LOCAL, LOINC
from healthpredict.fhir.write.codes import UCUM, Resource, concept, concept_of_value
from healthpredict.fhir.write.dated import DatedRow

_EARLIER_ORDER_DAYS: Final = 40
_CATEGORY: Final = "http://terminology.hl7.org/CodeSystem/observation-category"
_A1C: Final = {"Norm": 6.0, ">7": 7.5, ">8": 9.0}
_GLUCOSE: Final = {"Norm": 120, ">200": 250, ">300": 350}
_TESTS: Final = ("2951-2", "2823-3", "2160-0", "3094-0", "718-7", "6690-2", "777-3", "2075-0")
"""LOINC codes for tests that the row only counts: sodium, potassium, creatinine, urea nitrogen, blood count, chloride."""
_DOSES: Final = {"Steady": (1,), "Up": (1, 2), "Down": (2, 1)}
_INGREDIENTS: Final = {name: code for code, name in reversed(RXNORM_INGREDIENTS.items()) if name != OTHER}
_OTHER_DRUG: Final = next(code for code, name in RXNORM_INGREDIENTS.items() if name == OTHER)


def observations_of(stay: DatedRow, subject: Resource, encounter: Resource) -> Iterator[Resource]:
    """Yield A1C, glucose and weight, and laboratory results without a value until there are as many as the row counts."""
    row, number = stay.row, stay.row["encounter_id"]
    measured = []
    if row["A1Cresult"] != NOT_MEASURED:
        measured.append(("4548-4", {"value": _A1C[row["A1Cresult"]], "unit": "%", "system": UCUM, "code": "%"}))
    if row["max_glu_serum"] != NOT_MEASURED:
        measured.append(
            ("2345-7", {"value": _GLUCOSE[row["max_glu_serum"]], "unit": "mg/dL", "system": UCUM, "code": "mg/dL"})
        )
    tests = row["num_lab_procedures"]
    common = {
        "resourceType": "Observation",
        "status": "final",
        "subject": subject,
        "encounter": encounter,
        "effectiveDateTime": stay.start.isoformat(),
    }
    laboratory = [concept(_CATEGORY, "laboratory")]
    for count, (code, quantity) in enumerate(measured):
        result = common | {"id": f"m{number}-{count}", "code": concept(LOINC, code), "valueQuantity": quantity}
        # A row may count fewer tests than it has results.
        yield result | {"category": laboratory} if count < tests else result
    absent = concept("http://terminology.hl7.org/CodeSystem/data-absent-reason", "unknown")
    for count in range(len(measured), tests):
        test = concept(LOINC, _TESTS[count % len(_TESTS)])
        yield common | {"id": f"o{number}-{count}", "category": laboratory, "code": test, "dataAbsentReason": absent}
    if row["weight"] is not None:
        text = row["weight"].strip("[)")
        pounds = 210.0 if text.startswith(">") else int(text.split("-")[0]) + 12.5
        quantity = {"value": pounds, "unit": "lb", "system": UCUM, "code": "[lb_av]"}
        vital = [concept(_CATEGORY, "vital-signs")]
        yield common | {
            "id": f"w{number}",
            "category": vital,
            "code": concept(LOINC, "29463-7"),
            "valueQuantity": quantity,
        }


def procedures_of(stay: DatedRow, subject: Resource, encounter: Resource) -> Iterator[Resource]:
    """Yield procedures without a code, as many as the row counts."""
    for count in range(stay.row["num_procedures"]):
        yield {
            "resourceType": "Procedure",
            "id": f"pr{stay.row['encounter_id']}-{count}",
            "status": "completed",
            "code": {"text": "Procedure that the data set counts"},
            "subject": subject,
            "encounter": encounter,
            "performedDateTime": stay.start.isoformat(),
        }


def coverages_of(stay: DatedRow, subject: Resource) -> Iterator[Resource]:
    """Yield the payer of the stay, if it is known."""
    if stay.row["payer_code"] is not None:
        yield {
            "resourceType": "Coverage",
            "id": f"c{stay.row['encounter_id']}",
            "status": "active",
            "type": concept_of_value("payer_code", stay.row["payer_code"]),
            "beneficiary": subject,
            "period": {"start": stay.start.date().isoformat(), "end": stay.end.date().isoformat()},
            "payor": [{"display": "Payer of the stay"}],
        }


def medications_of(stay: DatedRow, subject: Resource, encounter: Resource) -> Iterator[Resource]:
    """Yield orders whose doses change as the row says, and as many administrations as it counts drugs."""
    row, number = stay.row, stay.row["encounter_id"]
    drugs = [(name, row[name.replace("-", "_")]) for name in MEDICATIONS if row[name.replace("-", "_")] != "No"]
    changed = row["change"] == "Ch" and all(change == "Steady" for _, change in drugs)
    if changed or (row["diabetesMed"] == "Yes" and not drugs):
        # Another antidiabetic before the stay, which those of the stay replaced.
        time = stay.start - timedelta(days=_EARLIER_ORDER_DAYS)
        drug = {**concept(RXNORM, _OTHER_DRUG), "text": "exenatide"}
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
                            {"doseQuantity": {"value": dose, "unit": "dose", "system": UCUM, "code": "{dose}"}}
                        ],
                    }
                ],
            }
    for count in range(row["num_medications"]):
        drug = (
            _drug(drugs[count][0])
            if count < len(drugs)
            else {**concept(f"{LOCAL}drug", str(count)), "text": f"Drug {count}"}
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
    return {"text": text} if code is None else {**concept(RXNORM, code), "text": text}
