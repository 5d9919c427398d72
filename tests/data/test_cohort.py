"""The cohort and the label."""

import pandas as pd

from healthpredict.data.cohort import add_label, select_cohort
from healthpredict.data.contract import BY_FIELD

DISPOSITIONS = pd.CategoricalDtype(BY_FIELD["discharge_disposition_id"].allowed)
OUTCOMES = pd.DataFrame(
    {
        "encounter_id": [4, 3, 2, 1],
        "readmitted": pd.Categorical(["<30", ">30", "NO", "<30"], categories=["NO", ">30", "<30"]),
    }
)


def test_death_and_hospice_are_out() -> None:
    """Codes 11, 13, 14, 19, 20, 21: these patients cannot be readmitted."""
    codes = ["1", "11", "13", "14", "19", "20", "21", "30"]
    encounters = pd.DataFrame(
        {"encounter_id": range(8), "discharge_disposition_id": pd.Series(codes, dtype=DISPOSITIONS)}
    )
    cohort = select_cohort(encounters)
    assert cohort["encounter_id"].tolist() == [0, 7]
    assert cohort.index.tolist() == [0, 1]
    assert cohort["discharge_disposition_id"].dtype == DISPOSITIONS


def test_only_readmission_within_30_days_counts() -> None:
    """This is the default label. The order of the encounters stays the same."""
    labelled = add_label(pd.DataFrame({"encounter_id": [1, 2, 3, 4]}), OUTCOMES, "within_30_days")
    assert labelled["readmitted_within_30_days"].tolist() == [True, False, False, True]
    assert labelled["readmitted_within_30_days"].dtype == bool


def test_any_readmission_can_be_chosen() -> None:
    """The other outcome of the data set."""
    labelled = add_label(pd.DataFrame({"encounter_id": [1, 2, 3, 4]}), OUTCOMES, "any")
    assert labelled["readmitted_within_30_days"].tolist() == [True, False, True, True]


def test_encounter_without_outcome_gets_no_label() -> None:
    """Unknown is not "not readmitted"."""
    labelled = add_label(pd.DataFrame({"encounter_id": [9, 3]}), OUTCOMES, "within_30_days")
    assert labelled["encounter_id"].tolist() == [3]
