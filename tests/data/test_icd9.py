"""Diagnosis groups: every published range, its borders, and what is not a code."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthpredict.data.icd9 import DIAGNOSIS_GROUPS, diagnosis_group


@pytest.mark.parametrize(
    ("code", "group"),
    [
        ("8", "infections"),
        ("139", "infections"),
        ("140", "neoplasms"),
        ("239", "neoplasms"),
        ("249", "endocrine"),
        ("250", "diabetes"),
        ("250.83", "diabetes"),
        ("251", "endocrine"),
        ("279", "endocrine"),
        ("285", "blood"),
        ("296", "mental"),
        ("349", "nervous"),
        ("365.44", "nervous"),
        ("390", "circulatory"),
        ("428", "circulatory"),
        ("459", "circulatory"),
        ("785", "circulatory"),
        ("486", "respiratory"),
        ("786", "respiratory"),
        ("579", "digestive"),
        ("787", "digestive"),
        ("580", "genitourinary"),
        ("788", "genitourinary"),
        ("648", "pregnancy"),
        ("682", "skin"),
        ("782", "skin"),
        ("715", "musculoskeletal"),
        ("745", "congenital"),
        ("770", "other"),
        ("780", "symptoms"),
        ("789", "symptoms"),
        ("799", "symptoms"),
        ("800", "injury"),
        ("999", "injury"),
        ("V58", "V"),
        ("E909", "E"),
    ],
)
def test_code_has_the_group_of_its_published_range(code: str, group: str) -> None:
    """Strack et al. 2014, table 2, and the chapters of ICD-9-CM for what the paper pools."""
    assert diagnosis_group(code) == group


@pytest.mark.parametrize("code", ["", "?", "0", "1000", "abc", "-5", "\uff14\uff12\uff18", "."])
def test_what_is_no_code_is_other(code: str) -> None:
    """A typing error must not prevent a prediction."""
    assert diagnosis_group(code) == "other"


@given(st.text(max_size=8))
def test_every_text_has_a_known_group(code: str) -> None:
    """The list of groups is complete."""
    assert diagnosis_group(code) in DIAGNOSIS_GROUPS
