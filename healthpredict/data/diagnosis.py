"""Read diagnosis codes of ICD-9-CM and ICD-10-CM into one canonical form.

The canonical form of an ICD-9-CM code is that of the UCI data set: the category without leading zeros (`038.9` is `38`, `428.0`
is `428`, `V45.81` is `V45`), and for diabetes the whole code without trailing zeros (`250.60` is `250.6`, `250.00` is `250`). That
of an ICD-10-CM code is the whole code with its point: `E119` is `E11.9`.

Which codes exist in both systems follows from their ranges (ICD-9-CM, FY 2015, and ICD-10-CM, FY 2024, both published by CMS and
NCHS):

- E codes are E000 to E030 and E800 to E999 in ICD-9-CM, with a point after three digits, and E00 to E89 in ICD-10-CM, with a point
  after two. Without the point, `E871` is a foreign object left in the body, or hyponatremia.
- V codes have at most five characters in ICD-9-CM. In ICD-10-CM, each complete one has seven.

This module imports only the standard library, so that the API can use it without pandas.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache
from typing import Final


class Coding(StrEnum):
    """A system of diagnosis codes."""

    ICD9 = "ICD-9-CM"
    ICD10 = "ICD-10-CM"


DIAGNOSIS_PATTERN: Final = (
    r"(V[0-9]{2}|E[0-9]{3}|[0-9]{3})\.?[0-9]{0,2}|[0-9]{1,2}(\.[0-9]{0,2})?|[A-Z][0-9][0-9AB]\.?[0-9A-Z]{0,4}-?"
)
"""What any code looks like. Without a point, the first three digits of an ICD-9-CM code are its category. A hyphen at the end marks
an incomplete ICD-10-CM code: `V45.-`, which would otherwise be one of ICD-9-CM."""
_ICD9: Final = re.compile(r"(?P<category>V[0-9]{2}|E[0-9]{3}|[0-9]{3}|[0-9]{1,2}(?=\.|$))\.?(?P<rest>[0-9]{0,2})")
_ICD10: Final = re.compile(r"(?P<category>[A-Z][0-9][0-9AB])\.?(?P<rest>[0-9A-Z]{0,4})-?")
_CANONICAL_ICD9: Final = re.compile(r"[0-9]+(\.[0-9]+)?|V[0-9]{2}|E[0-9]{3}")
_DIABETES: Final = 250
_E_CODES_OF_ICD9: Final = (*range(31), *range(800, 1000))
_COMPLETE_V: Final = 4
"""Characters after the category of a complete V code of ICD-10-CM."""
_AMBIGUOUS: Final = f"is a code of both {Coding.ICD9} and {Coding.ICD10}: state which in diagnosis_coding"


@lru_cache(maxsize=65536)  # more than the codes that a hospital uses in a year
def read_diagnosis(text: str, coding: str | None = None, default: str | None = None) -> tuple[str | None, str | None]:
    """Return the canonical form of a code, and its problem. One of them is None.

    Reading a canonical form again returns the same, except for `E` with three digits: see `unambiguous`.

    Args:
        text: matches `DIAGNOSIS_PATTERN`.
        coding: the code system, as `Coding`, if it is stated.
        default: the system of a code that exists in both, if none is stated. Without it, such a code has a problem.

    Returns:
        The problem is the rest of a sentence that begins with the column's name.
    """
    icd9, icd10 = _read_icd9(text), _read_icd10(text)
    if coding is not None:
        code = icd9 if coding == Coding.ICD9 else icd10
        return code, None if code else f"is not an {coding} code"
    if icd9 and icd10 and text[0] == "E":
        if default is None:
            return None, _AMBIGUOUS
        return (icd9 if default == Coding.ICD9 else icd10), None
    code = icd9 or icd10
    return code, None if code else f"is neither an {Coding.ICD9} nor an {Coding.ICD10} code"


def coding_of(code: str) -> Coding:
    """Return the system of a canonical code."""
    return Coding.ICD9 if _CANONICAL_ICD9.fullmatch(code) else Coding.ICD10


def unambiguous(code: str) -> str:
    """Return a canonical code in a notation that needs no stated system: `E878` is `E878.`, with the point of ICD-9-CM."""
    return f"{code}." if code[:1] == "E" and coding_of(code) is Coding.ICD9 else code


def _read_icd9(text: str) -> str | None:
    found = _ICD9.fullmatch(text)
    if found is None:
        return None
    category, rest = found["category"], found["rest"].rstrip("0")
    if category[0] == "E":
        return category if int(category[1:]) in _E_CODES_OF_ICD9 else None
    if category[0] == "V":
        return category
    number = int(category)
    return f"{number}.{rest}" if number == _DIABETES and rest else str(number)


def _read_icd10(text: str) -> str | None:
    found = _ICD10.fullmatch(text)
    if found is None:
        return None
    category, rest = found["category"], found["rest"]
    if category >= "E90" and category[0] == "E":
        return None
    if category[0] == "V" and len(rest) < _COMPLETE_V:
        return f"{category}.{rest}-"
    return f"{category}.{rest}" if rest else category
