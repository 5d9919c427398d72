"""Encounters of requests are checked against the contract."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bundles import as_records, draw_encounters
from hypothesis import example, given
from hypothesis import strategies as st

from healthpredict.data.code_lists import accepted_value
from healthpredict.data.contract import (
    BY_FIELD,
    COLUMNS,
    DEATH_OR_HOSPICE,
    DIAGNOSES,
    FEATURE_COLUMNS,
    RECORD_COLUMNS,
    Kind,
)
from healthpredict.data.diagnosis import read_diagnosis
from healthpredict.serving.encounter import Encounter, as_sent, read_encounter
from healthpredict.serving.problems import ProblemError
from healthpredict.serving.request import read_json

GOOD = as_sent(as_records(draw_encounters(5, seed=3))[0])
JSON_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.just([1]),
    st.sampled_from(
        ["?", "None", "No", "Female", "250.83", "V57", "E888", "MC", "Other", "1", "[50-60)", "250\n", "٢٥٠"]
    ),
    st.integers(-2, 400),
)


def read(**changes: Any) -> dict[str, Any]:
    return read_body({**GOOD, **changes})


def read_body(body: dict[str, Any]) -> dict[str, Any]:
    return read_encounter(read_json(json.dumps(body).encode()))


def problems(body: dict[str, Any] | bytes) -> dict[str, str]:
    with pytest.raises(ProblemError) as refused:
        read_encounter(read_json(body if isinstance(body, bytes) else json.dumps(body).encode()))
    assert refused.value.__cause__ is None
    return {error.field: error.problem for error in refused.value.problem.errors}


def test_hyphens_and_underscores_name_the_same_field() -> None:
    plain = {name.replace("-", "_"): value for name, value in GOOD.items()}
    assert read_body(plain) == read()
    assert read_body({**plain, "patient_id": 815}) == read(patient_nbr=815)


@pytest.mark.parametrize("renamed", ["glyburide-metformin", "glyburide_metformin"], ids=["quick", "thorough"])
def test_fields_stand_in_the_order_of_the_log_however_they_are_sent(renamed: str) -> None:
    body = {**GOOD, "patient_nbr": 815, "encounter_id": 4711}
    body[renamed] = body.pop("glyburide-metformin")
    del body["payer_code"]
    for fields in (body, dict(reversed(body.items()))):
        record = read_body(fields)
        assert list(record) == [column.field for column in RECORD_COLUMNS]
        assert (record["encounter_id"], record["patient_id"]) == (4711, 815)


def test_a_field_given_under_both_names_is_refused() -> None:
    found = problems({**GOOD, "glyburide_metformin": "No"})
    assert found == {"glyburide-metformin": "is given twice, as glyburide-metformin and glyburide_metformin"}
    found = problems({**GOOD, "patient_id": 815, "patient_nbr": 815})
    assert found == {"patient_nbr": "is given twice, as patient_id and patient_nbr"}


@pytest.mark.parametrize(
    "again", ['"age": "[50-60)"', '"\\u0061ge": "[50-60)"', '"payer_code": null', '"num_procedures": 1']
)
@pytest.mark.parametrize("left_out", [(), ("race", "weight")])
def test_a_name_that_occurs_twice_is_refused(again: str, left_out: tuple[str, ...]) -> None:
    """Also if the same number of optional fields is left out."""
    good = {**GOOD, "payer_code": "MC", "num_procedures": 1, "age": "[50-60)"}
    text = json.dumps({name: value for name, value in good.items() if name not in left_out})
    name = json.loads(f"{{{again}}}").popitem()[0]
    assert problems(f"{text[:-1]}, {again}}}".encode()) == {name: "is given twice"}


@pytest.mark.parametrize("missing", [None, "?", "Unknown", "nan", "NA", " null ", ""])
def test_null_and_words_for_missing_are_missing(missing: str | None) -> None:
    for name in ("race", "weight", "payer_code", "medical_specialty", "diag_1", "patient_nbr"):
        assert read(**{name: missing}) == read(**{name: None})


def test_a_missing_measurement_is_refused_with_what_none_stands_for() -> None:
    assert problems({**GOOD, "A1Cresult": "nan"}) == {"A1Cresult": "is missing (None stands for not measured)"}


@pytest.mark.parametrize("text", ["5.0", "5.00", "5e0", "0.5E1"])
def test_a_whole_number_may_be_written_as_a_decimal(text: str) -> None:
    body = json.dumps({**GOOD, "time_in_hospital": "PLACE", "encounter_id": "PLACE"}).replace('"PLACE"', text)
    record = read_encounter(read_json(body.encode()))
    assert (record["time_in_hospital"], record["encounter_id"]) == (5, 5)
    assert isinstance(record["time_in_hospital"], int)


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("9007199254740992.0", True),
        ("9007199254740993.0", False),
        ("9007199254740993", True),
        ("5.5", False),
        ("0.99999999999999999999", False),
        ("1e400", False),
    ],
)
def test_an_id_written_as_a_decimal_is_exact_or_refused(text: str, accepted: bool) -> None:
    body = json.dumps({**GOOD, "encounter_id": "PLACE"}).replace('"PLACE"', text).encode()
    if accepted:
        assert read_encounter(read_json(body))["encounter_id"] == int(text.removesuffix(".0"))
    else:
        assert problems(body) == {"encounter_id": "is not a whole number"}


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_what_is_not_a_number_names_its_field(value: str) -> None:
    body = json.dumps({**GOOD, "num_procedures": "PLACE", "weight": "PLACE"}).replace('"PLACE"', value).encode()
    assert problems(body) == {"num_procedures": "is not a whole number", "weight": "is not text"}


def test_a_byte_order_mark_is_accepted() -> None:
    assert read_encounter(read_json(b"\xef\xbb\xbf" + json.dumps(GOOD).encode())) == read()


def test_an_absent_nullable_field_is_missing() -> None:
    assert read_body({k: v for k, v in GOOD.items() if k != "payer_code"})["payer_code"] is None


def test_not_measured_is_a_value_and_not_missing() -> None:
    assert read(A1Cresult="None")["A1Cresult"] == "None"


@pytest.mark.parametrize("text", ["None", " None ", "\tNone\n"])
def test_not_measured_may_have_blanks_around_it_as_in_a_file(text: str) -> None:
    assert read(A1Cresult=text)["A1Cresult"] == BY_FIELD["A1Cresult"].read(text) == "None"
    Encounter.model_validate({**GOOD, "A1Cresult": text})


def test_an_unseen_code_passes_and_an_unseen_category_does_not() -> None:
    assert read(medical_specialty="Astrology")["medical_specialty"] == "Astrology"
    assert problems({**GOOD, "race": "Martian"}) == {
        "race": "is not one of AfricanAmerican, Asian, Caucasian, Hispanic, Other"
    }


def test_identifiers_are_welcome_and_the_outcome_is_not() -> None:
    assert read(encounter_id=4711, patient_nbr=815)["patient_id"] == 815
    assert problems({**GOOD, "readmitted": "NO"}) == {"readmitted": "is not a field of an encounter"}


@pytest.mark.parametrize("code", DEATH_OR_HOSPICE)
def test_an_encounter_that_ended_in_death_or_hospice_has_no_prediction(code: str) -> None:
    found = problems({**GOOD, "discharge_disposition_id": code})
    assert found == {"discharge_disposition_id": "ended in death or hospice: there is no readmission to predict"}


def test_all_problems_are_listed_at_once_and_no_value_is_repeated() -> None:
    bad = {**GOOD, "time_in_hospital": -987, "race": "SECRET", "num_procedures": "987", "shoe-size": "SECRET"}
    del bad["age"]
    found = problems(bad)
    assert found == {
        "age": "is missing",
        "time_in_hospital": "is outside 1 to 14",
        "race": "is not one of AfricanAmerican, Asian, Caucasian, Hispanic, Other",
        "num_procedures": "is not a whole number",
        "shoe-size": "is not a field of an encounter",
    }


def test_the_longest_name_repeated_is_64_characters() -> None:
    assert max(len(name) for name in problems({**GOOD, "x" * 10_000: 1})) == 64


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"\\ud800": 1}', b"[" * 100_000])
def test_what_is_not_json_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(ProblemError) as refused:
        read_encounter(read_json(body))
    assert refused.value.problem.status == 400


@pytest.mark.parametrize("body", [b"null", b"[]", b"1", b'"x"', b"NaN"])
def test_json_that_is_not_an_object_breaks_the_contract(body: bytes) -> None:
    with pytest.raises(ProblemError) as refused:
        read_encounter(read_json(body))
    assert refused.value.problem.status == 422


@given(st.sampled_from(FEATURE_COLUMNS), JSON_VALUES)
@example(BY_FIELD["time_in_hospital"], True)
@example(BY_FIELD["time_in_hospital"], 3.0)
@example(BY_FIELD["time_in_hospital"], 3.5)
@example(BY_FIELD["num_lab_procedures"], -(10**19))
@example(BY_FIELD["num_lab_procedures"], 10**400)
@example(BY_FIELD["payer_code"], "NA")
@example(BY_FIELD["medical_specialty"], "uNKnown")
@example(BY_FIELD["gender"], "Unknown")
@example(BY_FIELD["diag_1"], "250\n")
@example(BY_FIELD["diag_1"], "٢٥٠")
@example(BY_FIELD["payer_code"], "119")
def test_values_are_accepted_as_in_the_contract(column: Any, value: Any) -> None:
    """A value, or what a code of today means, is accepted if `Column.problem` accepts it; otherwise its message is the problem."""
    meant = accepted_value(column.field, value) if isinstance(value, str) else value
    if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
        meant = int(value)
    elif isinstance(value, str) and column.is_missing(value):
        meant = None
    expected = column.problem(meant)
    if column.field == "discharge_disposition_id" and isinstance(value, str) and value in DEATH_OR_HOSPICE:
        expected = "ended in death or hospice: there is no readmission to predict"
    if expected is None and column.field in DIAGNOSES and meant is not None:
        meant, problem = read_diagnosis(meant)
        expected = problem and f"is {value}, which {problem}"
    if expected is None:
        assert read(**{column.name: value})[column.field] == meant
    else:
        assert problems({**GOOD, column.name: value}) == {column.name: expected}


def test_every_column_but_the_outcome_is_described_in_the_schema() -> None:
    properties = Encounter.model_json_schema()["properties"]
    columns = [column.name for column in COLUMNS if column.kind is not Kind.OUTCOME]
    assert list(properties) == [*columns, "diagnosis_coding"]
    assert all(properties[column.name]["description"].startswith(column.description) for column in FEATURE_COLUMNS)


def test_a_name_given_twice_is_found_however_many_others_are_absent() -> None:
    """Also if the same number of optional names is absent."""
    required = {name: value for name, value in GOOD.items() if value is not None}
    for sent in (required, {**required, "encounter_id": 1}, {**required, "encounter_id": 1, "patient_nbr": 2}):
        text = json.dumps(sent)
        for repeated in (["age"], ["age", "gender"], ["age", "gender", "change"]):
            twice = "".join(f", {json.dumps(name)}: {json.dumps(GOOD[name])}" for name in repeated)
            with pytest.raises(ProblemError) as caught:
                read_encounter(read_json(f"{text[:-1]}{twice}}}".encode()))
            assert {error.field for error in caught.value.problem.errors} == set(repeated)


@pytest.mark.parametrize("code", ["E871", "E8859"])
def test_an_ambiguous_diagnosis_is_rejected_by_name_unless_its_system_is_stated(code: str) -> None:
    expected = f"is {code}, which is a code of both ICD-9-CM and ICD-10-CM: state which in diagnosis_coding"
    assert problems({**GOOD, "diag_2": code}) == {"diag_2": expected}
    others = {"diag_1": None, "diag_3": None}
    assert read(diag_2=code, diagnosis_coding="ICD-9-CM", **others)["diag_2"] == code[:4]
    assert read(diag_2=code, diagnosis_coding="ICD-10-CM", **others)["diag_2"] == f"{code[:3]}.{code[3:]}"


def test_a_diagnosis_must_be_of_the_stated_system() -> None:
    body = {**GOOD, "diag_1": "J44.1", "diag_2": None, "diag_3": None}
    assert problems({**body, "diagnosis_coding": "ICD-9-CM"}) == {"diag_1": "is J44.1, which is not an ICD-9-CM code"}
    assert problems({**body, "diagnosis_coding": "ICD10"}) == {"diagnosis_coding": "is not one of ICD-9-CM, ICD-10-CM"}
    assert problems({**body, "diagnosis_coding": ["ICD-10-CM"]}) == {"diagnosis_coding": "is not text"}


@pytest.mark.parametrize(
    ("code", "meant"), [("E119", "E11.9"), ("J44.1", "J44.1"), ("250.60", "250.6"), ("0389", "38"), ("V45.81", "V45")]
)
def test_a_diagnosis_of_one_system_needs_no_statement(code: str, meant: str) -> None:
    for coding in ({}, {"diagnosis_coding": None}, {"diagnosis_coding": "unknown"}):
        assert read(diag_1=code, **coding)["diag_1"] == meant


def test_a_record_is_sent_so_that_it_is_read_again() -> None:
    """A canonical E code of ICD-9-CM alone would be ambiguous."""
    record = read(diag_1="E878.8", diag_2="V45.81", diag_3="E11.9")
    assert record["diag_1"] == "E878"
    assert read_body(as_sent(record)) == record | dict.fromkeys(("encounter_id", "patient_id"))


def test_codes_of_today_are_accepted() -> None:
    record = read(race="2054-5", payer_code="21", medical_specialty="208M00000X", admission_source_id="F")
    assert (record["race"], record["payer_code"]) == ("AfricanAmerican", "MD")
    assert (record["medical_specialty"], record["admission_source_id"]) == ("Hospitalist", "26")
    assert read(payer_code="99")["payer_code"] is None
