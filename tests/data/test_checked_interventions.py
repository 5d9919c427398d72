"""Reported interventions: what can be used, and what is counted instead."""

from __future__ import annotations

import pandas as pd
import pytest

from healthpredict.data.interventions import CheckedInterventions, check_interventions

NOW = pd.Timestamp("2026-03-01 12:00", tz="UTC")
COLUMNS = ["encounter_id", "kind", "response", "reason", "acted_at"]


def check(*rows: str) -> CheckedInterventions:
    """Args: rows, values in the order of the columns; an empty one is missing."""
    values = [[value or None for value in row.split(",")] for row in rows]
    return check_interventions(pd.DataFrame(values, columns=COLUMNS, dtype="str"), NOW)


def test_every_kind_of_answer_is_read() -> None:
    checked = check(
        "1,call,accepted,,2026-02-03",
        "2,call,overridden,no-capacity,2026-02-03T10:15:00-05:00",
        "3,visit,offered,,2026-02-03 10:15",
        "4,,none,,",
    )
    assert checked.problems == []
    assert checked.usable["encounter_id"].tolist() == [1, 2, 3, 4]
    assert checked.usable["response"].tolist() == ["accepted", "overridden", "offered", "none"]
    assert checked.usable["reason"].tolist()[1] == "no-capacity"
    assert checked.usable["acted_at"].tolist()[:2] == [
        pd.Timestamp("2026-02-03", tz="UTC"),
        pd.Timestamp("2026-02-03 15:15", tz="UTC"),
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("0,call,accepted,,2026-02-03", "encounter_id is not a positive 64-bit whole number"),
        ("1,,accepted,,2026-02-03", "kind is missing"),
        ("1,a call to Mr Smith,accepted,,2026-02-03", "kind does not match"),
        ("1,call,yes,,2026-02-03", "response is not one of none, offered, accepted, overridden"),
        ("1,call,,,2026-02-03", "response is missing"),
        ("1,call,overridden,has a cold,2026-02-03", "reason does not match"),
        ("1,call,accepted,,", "acted_at is missing"),
        ("1,call,accepted,,yesterday", "acted_at does not match"),
        ("1,call,accepted,,2026-13-03", "acted_at is not a date"),
        ("1,call,accepted,,2026-03-04", "acted_at is in the future"),
    ],
)
def test_a_row_that_cannot_be_used_is_counted_without_its_values(row: str, reason: str) -> None:
    checked = check(row, "2,call,accepted,,2026-02-03")
    assert checked.usable["encounter_id"].tolist() == [2]
    (problem,) = checked.problems
    assert problem.startswith(f"1 of 2 rows are not used: {reason}")
    assert "Smith" not in problem and "cold" not in problem


def test_repeated_rows_count_once_and_an_answer_replaces_its_offer() -> None:
    checked = check(
        "1,call,accepted,,2026-02-03",
        "1,call,accepted,,2026-02-03",
        "2,call,overridden,,2026-02-04",
        "2,call,offered,,2026-02-05",
        "3,call,accepted,,2026-02-03",
        "3,visit,overridden,,2026-02-03",
    )
    assert checked.problems == ["2 rows repeat others and are counted once."]
    assert checked.usable[["encounter_id", "kind", "response"]].to_numpy().tolist() == [
        [1, "call", "accepted"],
        [2, "call", "overridden"],
        [3, "call", "accepted"],
        [3, "visit", "overridden"],
    ]


@pytest.mark.parametrize("other", ["1,call,overridden,,2026-02-04", "1,,none,,"])
def test_contradictory_rows_are_counted_and_none_of_them_is_used(other: str) -> None:
    checked = check("1,call,accepted,,2026-02-03", "2,call,accepted,,2026-02-03", other)
    assert checked.usable["encounter_id"].tolist() == [2]
    assert checked.problems == ["1 encounters have contradictory interventions, which are not used."]
