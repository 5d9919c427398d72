"""Resources of a stay become the contract's record; what cannot be known is listed and never guessed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from resources import (
    BASIC,
    DIABETES,
    PATIENT,
    STAY,
    bundle,
    concept,
    condition,
    encounter,
    icd10,
    observation,
    order,
    patient,
    snomed,
)

from healthpredict.data.contract import BY_FIELD, RECORD_COLUMNS
from healthpredict.fhir.encounter import Reading, encounter_from_fhir
from healthpredict.fhir.terminology import Terminology

RACE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race"
ETHNICITY = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-ethnicity"
Resource = dict[str, Any]


def read(*resources: Resource, **options: Any) -> Reading:
    return encounter_from_fhir(resources, **options)


def record_of(*resources: Resource, **options: Any) -> dict[str, Any]:
    reading = read(*resources, **options)
    assert reading.record is not None, reading.no_prediction
    return reading.record


def omb(url: str, *codes: str) -> Resource:
    parts = [
        {"url": "ombCategory", "valueCoding": {"system": "urn:oid:2.16.840.1.113883.6.238", "code": c}} for c in codes
    ]
    return {"url": url, "extension": parts}


def test_the_least_stay_has_every_field_and_lists_what_is_not_known() -> None:
    reading = read(*BASIC)
    assert reading.record is not None
    assert list(reading.record) == [column.field for column in RECORD_COLUMNS]
    problems = {name: BY_FIELD[name].problem(value) for name, value in reading.record.items()}
    assert not any(problems.values()), problems
    assert {
        name: reading.record[name] for name in ("age", "gender", "time_in_hospital", "diag_1", "number_diagnoses")
    } == {
        "age": "[60-70)",
        "gender": "Female",
        "time_in_hospital": 3,
        "diag_1": "E11.9",
        "number_diagnoses": 1,
    }
    assert {"race", "weight", "payer_code", "medical_specialty", "admission_type_id"} <= set(reading.unknown)
    assert {"num_lab_procedures", "A1Cresult", "num_medications", "insulin", "number_inpatient"} <= set(reading.unknown)
    assert "age" not in reading.unknown


def test_a_bundle_in_any_order_is_read_like_its_resources() -> None:
    plain = read(*BASIC)
    assert read(bundle(*reversed(BASIC))) == plain
    assert read(bundle(bundle(BASIC[2]), BASIC[1]), BASIC[0]) == plain


def test_json_text_is_read_like_objects() -> None:
    plain = read(*BASIC)
    text = json.dumps(bundle(*BASIC)).encode()
    assert encounter_from_fhir([text]) == plain
    assert encounter_from_fhir([msgspec.Raw(text)]) == plain
    assert encounter_from_fhir([json.dumps(resource).encode() for resource in BASIC]) == plain
    named = bundle(*BASIC)
    named["entry"][0] |= {"fullUrl": "urn:uuid:a1"}
    assert encounter_from_fhir([json.dumps(named).encode()]).no_prediction == read(named).no_prediction != ()


def test_json_text_with_other_types_or_errors_is_read_too() -> None:
    claim = {"resourceType": "Claim", "type": 3}
    broken = observation("o", "2951-2", None, "", valueQuantity={"value": "x"})
    sent = bundle(*BASIC, claim, broken)
    assert encounter_from_fhir([json.dumps(sent).encode()]) == read(sent)
    reading = encounter_from_fhir(
        [json.dumps(bundle(*BASIC)).encode(), b"null", b"[1]", b"{", b'{"resourceType": "Pat']
    )
    assert reading.record is not None
    assert sum(reading.left_out.values()) == 3


def test_a_resource_that_is_sent_twice_counts_once() -> None:
    lab = observation("o", "2951-2", 140, "mmol/L")
    reading = read(*BASIC, lab, bundle(lab))
    assert reading.record is not None
    assert reading.record["num_lab_procedures"] == 1
    assert reading.left_out == {"Observation: is a repetition of another resource": 1}


def test_entries_refer_to_each_other_by_their_urls() -> None:
    sent = bundle(*BASIC)
    for entry, name in zip(sent["entry"], ("a1", "b2", "c3"), strict=True):
        entry["fullUrl"] = f"urn:uuid:{name}"
    sent["entry"][1]["resource"] = encounter(subject={"reference": "urn:uuid:a1"})
    sent["entry"][2]["resource"] = DIABETES | {
        "subject": {"reference": "urn:uuid:a1"},
        "encounter": {"reference": "urn:uuid:b2"},
    }
    assert record_of(sent)["diag_1"] == "E11.9"


def test_absolute_and_versioned_references_lead_to_the_same_resource() -> None:
    far = "https://ehr.example.org/fhir/R4/Patient/ada/_history/3"
    assert record_of(patient(), encounter(subject={"reference": far}), DIABETES)["age"] == "[60-70)"


@pytest.mark.parametrize(
    ("extensions", "race"),
    [
        ([omb(RACE, "2106-3")], "Caucasian"),
        ([omb(RACE, "2054-5")], "AfricanAmerican"),
        ([omb(RACE, "2106-3"), omb(ETHNICITY, "2135-2")], "Hispanic"),
        ([omb(RACE, "2106-3"), omb(ETHNICITY, "2186-5")], "Caucasian"),
        ([omb(RACE, "2106-3", "2028-9")], "Other"),
        ([omb(RACE, "UNK")], None),
        ([], None),
    ],
)
def test_race_follows_us_core(extensions: list[Resource], race: str | None) -> None:
    reading = read(patient(extension=extensions), *BASIC[1:])
    assert reading.record is not None
    assert reading.record["race"] == race
    assert ("race" in reading.unknown) == (race is None)


@pytest.mark.parametrize(
    ("birth", "age"),
    [
        ("1956-07-30", "[60-70)"),
        ("1954-05-08", "[60-70)"),  # 70 on the next day
        ("1954-05-07", "[70-80)"),
        ("1956", "[60-70)"),
        ("1956-07", "[60-70)"),
        ("1910-01-01", "[90-100)"),
    ],
)
def test_age_is_that_at_admission(birth: str, age: str) -> None:
    assert record_of(patient(birthDate=birth), *BASIC[1:])["age"] == age


@pytest.mark.parametrize("birth", ["1954", "1954-05", "2030-01-01", "soon", None])
def test_without_a_certain_age_band_there_is_no_prediction(birth: str | None) -> None:
    reading = read(patient(birthDate=birth), *BASIC[1:])
    assert reading.record is None
    assert any("age" in reason for reason in reading.no_prediction)


@pytest.mark.parametrize(
    ("start", "end", "days"),
    [
        ("2024-05-07T23:00:00-05:00", "2024-05-08T01:00:00-05:00", 1),
        ("2024-05-07T01:00:00-05:00", "2024-05-07T23:00:00-05:00", 1),
        ("2024-05-07", "2024-05-12", 5),
        ("2024-05-01", "2024-06-01", 14),
    ],
)
def test_length_of_stay_counts_midnights(start: str, end: str, days: int) -> None:
    reading = read(patient(), encounter(start=start, end=end), DIABETES)
    assert reading.record is not None
    assert reading.record["time_in_hospital"] == days
    assert ("time_in_hospital" in reading.limited) == (days == 14)


def test_visits_of_the_year_before_count_by_class() -> None:
    visits = [
        encounter("amb", "AMB", "2023-11-01T08:00:00Z", "2023-11-01T09:00:00Z"),
        encounter("virtual", "VR", "2024-01-01T08:00:00Z", "2024-01-01T09:00:00Z"),
        encounter("observed", "OBSENC", "2024-02-01T08:00:00Z", "2024-02-02T09:00:00Z"),
        encounter("old", "AMB", "2023-05-01T08:00:00Z", "2023-05-01T09:00:00Z"),
        encounter("later", "AMB", "2024-05-20T08:00:00Z", "2024-05-20T09:00:00Z"),
        encounter("cancelled", "AMB", "2024-03-01T08:00:00Z", "2024-03-01T09:00:00Z", status="cancelled"),
        encounter("er", "EMER", "2024-03-01T08:00:00Z", "2024-03-01T12:00:00Z"),
        encounter("before", "IMP", "2024-01-10T08:00:00Z", "2024-01-12T12:00:00Z"),
        encounter("ward", "IMP", "2024-01-12T13:00:00Z", "2024-01-14T12:00:00Z"),
    ]
    record = record_of(*BASIC, *visits, encounter_id="stay")
    assert [record[f"number_{kind}"] for kind in ("outpatient", "emergency", "inpatient")] == [3, 1, 1]


def test_an_emergency_visit_that_leads_to_the_admission_is_its_source() -> None:
    visit = encounter("er", "EMER", "2024-05-07T03:00:00-05:00", "2024-05-07T09:00:00-05:00")
    record = record_of(*BASIC, visit)
    assert (record["admission_source_id"], record["number_emergency"]) == ("7", 0)


def test_codes_of_admission_and_discharge_are_mapped() -> None:
    stay = encounter(
        priority=concept("http://terminology.hl7.org/CodeSystem/v3-ActPriority", "EM"),
        hospitalization={
            "admitSource": concept("http://terminology.hl7.org/CodeSystem/admit-source", "emd"),
            "dischargeDisposition": concept("https://www.nubc.org/CodeSystem/PatDischargeStatus", "06"),
        },
    )
    record = record_of(patient(), stay, DIABETES)
    assert [record[f"{name}_id"] for name in ("admission_type", "admission_source", "discharge_disposition")] == [
        "1",
        "7",
        "6",
    ]


def test_an_unknown_disposition_is_counted_and_has_the_value_for_unknown() -> None:
    strange = concept("https://www.nubc.org/CodeSystem/PatDischargeStatus", "99")
    reading = read(patient(), encounter(hospitalization={"dischargeDisposition": strange}), DIABETES)
    assert reading.record is not None
    assert reading.record["discharge_disposition_id"] == "18"
    assert "discharge_disposition_id" in reading.unknown
    assert reading.unknown_codes == {"https://www.nubc.org/CodeSystem/PatDischargeStatus|99": 1}


def test_payer_is_the_first_active_coverage() -> None:
    def coverage(name: str, sopt: str, rank: int, period: Resource) -> Resource:
        kind = concept("https://nahdo.org/sopt", sopt)
        return {
            "resourceType": "Coverage",
            "id": name,
            "status": "active",
            "type": kind,
            "beneficiary": PATIENT,
            "order": rank,
            "period": period,
        }

    ended = coverage("a", "2", 1, {"end": "2023-12-31"})
    record = record_of(*BASIC, ended, coverage("b", "6", 3, {}), coverage("c", "12", 2, {"start": "2024-01-01"}))
    assert record["payer_code"] == "MC"


@pytest.mark.parametrize("by", ["role", "identifier", "practitioner"])
def test_specialty_is_that_of_the_admitter(by: str) -> None:
    npi = {"system": "http://hl7.org/fhir/sid/us-npi", "value": "9999"}
    reference: Resource = {
        "role": {"reference": "PractitionerRole/heart"},
        "identifier": {"reference": "Practitioner?identifier=http://hl7.org/fhir/sid/us-npi|9999"},
        "practitioner": {"identifier": npi},
    }[by]
    role = {
        "resourceType": "PractitionerRole",
        "id": "heart",
        "practitioner": {"identifier": npi},
        "specialty": [concept("http://nucc.org/provider-taxonomy", "207RC0000X")],
    }
    kind = concept("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "ADM")
    stay = encounter(
        participant=[{"individual": {"reference": "Practitioner/x"}}, {"type": [kind], "individual": reference}]
    )
    assert record_of(patient(), stay, DIABETES, role)["medical_specialty"] == "Cardiology"


def test_services_of_the_stay_are_counted() -> None:
    labs = [observation(f"o{i}", "2951-2", 140, "mmol/L") for i in range(5)]
    panel = observation("panel", "24323-8", None, "", hasMember=[{"reference": "Observation/o1"}])
    wrong = observation("wrong", "2951-2", 1, "mmol/L", status="entered-in-error")
    loose = observation("loose", "2951-2", 140, "mmol/L", encounter=None, effectiveDateTime="2024-05-09")
    outside = observation("outside", "2951-2", 140, "mmol/L", encounter=None, effectiveDateTime="2024-05-11")
    procedure = {"resourceType": "Procedure", "id": "p", "status": "completed", "subject": PATIENT, "encounter": STAY}
    drugs = [order("a", "Furosemide"), order("b", "furosemide"), order("c", "Aspirin")]
    record = record_of(*BASIC, *labs, panel, wrong, loose, outside, procedure, *drugs)
    assert [record[name] for name in ("num_lab_procedures", "num_procedures", "num_medications")] == [6, 1, 2]


def test_administrations_count_before_orders() -> None:
    given = {
        "resourceType": "MedicationAdministration",
        "id": "g",
        "status": "completed",
        "medicationReference": {"reference": "Medication/m"},
        "subject": PATIENT,
        "context": STAY,
    }
    drug = {"resourceType": "Medication", "id": "m", "code": {"text": "insulin lispro 100 UNT/ML"}}
    record = record_of(*BASIC, given, drug, order("a", "Aspirin"), order("b", "Heparin"))
    assert (record["num_medications"], record["insulin"]) == (1, "Steady")


@pytest.mark.parametrize(
    ("value", "unit", "band"),
    [
        (6.9, "%", "Norm"),
        (7.0, "%", "Norm"),
        (7.1, "%", ">7"),
        (8.5, "%", ">8"),
        (53, "mmol/mol", "Norm"),
        (75, "mmol/mol", ">8"),
    ],
)
def test_a1c_is_read_in_percent_and_mmol_per_mol(value: float, unit: str, band: str) -> None:
    reading = read(*BASIC, observation("a1c", "4548-4", value, unit))
    assert reading.record is not None
    assert reading.record["A1Cresult"] == band
    assert "A1Cresult" not in reading.unknown


@pytest.mark.parametrize(
    ("value", "unit", "band"), [(150, "mg/dL", "Norm"), (12, "mmol/L", ">200"), (20, "mmol/L", ">300")]
)
def test_the_highest_glucose_counts(value: float, unit: str, band: str) -> None:
    results = [observation("g1", "2345-7", 90, "mg/dL"), observation("g2", "2339-0", value, unit)]
    assert record_of(*BASIC, *results)["max_glu_serum"] == band


@pytest.mark.parametrize("unit", ["g/L", "", "mmol"])
def test_an_unknown_unit_is_listed_and_not_guessed(unit: str) -> None:
    reading = read(*BASIC, observation("a1c", "4548-4", 9.0, unit), observation("g", "2345-7", 400, unit))
    assert reading.record is not None
    assert (reading.record["A1Cresult"], reading.record["max_glu_serum"]) == ("None", "None")
    assert "known unit" in reading.unknown["A1Cresult"]
    assert "known unit" in reading.unknown["max_glu_serum"]


def test_the_last_a1c_counts_and_results_of_the_same_time_conflict() -> None:
    early = observation("a", "4548-4", 9.0, "%", effectiveDateTime="2024-05-07T20:00:00-05:00")
    late = observation("b", "4548-4", 6.0, "%", effectiveDateTime="2024-05-09T20:00:00-05:00")
    assert record_of(*BASIC, early, late)["A1Cresult"] == "Norm"
    reading = read(*BASIC, late, late | {"id": "c", "valueQuantity": {"value": 8.4, "unit": "%"}})
    assert reading.record is not None
    assert reading.record["A1Cresult"] == "None"
    assert "conflict" in reading.unknown["A1Cresult"]
    corrected = late | {"id": "c", "status": "corrected", "valueQuantity": {"value": 8.4, "unit": "%"}}
    assert record_of(*BASIC, late, corrected)["A1Cresult"] == ">8"


def test_weight_is_read_in_kilograms() -> None:
    vital = observation("w", "29463-7", 80, "kg", category=[])
    assert record_of(*BASIC, vital)["weight"] == "[175-200)"


def test_ranked_diagnoses_keep_their_places() -> None:
    entries = [
        {"condition": {"reference": "Condition/second"}, "rank": 2},
        {
            "condition": {"reference": "Condition/admitting"},
            "use": concept("http://terminology.hl7.org/CodeSystem/diagnosis-role", "AD"),
            "rank": 1,
        },
        {"condition": {"reference": "Condition/missing"}, "rank": 1},
        {"condition": {"reference": "Condition/diabetes"}, "rank": 3},
    ]
    stay = encounter(diagnosis=entries)
    others = [
        condition("second", icd10("I50.9")),
        condition("admitting", icd10("R07.9")),
        condition("extra", icd10("J18.9")),
    ]
    reading = read(patient(), stay, DIABETES, *others)
    assert reading.record is not None
    assert [reading.record[f"diag_{rank}"] for rank in (1, 2, 3)] == [None, "I50.9", "E11.9"]
    assert reading.record["number_diagnoses"] == 3
    assert "diag_1" in reading.unknown


def test_without_ranks_the_reason_comes_first_then_conditions_of_the_stay_then_active_ones() -> None:
    stay = encounter(reasonCode=[snomed("88805009")])
    own = condition("own", icd10("J18.9"))
    active = condition("active", icd10("I10"), encounter={"reference": "Encounter/old"}, onsetDateTime="2020-01-01")
    over = condition("over", icd10("N39.0"), encounter=None, onsetDateTime="2020-01-01", abatementDateTime="2020-02-01")
    later = condition("later", icd10("C50.9"), encounter=None, onsetDateTime="2024-06-01", recordedDate="2024-06-01")
    diabetes = DIABETES | {"encounter": None, "onsetDateTime": "2010-01-01"}
    record = record_of(patient(), stay, own, active, over, later, diabetes)
    assert [record[f"diag_{rank}"] for rank in (1, 2, 3)] == ["I50.9", "J18.9", "I10"]
    assert record["number_diagnoses"] == 4


def test_icd_codes_count_before_snomed_and_icd9_is_read_too() -> None:
    both = {"coding": [*snomed("88805009")["coding"], *concept("http://hl7.org/fhir/sid/icd-9-cm", "428.0")["coding"]]}
    record = record_of(patient(), encounter(reasonCode=[both]), DIABETES)
    assert record["diag_1"] == "428"


def test_a_hospitals_own_map_replaces_the_table_and_other_codes_are_named() -> None:
    reason = encounter(reasonCode=[snomed("999001")])
    reading = read(patient(), reason, DIABETES)
    assert reading.unknown_codes == {"http://snomed.info/sct|999001": 1}
    own = Terminology({"999001": "I21.4"})
    assert record_of(patient(), reason, DIABETES, terminology=own)["diag_1"] == "I21.4"


@pytest.mark.parametrize(
    ("doses", "change"),
    [((500, 1000), "Up"), ((1000, 500), "Down"), ((500, 500), "Steady"), ((500,), "Steady")],
)
def test_doses_of_orders_show_the_change(doses: tuple[float, ...], change: str) -> None:
    orders = [
        order(f"m{i}", "metformin 500 MG Oral Tablet", dose, f"2024-05-0{7 + i}T18:00:00-05:00")
        for i, dose in enumerate(doses)
    ]
    record = record_of(*BASIC, *orders)
    assert (record["metformin"], record["diabetesMed"]) == (change, "Yes")
    assert record["change"] == ("No" if change == "Steady" else "Ch")


def test_a_missing_dose_is_listed() -> None:
    reading = read(*BASIC, order("a", "glipizide"))
    assert reading.record is not None
    assert reading.record["glipizide"] == "Steady"
    assert "doses" in reading.unknown["glipizide"]


@pytest.mark.parametrize(
    ("drug", "columns"),
    [
        (concept("http://www.nlm.nih.gov/research/umls/rxnorm", "6809", "not the name"), ["metformin"]),
        (concept("http://www.nlm.nih.gov/research/umls/rxnorm", "865098", "Insulin Lispro"), ["insulin"]),
        ({"text": "glyburide 2.5 MG / metformin hydrochloride 500 MG Oral Tablet"}, ["glyburide_metformin"]),
        ({"text": "metformin hydrochloride 500 MG / sitagliptin 50 MG Oral Tablet"}, ["metformin"]),
        ({"text": "insulin glargine 100 UNT/ML [Lantus]"}, ["insulin"]),
    ],
)
def test_drugs_are_found_by_code_then_name(drug: Resource, columns: list[str]) -> None:
    record = record_of(*BASIC, order("a", "") | {"medicationCodeableConcept": drug})
    assert [name for name in record if record[name] in ("Steady", "Up", "Down")] == columns


def test_an_antidiabetic_without_a_column_is_diabetes_medication() -> None:
    record = record_of(*BASIC, order("a", "empagliflozin 10 MG Oral Tablet"))
    assert record["diabetesMed"] == "Yes"


def test_earlier_orders_continue_and_a_new_drug_is_a_change() -> None:
    home = order("home", "metformin", 500, "2023-08-01", encounter=None)
    record = record_of(*BASIC, home)
    assert (record["metformin"], record["change"], record["num_medications"]) == ("Steady", "No", 0)
    record = record_of(*BASIC, home, order("new", "insulin glargine", 10))
    assert (record["insulin"], record["change"]) == ("Steady", "Ch")
    old = home | {"authoredOn": "2022-08-01"}
    assert record_of(*BASIC, old)["metformin"] == "No"


def test_encounters_that_follow_each_other_are_one_stay() -> None:
    ward = encounter("ward", start="2024-05-10T14:30:00-05:00", end="2024-05-12T10:00:00-05:00")
    inside = encounter(
        "inside",
        start="2024-05-08T14:30:00-05:00",
        end="2024-05-09T10:00:00-05:00",
        partOf={"reference": "Encounter/stay"},
    )
    record = record_of(*BASIC, ward, inside)
    assert (record["time_in_hospital"], record["number_inpatient"]) == (5, 0)


def test_ids_are_in_the_order_of_time_and_the_same_every_time() -> None:
    first = record_of(*BASIC)["encounter_id"]
    later = record_of(patient(), encounter("next", start="2024-05-07T09:31:00-05:00"), DIABETES | {"encounter": None})
    assert 0 < first < later["encounter_id"] < 2**63
    assert record_of(*BASIC)["encounter_id"] == first
    own = encounter(identifier=[{"system": "urn:healthpredict:encounter_id", "value": "2278392"}])
    assert record_of(patient(), own, DIABETES)["encounter_id"] == 2278392


def test_a_stay_that_has_not_ended_counts_until_now() -> None:
    open_stay = encounter(status="in-progress", period={"start": "2024-05-07T09:30:00-05:00"})
    reading = read(patient(), open_stay, DIABETES)
    assert reading.no_prediction == ("The stay has no end, and no current time was given.",)
    reading = read(patient(), open_stay, DIABETES, now=datetime(2024, 5, 9, 18, tzinfo=UTC))
    assert reading.record is not None
    assert reading.record["time_in_hospital"] == 2
    assert "time_in_hospital" in reading.unknown
