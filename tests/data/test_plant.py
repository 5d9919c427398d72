"""Planted drift: what is asked for is what becomes of the encounters, and nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from healthpredict.data.params import ContractParams
from healthpredict.data.plant import Plan, Shift, plant, read_plan
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
        ("drift", "is no plan of drift"),
    ],
)
def test_a_wrong_plan_says_what_is_wrong(plan: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_plan(plan, "plan.yaml")


def test_a_frame_of_encounters_can_be_planted_too() -> None:
    frame = pd.DataFrame({"number_inpatient": [0, 1, 366]})
    shift = Shift(kind="add", columns=("number_inpatient",), value=5.0, strength=1.0)
    assert plant(frame, Plan(shifts=(shift,)))["number_inpatient"].tolist() == [5, 6, 366]
