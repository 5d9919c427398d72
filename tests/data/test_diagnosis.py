"""Diagnosis codes: every notation of a code has one canonical form, and what cannot be decided is a problem."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthpredict.data.diagnosis import DIAGNOSIS_PATTERN, Coding, coding_of, read_diagnosis, unambiguous
from healthpredict.data.equivalence import icd10_map

NOTATIONS = {
    "250.6": ["250.6", "250.60", "2506", "25060"],
    "250": ["250", "250.", "250.0", "250.00", "25000"],
    "38": ["38", "038", "38.9", "038.9", "0389"],
    "8": ["8", "008", "8.45", "008.45", "00845"],
    "428": ["428", "428.0", "4280", "428.21", "42821"],
    "V45": ["V45", "V45.8", "V45.81", "V4581"],
    "E885": ["E885.", "E885.9"],
    "E11.9": ["E11.9", "E119"],
    "E11.65": ["E11.65", "E1165"],
    "J44.1": ["J44.1", "J441"],
    "I10": ["I10"],
    "C4A.9": ["C4A.9", "C4A9"],
    "U07.1": ["U07.1", "U071"],
    "V45.81XA": ["V45.81XA", "V4581XA"],
}


@pytest.mark.parametrize(
    ("text", "code"), [(text, code) for code, texts in NOTATIONS.items() for text in texts], ids=lambda value: value
)
def test_each_notation_has_one_canonical_form(text: str, code: str) -> None:
    assert re.fullmatch(DIAGNOSIS_PATTERN, text)
    assert read_diagnosis(text) == (code, None)


@pytest.mark.parametrize("text", ["E871", "E8859", "E000", "E849", "E878"])
def test_an_e_code_without_a_point_needs_its_system(text: str) -> None:
    """E871 is hyponatremia, or a foreign object left in the body."""
    code, problem = read_diagnosis(text)
    assert code is None
    assert problem == "is a code of both ICD-9-CM and ICD-10-CM: state which in diagnosis_coding"
    assert read_diagnosis(text, Coding.ICD9) == read_diagnosis(text, default=Coding.ICD9) == (text[:4], None)
    icd10 = f"{text[:3]}.{text[3:]}"
    assert read_diagnosis(text, Coding.ICD10) == read_diagnosis(text, default=Coding.ICD10) == (icd10, None)


def test_a_default_does_not_change_a_code_of_one_system() -> None:
    assert read_diagnosis("E119", default=Coding.ICD9) == ("E11.9", None)
    assert read_diagnosis("428.0", default=Coding.ICD10) == ("428", None)


@pytest.mark.parametrize(
    ("text", "coding", "problem"),
    [
        ("J44.1", Coding.ICD9, "is not an ICD-9-CM code"),
        ("E119", Coding.ICD9, "is not an ICD-9-CM code"),
        ("428.0", Coding.ICD10, "is not an ICD-10-CM code"),
        ("E950", Coding.ICD10, "is not an ICD-10-CM code"),
        ("E119.5", None, "is neither an ICD-9-CM nor an ICD-10-CM code"),
    ],
)
def test_a_code_must_be_of_its_system(text: str, coding: str | None, problem: str) -> None:
    assert read_diagnosis(text, coding) == (None, problem)


def test_an_incomplete_v_code_of_icd10_is_not_mistaken_for_one_of_icd9() -> None:
    assert read_diagnosis("V45", Coding.ICD10)[0] == "V45.-"
    assert read_diagnosis("V45.8", Coding.ICD10)[0] == "V45.8-"
    assert coding_of("V45.-") == coding_of("V45.8-") == Coding.ICD10


@given(st.from_regex(DIAGNOSIS_PATTERN, fullmatch=True), st.sampled_from([None, *Coding]), st.sampled_from([*Coding]))
def test_reading_again_changes_nothing(text: str, coding: str | None, default: str) -> None:
    """Live batches and golden rows hold codes that are read again, without a stated system and under any default."""
    code, problem = read_diagnosis(text, coding)
    assert (code is None) != (problem is None)
    if code is not None:
        assert re.fullmatch(DIAGNOSIS_PATTERN, unambiguous(code))
        assert read_diagnosis(unambiguous(code), default=default) == (code, None)
        assert coding is None or coding_of(code) == coding


@pytest.mark.parametrize(
    ("icd10", "icd9"),
    [
        ("E11.9", "250"),
        ("E11.65", "250.02"),
        ("Z51.89", "V57"),
        ("E11.22", "250.4"),
        ("I50.9", "428"),
        ("I25.10", "414"),
        ("J44.9", "496"),
        ("J44.1", "491"),
        ("N17.9", "584"),
        ("E87.1", "276"),
        ("Z79.4", "V58"),
        ("W19.XXXA", "E888"),
        ("J44", "491"),
        ("E11", "250"),
        ("E11.3", "250.5"),
        # Newer than the mappings.
        ("I16.0", "circulatory"),
        ("U07.1", "other"),
        ("E11.10", "250"),
        ("I5A", "circulatory"),
    ],
)
def test_a_code_of_icd10_has_that_of_icd9(icd10: str, icd9: str) -> None:
    assert icd10_map().icd9(icd10) == icd9


def test_a_code_of_icd9_stays() -> None:
    for code in ("250.6", "38", "V45", "E878", "999"):
        assert icd10_map().icd9(code) == code


def test_the_map_says_where_it_comes_from() -> None:
    assert "General Equivalence Mappings" in icd10_map().source
    assert icd10_map().date
