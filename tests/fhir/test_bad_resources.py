"""Bad input: no prediction with a reason, or a prediction that lists what is not known; never an exception."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from resources import BASIC, DIABETES, STAY, bundle, condition, encounter, icd10, observation, patient

from healthpredict.fhir.encounter import encounter_from_fhir

Resource = dict[str, Any]
NOW = datetime(2024, 5, 9, 18, tzinfo=UTC)


def reasons_of(*resources: Any, **options: Any) -> str:
    reading = encounter_from_fhir(resources, **options)
    assert reading.record is None
    assert reading.no_prediction
    return " ".join(reading.no_prediction)


def test_a_deceased_patient_gets_no_prediction() -> None:
    assert "deceased" in reasons_of(patient(deceasedBoolean=True), *BASIC[1:])
    assert "deceased" in reasons_of(patient(deceasedDateTime="2024-05-10"), *BASIC[1:])
    assert "deceased" in reasons_of(patient(deceasedDateTime="2024"), *BASIC[1:])
    alive_then = encounter_from_fhir([patient(deceasedDateTime="2024-09-01"), *BASIC[1:]])
    assert alive_then.record is not None


def test_a_patient_without_diabetes_is_out_of_scope() -> None:
    heart = condition("heart", icd10("I50.9"))
    assert "out of scope" in reasons_of(patient(), encounter(), heart)
    refuted = {"coding": [{"code": "refuted"}]}
    assert "out of scope" in reasons_of(patient(), encounter(), heart, DIABETES | {"verificationStatus": refuted})
    later = DIABETES | {"encounter": None, "onsetDateTime": "2024-08-01"}
    assert "out of scope" in reasons_of(patient(), encounter(), heart, later)


def test_two_stays_need_the_name_of_one() -> None:
    earlier = encounter("earlier", start="2024-01-01T08:00:00Z", end="2024-01-03T08:00:00Z")
    assert "2 inpatient stays" in reasons_of(*BASIC, earlier)
    assert encounter_from_fhir([*BASIC, earlier], encounter_id="stay").record is not None
    going_on = encounter(status="in-progress", period={"start": "2024-05-07T09:30:00-05:00"})
    assert encounter_from_fhir([patient(), going_on, earlier, DIABETES], now=NOW).record is not None


@pytest.mark.parametrize(
    ("stay", "words"),
    [
        (encounter(kind="AMB"), "not an inpatient"),
        (encounter(status="cancelled"), "cancelled"),
        (encounter(period=None), "start names a day"),
        (encounter(start="2024-05", end="2024-05"), "start names a day"),
        (encounter(**{"class": None}), "no class"),
        (encounter(start="2024-05-07", end="2024-05"), "no end"),
        (encounter(start="2024-05-07T10:00:00Z", end="2024-05-01T10:00:00Z"), "ends before it starts"),
    ],
)
def test_an_encounter_that_cannot_be_described(stay: Resource, words: str) -> None:
    assert words in reasons_of(patient(), stay, DIABETES, encounter_id="stay")


def test_nothing_at_all() -> None:
    assert "no acute inpatient Encounter" in reasons_of()
    assert "not delivered" in reasons_of(encounter_id="stay")
    assert "Patient" in reasons_of(encounter(), DIABETES)


def test_missing_references_are_no_errors() -> None:
    lost = {"reference": "Observation/nowhere"}
    stay = encounter(
        reasonReference=[{"reference": "Condition/nowhere"}],
        participant=[{"individual": {"reference": "Practitioner/nowhere"}}],
        partOf={"reference": "Encounter/nowhere"},
    )
    drug = {
        "resourceType": "MedicationRequest",
        "id": "m",
        "status": "active",
        "subject": {"reference": "Patient/ada"},
        "encounter": STAY,
        "medicationReference": {"reference": "Medication/nowhere"},
    }
    lab = observation("o", "2951-2", 140, "mmol/L", encounter={"reference": "Encounter/nowhere"}, derivedFrom=[lost])
    reading = encounter_from_fhir([patient(), stay, DIABETES, drug, lab])
    assert reading.record is not None
    assert reading.record["num_lab_procedures"] == 0
    assert reading.unknown_codes == {"medication that was not delivered": 1}


def test_resources_of_another_patient_are_left_out() -> None:
    other = condition("other", icd10("I10"), subject={"reference": "Patient/bob"})
    nobody = condition("nobody", icd10("I10"), subject=None)
    reading = encounter_from_fhir([*BASIC, other, nobody])
    assert reading.record is not None
    assert reading.record["number_diagnoses"] == 1
    assert reading.left_out == {"Condition: is about another patient, or about nobody": 2}


def test_linked_patients_are_one_person_even_in_a_cycle() -> None:
    link = {"type": "seealso"}
    first = patient(link=[link | {"other": {"reference": "Patient/ada2"}}])
    second = patient(id="ada2", link=[link | {"other": {"reference": "Patient/ada"}}])
    moved = DIABETES | {"subject": {"reference": "Patient/ada2"}}
    assert encounter_from_fhir([first, second, encounter(), moved], encounter_id="stay").record is not None


def test_cyclic_references_and_bundles_end() -> None:
    one = encounter("one", partOf={"reference": "Encounter/two"})
    two = encounter("two", partOf={"reference": "Encounter/one"})
    assert encounter_from_fhir([patient(), one, two, DIABETES | {"encounter": None}]).record is not None
    cycle: Resource = bundle(*BASIC)
    cycle["entry"].append({"resource": cycle})
    assert encounter_from_fhir([cycle]).record is not None


def test_another_version_of_fhir_is_named() -> None:
    r5 = encounter(**{"class": [{"coding": [{"code": "IMP"}]}]}, actualPeriod={"start": "2024-05-07"})
    assert "R5" in reasons_of(patient(), r5, DIABETES)
    assert "DSTU2" in reasons_of(patient(), encounter(**{"class": "inpatient"}), DIABETES)
    assert "STU3" in reasons_of(*BASIC[:2], DIABETES | {"clinicalStatus": "active"})


@pytest.mark.parametrize(
    "bad",
    [
        {"resourceType": "Observation", "id": 7},
        {"resourceType": "Condition", "code": "E11.9"},
        {"resourceType": "Encounter", "period": "2024"},
        {"resourceType": "MedicationRequest", "dosageInstruction": {"text": "daily"}},
        {"resourceType": "Claim"},
        {"resourceType": None},
        {"resourceType": ["Patient"]},
        {},
        {"resourceType": "Bundle", "entry": "none"},
        {"resourceType": "Bundle", "entry": [None, {}, {"resource": 3}]},
    ],
)
def test_a_malformed_resource_is_left_out(bad: Resource) -> None:
    reading = encounter_from_fhir([*BASIC, bad])
    assert reading.record is not None
    expected = 0 if bad.get("resourceType") == "Bundle" else 1
    assert sum(reading.left_out.values()) == expected


@pytest.mark.parametrize(
    "text", [b"[", b'{"resourceType": "Claim", bad', b'{"resourceType": "Claim", "id": "\xff"}', b"[" * 100_000, b"7"]
)
def test_text_that_is_no_resource_is_left_out(text: bytes) -> None:
    reading = encounter_from_fhir([*BASIC, text])
    assert reading.record is not None
    assert sum(reading.left_out.values()) == 1


def test_what_is_left_out_repeats_no_value() -> None:
    bad = observation("o", "4548-4", None, "%", valueQuantity={"value": "secret-77"})
    reading = encounter_from_fhir([*BASIC, bad])
    assert "secret" not in str(reading.left_out)
    assert sum(reading.left_out.values()) == 1


@pytest.mark.parametrize("moment", ["2024-05", "2024", "", "yesterday", "2024-13-45"])
def test_dates_without_days_place_nothing_in_the_stay(moment: str) -> None:
    lab = observation("o", "4548-4", 9.0, "%", encounter=None, effectiveDateTime=moment)
    reading = encounter_from_fhir([*BASIC, lab])
    assert reading.record is not None
    assert (reading.record["num_lab_procedures"], reading.record["A1Cresult"]) == (0, "None")


def test_a_day_without_a_time_is_in_the_stay_that_starts_on_this_day() -> None:
    lab = observation("o", "4548-4", 9.0, "%", encounter=None, effectiveDateTime="2024-05-07")
    reading = encounter_from_fhir([*BASIC, lab])
    assert reading.record is not None
    assert (reading.record["num_lab_procedures"], reading.record["A1Cresult"]) == (1, ">8")


def test_placeholders_for_dates_are_not_dates() -> None:
    first = encounter(start="0001-01-01")
    assert "whose start names a day" in encounter_from_fhir([patient(), first, DIABETES]).no_prediction[0]
    open_end, later = encounter(end="9999-12-31"), encounter("later", start="2024-06-01", end="2024-06-03")
    reading = encounter_from_fhir([patient(), open_end, later, DIABETES], encounter_id="stay")
    assert reading.no_prediction == ("The stay has no end, and no current time was given.",)


def test_ten_thousand_resources_are_read() -> None:
    labs = [observation(f"o{i}", "2951-2", 140, "mmol/L") for i in range(10_000)]
    reading = encounter_from_fhir([*BASIC, bundle(*labs)])
    assert reading.record is not None
    assert reading.record["num_lab_procedures"] == 500
    assert "num_lab_procedures" in reading.limited
