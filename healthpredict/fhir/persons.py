"""Which Patient resources are one person: those that are linked, also through others."""

from __future__ import annotations

from collections.abc import Iterable

from healthpredict.fhir.references import target
from healthpredict.fhir.resources import Link


class Persons:
    """Groups of linked Patient resources. Links may form cycles, and may lead to resources that were not delivered."""

    def __init__(self) -> None:
        self._next: dict[str, str] = {}

    def link(self, patient: str | None, links: Iterable[Link]) -> None:
        """Add the links of a Patient. Args: patient, its id."""
        for link in links:
            other = target(link.other)
            if patient is not None and other is not None:
                first, second = sorted((self.of(patient), self.of(other)))
                if first != second:
                    self._next[second] = first

    def of(self, patient: str) -> str:
        """Return the id that stands for the person of a Patient: the first in the order of text."""
        first = patient
        while first in self._next:
            first = self._next[first]
        if first != patient:
            self._next[patient] = first
        return first
