"""The contract check: valid rows get their types, all others are in quarantine with every reason."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from healthpredict.data.contract import COLUMNS, Column, Kind
from healthpredict.data.params import ContractParams
from healthpredict.data.schema import DUPLICATE, check_encounters, check_rows
from healthpredict.data.synthetic import synthesize
from healthpredict.errors import BatchRefused

ANY = ContractParams(max_bad_share=1.0)
GOOD = synthesize(50, seed=2).drop(columns="readmitted")
BY_NAME = {column.name: column for column in COLUMNS}
ENCOUNTER = [column for column in COLUMNS if column.kind is not Kind.OUTCOME]


def broken(**cells: Any) -> pd.DataFrame:
    """A good batch whose row 3 has other values."""
    raw = GOOD.copy()
    for name, value in cells.items():
        raw.loc[3, name] = value
    return raw


def test_good_batch_has_the_types_of_the_contract() -> None:
    checked = check_encounters(GOOD, "batch-01", ContractParams())
    assert len(checked.quarantine) == 0
    assert list(checked.quarantine) == [*GOOD, "reason"]
    assert checked.reasons == {}
    encounters = checked.encounters
    assert list(encounters) == [column.field for column in ENCOUNTER]
    assert encounters["time_in_hospital"].dtype == np.int64
    assert encounters["insulin"].cat.categories.tolist() == ["No", "Steady", "Up", "Down"]
    assert encounters["diag_1"].dtype == "str"
    assert encounters["patient_id"].tolist() == [int(number) for number in GOOD["patient_nbr"]]
    assert encounters["race"].astype("str").tolist() == GOOD["race"].tolist()


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"time_in_hospital": "-5"}, "time_in_hospital is outside 1 to 14"),
        ({"time_in_hospital": "five"}, "time_in_hospital is not a whole number"),
        ({"num_medications": "12.5"}, "num_medications is not a whole number"),
        ({"number_inpatient": "\u0663"}, "number_inpatient is not a whole number"),
        ({"number_inpatient": "9" * 400}, "number_inpatient is not a whole number"),
        ({"gender": "female"}, "gender is not one of Female, Male, Unknown/Invalid"),
        ({"gender": None}, "gender is missing"),
        ({"insulin": "steady"}, "insulin is not one of No, Steady, Up, Down"),
        ({"payer_code": "mc"}, r"payer_code does not match [A-Z]{2}"),
        ({"patient_nbr": "0"}, "patient_nbr is not a positive 64-bit whole number"),
        ({"patient_nbr": str(2**63)}, "patient_nbr is not a positive 64-bit whole number"),
        ({"encounter_id": None}, "encounter_id is missing"),
        (
            {"time_in_hospital": "0", "gender": None, "age": "71"},
            "gender is missing; age is not one of [0-10), [10-20), [20-30), [30-40), [40-50), [50-60), [60-70), "
            "[70-80), [80-90), [90-100); time_in_hospital is outside 1 to 14",
        ),
    ],
)
def test_bad_row_is_quarantined_as_it_came_with_every_reason(cells: dict[str, Any], reason: str) -> None:
    raw = broken(**cells)
    checked = check_encounters(raw, "batch-01", ContractParams())
    assert len(checked.encounters) == 49
    assert checked.quarantine["reason"].tolist() == [reason]
    pd.testing.assert_frame_equal(checked.quarantine.drop(columns="reason"), raw.iloc[[3]].reset_index(drop=True))


def test_later_duplicate_is_quarantined() -> None:
    """However its number is written."""
    raw = pd.concat([GOOD, GOOD.iloc[[0]], GOOD.iloc[[1]]], ignore_index=True)
    raw.loc[51, "encounter_id"] = "0" + raw.loc[51, "encounter_id"]
    checked = check_encounters(raw, "batch-01", ContractParams())
    assert checked.encounters["encounter_id"].tolist() == [int(number) for number in GOOD["encounter_id"]]
    assert checked.reasons == {DUPLICATE: 2}


def test_corrected_row_replaces_its_bad_one() -> None:
    """A bad row does not make the good row of the same encounter a duplicate."""
    raw = pd.concat([broken(time_in_hospital="-5"), GOOD.iloc[[3]]], ignore_index=True)
    checked = check_encounters(raw, "batch-01", ContractParams())
    assert len(checked.encounters) == 50
    assert checked.reasons == {"time_in_hospital is outside 1 to 14": 1}


def test_encounter_of_an_earlier_batch_is_a_duplicate() -> None:
    earlier = [int(GOOD.loc[7, "encounter_id"])]
    checked = check_encounters(GOOD, "batch-02", ContractParams(), earlier)
    assert checked.quarantine["encounter_id"].tolist() == [GOOD.loc[7, "encounter_id"]]


def test_too_many_bad_rows_refuse_the_batch() -> None:
    """The message has columns, reasons and counts, and no value."""
    raw = GOOD.copy()
    raw.loc[:9, "time_in_hospital"] = "-51972"
    raw.loc[:3, "gender"] = None
    with pytest.raises(BatchRefused) as caught:
        check_encounters(raw, "batch-01", ContractParams())
    assert "10 of 50 rows are bad, more than 10%" in str(caught.value)
    assert "time_in_hospital is outside 1 to 14 (10 rows); gender is missing (4 rows)" in str(caught.value)
    assert "51972" not in str(caught.value)
    assert len(check_encounters(raw, "batch-01", ContractParams(max_bad_share=0.2)).quarantine) == 10


def test_batch_of_all_missing_columns_is_refused() -> None:
    raw = GOOD.copy()
    raw.loc[:, :] = np.nan
    with pytest.raises(BatchRefused, match="50 of 50 rows are bad"):
        check_encounters(raw, "batch-01", ContractParams())


def test_nullable_column_may_be_missing_altogether() -> None:
    raw = GOOD.assign(**{name: pd.Series(np.nan, index=GOOD.index, dtype="str") for name in ("race", "diag_1")})
    encounters = check_encounters(raw, "batch-01", ContractParams()).encounters
    assert encounters[["race", "diag_1"]].isna().all(axis=None)


def cell(column: Column) -> st.SearchStrategy[str | None]:
    """Good and bad texts for a column."""
    good = st.sampled_from(column.allowed) if column.allowed else st.from_regex(column.pattern or r"[0-9]{1,3}")
    return st.one_of(good, st.none(), st.integers().map(str), st.text("0123456789.-+eVMC é", min_size=1, max_size=6))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_frame_and_record_agree_on_every_value(data: st.DataObject) -> None:
    """The batch check reports the same problem as `Column.problem`, so the API refuses the same values."""
    column = data.draw(st.sampled_from(ENCOUNTER))
    texts = data.draw(st.lists(cell(column), min_size=10, max_size=10))
    raw = GOOD.head(10).assign(**{column.name: pd.Series(texts, dtype="str")})
    checked = check_encounters(raw, "batch-01", ANY)

    values = [None if text is None else column.read(text) for text in texts]
    expected = [f"{column.name} {problem}" for problem in map(column.problem, values) if problem]
    assert [reason for reason in checked.quarantine["reason"] if reason != DUPLICATE] == expected
    assert len(checked.encounters) + len(checked.quarantine) == 10


@pytest.mark.parametrize(
    ("column", "written", "read"),
    [
        ("encounter_id", "0000123", 123),
        ("encounter_id", "123.0", 123),
        ("encounter_id", "123.0000000000", 123),
        ("encounter_id", "9007199254740992.0", 2**53),
        ("encounter_id", "9223372036854775807", 2**63 - 1),
        ("time_in_hospital", "3.0", 3),
        ("time_in_hospital", " 3 ", 3),
        ("number_inpatient", "00", 0),
    ],
)
def test_whole_numbers_are_read_however_they_are_written(column: str, written: str, read: int) -> None:
    checked = check_encounters(broken(**{column: written}), "batch-01", ANY)
    assert checked.quarantine.empty
    assert checked.encounters[BY_NAME[column].field].iloc[3] == read


@pytest.mark.parametrize(
    "written", ["0x1F", "1e3", "12a", "123.5", "9007199254740993.0", "1,234", "-", "1_000", "0b1", "٣"]
)
def test_what_is_no_whole_number_is_never_guessed(written: str) -> None:
    checked = check_encounters(broken(encounter_id=written), "batch-01", ANY)
    assert checked.quarantine["reason"].tolist() == ["encounter_id is not a whole number"]


@pytest.mark.parametrize("word", ["nan", "NaN", "NA", "None", "null", "NULL", "Unknown", "n/a", "?", " ", "NA "])
def test_words_for_missing_are_missing_unless_the_contract_lists_them(word: str) -> None:
    """In text columns, where a pattern would let them through; `None` is a value of A1C and glucose."""
    optional = ("race", "weight", "payer_code", "medical_specialty", "diag_1", "diag_2", "diag_3")
    checked = check_encounters(broken(**dict.fromkeys(optional, word)), "batch-01", ANY)
    assert checked.encounters[[BY_NAME[name].field for name in optional]].iloc[3].isna().all()
    a1c = check_encounters(broken(A1Cresult=word, max_glu_serum=word), "batch-01", ANY)
    if word == "None":
        assert a1c.encounters["A1Cresult"].iloc[3] == "None"
    else:
        assert "A1Cresult is missing (None stands for not measured)" in a1c.quarantine["reason"].iloc[0]


def test_categories_with_numbers_are_read_however_they_are_written() -> None:
    checked = check_encounters(broken(admission_type_id="1.0", admission_source_id="07"), "batch-01", ANY)
    assert checked.encounters[["admission_type_id", "admission_source_id"]].iloc[3].tolist() == ["1", "7"]


@pytest.mark.parametrize(
    ("code", "coding", "default", "read"),
    [
        ("250.60", None, "ICD-9-CM", "250.6"),
        ("038.9", None, "ICD-9-CM", "38"),
        ("J441", None, "ICD-9-CM", "J44.1"),
        ("E871", None, "ICD-9-CM", "E871"),
        ("E871", None, "ICD-10-CM", "E87.1"),
        ("E871", "ICD-9-CM", "ICD-10-CM", "E871"),
        ("E871", "ICD-10-CM", "ICD-9-CM", "E87.1"),
    ],
)
def test_a_diagnosis_is_read_in_its_system(code: str, coding: str | None, default: str, read: str) -> None:
    raw = GOOD.assign(diagnosis_coding=pd.Series(np.nan, GOOD.index, dtype="str"))
    raw.loc[3, ["diag_1", "diag_2", "diag_3", "diagnosis_coding"]] = [code, np.nan, np.nan, coding or np.nan]
    checked = check_encounters(raw, "batch-01", ContractParams(diagnosis_coding=default))
    assert len(checked.quarantine) == 0
    assert list(checked.encounters) == [column.field for column in ENCOUNTER]
    assert checked.encounters["diag_1"][3] == read
    others = GOOD["diag_1"].index != 3
    as_before = check_encounters(GOOD, "batch-01", ContractParams()).encounters["diag_1"]
    if default == "ICD-9-CM":
        assert checked.encounters["diag_1"][others].equals(as_before[others])
    # As batch scoring reads a file.
    categorical = raw.astype({"diag_1": "category", "diagnosis_coding": "category"})
    rows = check_rows(categorical, ENCOUNTER, default)
    assert rows.frame["diag_1"].astype("str").equals(checked.encounters["diag_1"])


@pytest.mark.parametrize(
    ("code", "coding", "reason"),
    [
        ("E871", None, "diag_1 is a code of both ICD-9-CM and ICD-10-CM: state which in diagnosis_coding"),
        ("J44.1", "ICD-9-CM", "diag_1 is not an ICD-9-CM code"),
        ("250.60", "ICD-10", "diagnosis_coding is not one of ICD-9-CM, ICD-10-CM"),
        ("J44.1!", "ICD-10-CM", f"diag_1 does not match {BY_NAME['diag_1'].pattern}"),
    ],
)
def test_a_diagnosis_that_cannot_be_read_is_quarantined(code: str, coding: str | None, reason: str) -> None:
    good = GOOD.assign(diag_1="428", diag_2="401", diag_3="276", diagnosis_coding=pd.Series(np.nan, dtype="str"))
    good.loc[3, ["diag_1", "diag_2", "diag_3", "diagnosis_coding"]] = [code, np.nan, np.nan, coding or np.nan]
    checked = check_encounters(good, "batch-01", ContractParams(diagnosis_coding=None))
    assert checked.quarantine["reason"].tolist() == [reason]
    assert checked.quarantine["diag_1"].tolist() == [code]


def test_codes_of_today_are_read_as_those_of_the_data_set() -> None:
    raw = broken(race="2106-3", payer_code="111", medical_specialty="207RC0000X", admission_source_id="E")
    row = check_encounters(raw, "batch-01", ContractParams()).encounters.loc[3]
    read = row[["race", "payer_code", "medical_specialty", "admission_source_id"]].tolist()
    assert read == ["Caucasian", "MC", "Cardiology", "25"]
    raw = broken(discharge_disposition_id="65")
    assert len(check_encounters(raw, "batch-01", ContractParams()).quarantine) == 1
