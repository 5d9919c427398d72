"""Codes for the values of the contract."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from healthpredict.data.code_lists import CODE_LISTS, LAST_UNPLANNED, CodeList
from healthpredict.fhir.rules import LOCAL

Resource = dict[str, Any]
"""A resource or a part of one, as plain JSON."""
UCUM: Final = "http://unitsofmeasure.org"
_NOT_STANDARD: Final = frozenset({("discharge_disposition_id", "25")})
"""Values for which a modern code would say more than the data set does."""


def _is_planned(codes: CodeList, code: str) -> bool:
    """Whether a code announces a planned readmission (NUBC 81 to 95), which says more than the data set does."""
    return codes.column == "discharge_disposition_id" and code.isdigit() and int(code) > LAST_UNPLANNED


def _standard_codes() -> dict[tuple[str, str], tuple[str, str]]:
    """Return (column, value) -> system and code, where exactly one current code of the column's main list has the value."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    seen: set[str] = set()
    for codes in CODE_LISTS:
        if codes.column in seen:
            continue
        seen.add(codes.column)
        values = {code: value for code, value in codes.values.items() if value and not _is_planned(codes, code)}
        once = Counter(values.values())
        for code, value in values.items():
            if once[value] == 1 and (codes.column, value) not in _NOT_STANDARD:
                found[codes.column, value] = (codes.systems[0], code)
    return found


_STANDARD: Final = _standard_codes()


def concept_of_value(column: str, value: str) -> Resource:
    """Return the concept of a value of the contract: in the current code system if it has one code there, else in our own."""
    system, code = _STANDARD.get((column, value), (f"{LOCAL}{column}", value))
    return concept(system, code)


def concept(system: str, code: str) -> Resource:
    """Return a CodeableConcept."""
    return {"coding": [{"system": system, "code": code}]}
