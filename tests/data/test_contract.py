"""The table of columns."""

from __future__ import annotations

import pytest

from healthpredict.data.contract import BY_FIELD, COLUMNS, MISSING_WORDS, Kind


@pytest.mark.parametrize("word", ["nan", "NaN", "NA", "N/A", "None", "null", " NULL ", "Unknown", "unknown", "?", ""])
def test_words_for_missing_mean_missing_in_codes_and_in_nullable_categories(word: str) -> None:
    for column in COLUMNS:
        if column.kind is Kind.CODE or column.nullable:
            assert column.is_missing(word), column.name


def test_a_listed_value_is_never_missing() -> None:
    for column in COLUMNS:
        assert not any(column.is_missing(value) for value in column.allowed)
    for name in ("A1Cresult", "max_glu_serum"):
        assert not BY_FIELD[name].is_missing("None")
        assert not BY_FIELD[name].is_missing(" None "), "blanks around it do not change what it means"
        assert BY_FIELD[name].read(" None ") == "None"
    assert BY_FIELD["A1Cresult"].is_missing("nan")
    assert not BY_FIELD["gender"].is_missing("Unknown/Invalid")
    assert BY_FIELD["gender"].is_missing("Unknown")


def test_a_pattern_does_not_list_a_word() -> None:
    """`NA` matches the pattern of payer codes."""
    assert BY_FIELD["payer_code"].is_missing("NA")
    assert not BY_FIELD["payer_code"].is_missing("MC")
    assert all(word == word.strip().casefold() for word in MISSING_WORDS)


def test_a_missing_measurement_is_rejected_with_what_none_stands_for() -> None:
    for name in ("A1Cresult", "max_glu_serum"):
        assert BY_FIELD[name].problem(None) == "is missing (None stands for not measured)"
    assert BY_FIELD["age"].problem(None) == "is missing"
    assert BY_FIELD["race"].problem(None) is None
