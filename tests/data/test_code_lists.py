"""Code lists of today: every code has a value of the contract, and only columns where nothing is ambiguous accept them."""

from __future__ import annotations

import pytest

from healthpredict.data.code_lists import CODE_LISTS, CodeList, race_of, value_of
from healthpredict.data.contract import COLUMNS, DEATH_OR_HOSPICE

BY_NAME = {column.name: column for column in COLUMNS}
NUBC = "https://www.nubc.org/CodeSystem/PatDischargeStatus"


@pytest.mark.parametrize("codes", CODE_LISTS, ids=lambda codes: codes.systems[0])
def test_each_value_is_one_of_the_contract(codes: CodeList) -> None:
    column = BY_NAME[codes.column]
    assert {value: column.problem(value) for value in codes.values.values() if column.problem(value)} == {}
    assert len(codes.source) > 10


@pytest.mark.parametrize("codes", CODE_LISTS, ids=lambda codes: codes.systems[0])
def test_a_column_accepts_a_list_if_no_code_means_something_else_in_the_data_set(codes: CodeList) -> None:
    column = BY_NAME[codes.column]
    other = [code for code in codes.values if code in column.allowed and codes.values[code] != str(int(code))]
    assert codes.accepted is (not other) or codes.column == "admission_type_id"
    for code, value in codes.values.items():
        if codes.accepted:
            assert column.read(code) == value
        elif column.read(code) != value:
            assert code in other or column.problem(column.read(code))


def test_deaths_and_hospice_stay_those() -> None:
    dead = ("20", "40", "41", "42", "50", "51")
    assert {value_of(NUBC, code) for code in dead} == set(DEATH_OR_HOSPICE)
    alive = next(codes for codes in CODE_LISTS if NUBC in codes.systems).values.keys() - set(dead)
    assert not {value_of(NUBC, code) for code in alive} & set(DEATH_OR_HOSPICE)


def test_a_planned_readmission_changes_nothing_else() -> None:
    assert [value_of(NUBC, code) for code in ("81", "83", "90", "95")] == ["1", "3", "22", "30"]


@pytest.mark.parametrize(
    ("code", "value"),
    [("111", "MC"), ("12", "MC"), ("29", "MD"), ("311", "CH"), ("32", "OG"), ("512", "PO"), ("99", None)],
)
def test_a_payer_has_the_value_of_its_beginning(code: str, value: str | None) -> None:
    assert value_of("https://nahdo.org/sopt", code) == value
    assert BY_NAME["payer_code"].read(code) == value


@pytest.mark.parametrize(
    ("codes", "race"),
    [
        (["2106-3", "2186-5"], "Caucasian"),
        (["2106-3", "2135-2"], "Hispanic"),
        (["2054-5", "2028-9"], "Other"),
        (["UNK"], None),
        ([], None),
    ],
)
def test_race_and_ethnicity_become_one_value(codes: list[str], race: str | None) -> None:
    assert race_of(codes) == race


def test_an_unknown_code_or_list_is_an_error() -> None:
    with pytest.raises(KeyError, match="99"):
        value_of(NUBC, "99")
    with pytest.raises(KeyError, match="nowhere"):
        value_of("nowhere", "1")
    with pytest.raises(KeyError, match="207"):
        value_of("http://nucc.org/provider-taxonomy", "207")
