"""Planted drift changes exactly what the plan says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from healthpredict.data.params import ContractParams
from healthpredict.data.plan_file import parse_plan
from healthpredict.data.plant import Shift, ShiftPlan, plant, read_plan
from healthpredict.data.schema import check_encounters
from healthpredict.data.synthetic import synthesize
from healthpredict.errors import ConfigurationError

ROWS = 4000


@pytest.fixture(scope="module")
def raw() -> pd.DataFrame:
    return synthesize(ROWS, seed=1)


def changed(raw: pd.DataFrame, **shift: object) -> tuple[pd.DataFrame, np.ndarray]:
    """The planted frame, and which rows differ in any column."""
    planted = plant(raw, read_plan({"shifts": [shift]}, "test"))
    pd.testing.assert_frame_equal(planted[["encounter_id", "patient_nbr"]], raw[["encounter_id", "patient_nbr"]])
    assert planted.dtypes.equals(raw.dtypes)
    return planted, (planted.fillna("?") != raw.fillna("?")).any(axis=1).to_numpy()


EVERY_KIND = [
    {"kind": "add", "columns": ["number_inpatient"], "value": 2},
    {"kind": "scale", "columns": ["num_lab_procedures"], "value": 1.5},
    {"kind": "set", "columns": ["payer_code"], "value": "ZZ"},
    {"kind": "set", "columns": ["medical_specialty"]},
    {"kind": "more_of", "columns": ["readmitted"], "value": "<30"},
    {"kind": "exchange", "columns": ["age", "number_diagnoses"]},
    {"kind": "exchange", "columns": ["readmitted"]},
]


@pytest.mark.parametrize("shift", EVERY_KIND, ids=lambda shift: f"{shift['kind']} {shift['columns'][0]}")
def test_only_the_later_part_changes_and_keeps_the_contract(raw: pd.DataFrame, shift: dict[str, object]) -> None:
    planted, rows = changed(raw, **shift, start=0.5, strength=0.5)
    assert not rows[: ROWS // 2].any()
    assert 0.1 < rows[ROWS // 2 :].mean() <= 0.6
    checked = check_encounters(planted.drop(columns="readmitted"), "test", ContractParams())
    assert len(checked.quarantine) == 0


def test_gradual_drift_grows(raw: pd.DataFrame) -> None:
    _, rows = changed(raw, kind="set", columns=["insulin"], value="Down", strength=1, start=0.2, full=0.9)
    shares = [part.mean() for part in np.array_split(rows, 10)]
    assert shares[:2] == [0, 0]
    assert shares[3] < shares[6] < shares[9]


def test_exchanged_columns_stay_what_they_are_one_by_one(raw: pd.DataFrame) -> None:
    planted, rows = changed(raw, kind="exchange", columns=["age", "number_diagnoses"], strength=1)
    assert rows.mean() > 0.5
    for column in ("age", "number_diagnoses"):
        assert planted[column].value_counts().to_dict() == raw[column].value_counts().to_dict()


def test_more_readmitted_patients_is_a_shift_of_the_label(raw: pd.DataFrame) -> None:
    planted, _ = changed(raw, kind="more_of", columns=["readmitted"], value="<30", strength=0.3)
    before, after = ((frame["readmitted"] == "<30").mean() for frame in (raw, planted))
    assert after == pytest.approx(before + 0.3 * (1 - before), abs=0.03)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({}, "shifts: Field required"),
        ({"shifts": [{"kind": "set", "columns": ["patient_nbr"]}]}, "patient_nbr: not a column that can be changed"),
        ({"shifts": [{"kind": "add", "columns": ["race"], "value": 1}]}, "takes columns that are counts"),
        ({"shifts": [{"kind": "set", "columns": ["race"], "start": 0.5, "full": 0.5}]}, "must come after start"),
        ("drift", "is not a valid drift plan"),
    ],
)
def test_a_wrong_plan_says_what_is_wrong(plan: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_plan(plan, "plan.yaml")


def planted_value(raw: pd.DataFrame, column: str, value: str, kind: str = "set") -> pd.Series:
    text = f"shifts:\n- {{kind: {kind}, columns: [{column}], value: {value}, strength: 1}}\n"
    return plant(raw, parse_plan(text, "plan.yaml"))[column]


@pytest.mark.parametrize(
    ("column", "value", "planted"),
    [
        ("diag_1", "428", "428"),
        ("diag_1", '"250.60"', "250.60"),
        ("diag_1", "'038'", "038"),
        ("diag_1", "V57", "V57"),
        ("insulin", '"No"', "No"),
        ("readmitted", "'NO'", "NO"),
        ("admission_type_id", "3", "3"),
        ("number_inpatient", "0", "0"),
        ("A1Cresult", "None", "None"),
        ("payer_code", "ZZ", "ZZ"),
    ],
)
def test_a_value_is_planted_as_written(raw: pd.DataFrame, column: str, value: str, planted: str) -> None:
    assert set(planted_value(raw, column, value)) == {planted}


@pytest.mark.parametrize("value", ["null", "~", ""])
def test_null_is_missing(raw: pd.DataFrame, value: str) -> None:
    assert planted_value(raw, "payer_code", value).isna().all()


@pytest.mark.parametrize("value", ["2", "'2'"])
def test_more_of_a_count_finds_the_count(raw: pd.DataFrame, value: str) -> None:
    assert set(planted_value(raw, "number_inpatient", value, "more_of")) == {"2"}


@pytest.mark.parametrize("value", ["1", "1.5", ".5", "1e0", "'2'"])
def test_a_number_to_add_or_to_scale_by_may_be_whole(raw: pd.DataFrame, value: str) -> None:
    for kind in ("add", "scale"):
        planted_value(raw, "num_medications", value, kind)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("insulin", "No"),
        ("diabetesMed", "Yes"),
        ("change", "off"),
        ("diabetesMed", "true"),
        ("readmitted", "NO"),
        ("diag_1", "250.60"),
        ("diag_1", "428.0"),
        ("diag_1", "010"),
        ("diag_1", "038"),
        ("diag_1", "12:30"),
        ("diag_1", "1_000"),
        ("diag_1", "1e3"),
        ("diag_1", "2026-11-28"),
        ("diag_1", "0x1F"),
        ("diag_1", ".inf"),
    ],
)
def test_a_value_that_yaml_would_change_must_be_in_quotes(raw: pd.DataFrame, column: str, value: str) -> None:
    for kind in ("set", "more_of"):
        with pytest.raises(ConfigurationError, match=rf"^plan.yaml: {column}: .*in quotes: \"{value}\""):
            planted_value(raw, column, value, kind)


@pytest.mark.parametrize(
    ("kind", "column", "value", "message"),
    [
        ("set", "insulin", "Sometimes", "insulin: Sometimes is not one of .* Allowed: No, Steady, Up, Down"),
        ("set", "insulin", "null", "insulin: None is missing. Allowed: No, Steady"),
        ("set", "payer_code", "'NA'", "payer_code: NA means missing. Write null"),
        ("set", "num_medications", "2.0", "num_medications: 2.0 is not a plain whole number"),
        ("set", "num_medications", "010", "num_medications: 010 is not a plain whole number"),
        ("set", "num_medications", "'9999'", "num_medications: 9999 is outside 0 to 250"),
        ("more_of", "diag_1", "'428.123'", "diag_1: 428.123 does not match"),
        ("more_of", "payer_code", "QQ", "No encounter has QQ in payer_code"),
        ("add", "num_medications", "1_000", "num_medications: 1_000 is not a plain decimal number"),
        ("add", "num_medications", "two", "num_medications: two is not a plain decimal number"),
        ("add", "num_medications", "'nan'", "takes columns that are counts, and a number"),
    ],
)
def test_a_value_outside_the_contract_is_refused(
    raw: pd.DataFrame, kind: str, column: str, value: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        planted_value(raw, column, value, kind)


def test_a_name_that_occurs_twice_in_a_plan_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="value is given twice"):
        parse_plan("shifts:\n- {kind: set, columns: [diag_1], value: '1', value: '2'}\n", "plan.yaml")


def test_plans_made_in_python_may_hold_numbers(raw: pd.DataFrame) -> None:
    for value in (428, 428.0, "428"):
        shift = Shift(kind="set", columns=("diag_1",), value=value, strength=1.0)
        assert set(plant(raw, ShiftPlan(shifts=(shift,)))["diag_1"]) == {"428"}
    with pytest.raises(ConfigurationError, match="in quotes"):
        read_plan({"shifts": [{"kind": "set", "columns": ["insulin"], "value": False}]}, "plan.yaml")


def test_a_frame_of_encounters_can_be_planted_too() -> None:
    frame = pd.DataFrame({"number_inpatient": [0, 1, 366]})
    shift = Shift(kind="add", columns=("number_inpatient",), value=5.0, strength=1.0)
    assert plant(frame, ShiftPlan(shifts=(shift,)))["number_inpatient"].tolist() == [5, 6, 366]
    more = Shift(kind="more_of", columns=("number_inpatient",), value=1, strength=1.0)
    assert plant(frame, ShiftPlan(shifts=(more,)))["number_inpatient"].tolist() == [1, 1, 1]
