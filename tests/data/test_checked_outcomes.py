"""Outcomes that cannot be used are counted, and contradictory ones are not used."""

import pandas as pd

from healthpredict.data.outcomes import check_outcomes


def outcomes(*rows: tuple[str | None, str | None]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["encounter_id", "readmitted"]).astype("str").where(lambda frame: frame.notna())


def test_usable_outcomes_have_types_and_are_there_once() -> None:
    checked = check_outcomes(outcomes(("2", "<30"), ("0001", "NO"), ("1.0", "NO"), ("3", " >30 ")))
    assert checked.usable["encounter_id"].tolist() == [2, 1, 3]
    assert checked.usable["readmitted"].tolist() == ["<30", "NO", ">30"]
    assert checked.usable["readmitted"].cat.categories.tolist() == ["NO", ">30", "<30"]
    assert checked.problems == []


def test_what_is_outside_the_vocabulary_is_counted_and_not_used() -> None:
    checked = check_outcomes(outcomes(("1", "&lt;30"), ("2", "&lt;30"), ("x", "NO"), ("3", None), ("4", "NO")))
    assert checked.usable["encounter_id"].tolist() == [4]
    assert checked.reasons == {
        "readmitted is not one of NO, >30, <30": 2,
        "encounter_id is not a whole number": 1,
        "readmitted is missing": 1,
    }
    assert "2 of 5 rows are not used: readmitted is not one of NO, >30, <30." in checked.problems


def test_of_two_outcomes_that_contradict_each_other_neither_is_used() -> None:
    checked = check_outcomes(outcomes(("1", "NO"), ("2", "NO"), ("1", ">30"), ("2", "NO"), ("1", "NO")))
    assert checked.usable["encounter_id"].tolist() == [2]
    assert checked.contradicting == 1
    assert checked.problems == ["1 encounters have contradictory outcomes, which are not used."]
