"""Find the contract's value for coded concepts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from healthpredict.data.code_lists import CODE_LISTS, value_of
from healthpredict.data.contract import BY_FIELD
from healthpredict.data.diagnosis import Coding as DiagnosisCoding
from healthpredict.data.diagnosis import read_diagnosis
from healthpredict.fhir.resources import Coding, Concept
from healthpredict.fhir.rules import ACT_PRIORITY, LOCAL, PRIORITY
from healthpredict.fhir.snomed import ICD10_OF, SNOMED

ICD_SYSTEMS: Final = {
    DiagnosisCoding.ICD10: ("http://hl7.org/fhir/sid/icd-10-cm", "urn:oid:2.16.840.1.113883.6.90"),
    DiagnosisCoding.ICD9: ("http://hl7.org/fhir/sid/icd-9-cm", "urn:oid:2.16.840.1.113883.6.103"),
}
"""The URIs by which FHIR names a system, in order of preference."""
_SYSTEMS: Final = {
    column: frozenset(system for codes in CODE_LISTS if codes.column == column for system in codes.systems)
    for column in {codes.column for codes in CODE_LISTS}
}
_CACHED: Final = 65536
"""More than the concepts that a hospital uses in a year."""


class Diagnosis:
    """What a concept says about a diagnosis.

    Attributes:
        code: canonical ICD code, or None if the concept has none that is known.
        unknown: the code that is not known, as `system|code`, or None.
        coding: its system, or None.
        full: the whole code without its point, as it was sent; "" if there is none.
        is_diabetes: whether it is diabetes mellitus.
    """

    __slots__ = ("code", "coding", "full", "is_diabetes", "unknown")

    def __init__(
        self,
        code: str | None = None,
        unknown: str | None = None,
        coding: DiagnosisCoding | None = None,
        full: str = "",
    ) -> None:
        self.code = code
        self.unknown = unknown
        self.coding = coding
        self.full = full.replace(".", "")
        self.is_diabetes = code is not None and _is_diabetes(code)


class Terminology:
    """Maps codes to ICD and to the contract. It remembers what it has looked up, and nothing about patients."""

    def __init__(self, snomed: Mapping[str, str] | None = None) -> None:
        """Args: snomed, a hospital's own map from SNOMED CT to ICD-10-CM, which replaces the table of `fhir.snomed`."""
        self._snomed = ICD10_OF if snomed is None else snomed
        self._diagnoses: dict[Concept | None, Diagnosis] = {}
        self._values: dict[tuple[str, Concept], str | None] = {}

    def diagnosis(self, concept: Concept | None) -> Diagnosis:
        """Return what a concept says about a diagnosis: ICD-10-CM before ICD-9-CM before SNOMED CT."""
        found = self._diagnoses.get(concept)
        if found is None:
            if len(self._diagnoses) >= _CACHED:
                self._diagnoses.clear()
            found = self._diagnoses[concept] = self._find_diagnosis(concept)
        return found

    def _find_diagnosis(self, concept: Concept | None) -> Diagnosis:
        if concept is None:
            return Diagnosis()
        for coding, systems in ICD_SYSTEMS.items():
            for code in concept.coding:
                if code.code and code.system in systems:
                    text = code.code.strip().upper()
                    read = read_diagnosis(text, coding)[0]
                    if read is not None:
                        return Diagnosis(read, coding=coding, full=text)
        for code in concept.coding:
            mapped = self._snomed.get(code.code or "") if code.system == SNOMED else None
            if mapped is not None:
                icd10 = DiagnosisCoding.ICD10
                return Diagnosis(read_diagnosis(mapped, icd10)[0], coding=icd10, full=mapped)
        named = next((code for code in concept.coding if code.code), None)
        return Diagnosis(unknown=None if named is None else f"{named.system or 'no system'}|{named.code}")

    def value(self, column: str, concept: Concept, unknown: Counter[str]) -> str | None:
        """Return the contract's value for a concept, or None if there is none.

        Args:
            column: name in the contract.
            concept: coded in one of today's lists or in the local code system of `export-fhir`.
            unknown: counts codes of known lists that have no value, as `system|code`.
        """
        key = (column, concept)
        if key in self._values:
            return self._values[key]
        found, strangers = None, []
        for code in concept.coding:
            if code.code is None or code.system is None:
                continue
            try:
                found = _value(column, code)
            except KeyError:
                strangers.append(f"{code.system}|{code.code}")
            if found is not None:
                break
        if found is None and strangers:
            unknown.update(strangers)
            return None
        if len(self._values) >= _CACHED:
            self._values.clear()
        self._values[key] = found
        return found


def _value(column: str, code: Coding) -> str | None:
    """Raises: KeyError, the code is not known."""
    assert code.code is not None and code.system is not None
    if code.system == f"{LOCAL}{column}":
        if BY_FIELD[column].problem(code.code) is not None:
            raise KeyError(code.code)
        return code.code
    if column == "admission_type_id" and code.system == ACT_PRIORITY:
        return PRIORITY[code.code]
    if code.system not in _SYSTEMS.get(column, ()):
        raise KeyError(code.code)
    try:
        return value_of(code.system, code.code)
    except KeyError:
        # Some systems drop the leading zero of NUBC's codes.
        return value_of(code.system, code.code.zfill(2))


def _is_diabetes(code: str) -> bool:
    """Whether a canonical code is diabetes mellitus: ICD-9-CM 250, ICD-10-CM E08 to E13."""
    return code.split(".", maxsplit=1)[0] == "250" or "E08" <= code[:3] <= "E13"


def codes_of(concept: Concept | None) -> list[str]:
    """Return the codes of a concept, whatever their systems."""
    return [] if concept is None else [code.code for code in concept.coding if code.code]
