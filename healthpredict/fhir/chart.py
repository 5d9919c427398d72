"""Collect the resources of one person, so that a stay can be described from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import msgspec

from healthpredict.fhir.references import target
from healthpredict.fhir.resources import (
    AnyResource,
    Concept,
    Condition,
    Coverage,
    Drug,
    Encounter,
    Medication,
    MedicationAdministration,
    MedicationRequest,
    Observation,
    Patient,
    PractitionerRole,
    Procedure,
)
from healthpredict.fhir.rules import NOT_CONFIRMED, NOT_DONE, NOT_HELD
from healthpredict.fhir.terminology import Terminology, codes_of

_DONE: Final = (Observation, MedicationRequest, MedicationAdministration, Procedure, Coverage)
"""What was measured, ordered, given, done or covered."""

REPEATED: Final = "is a repetition of another resource"
NOT_HELD_REASON: Final = "was planned, cancelled or entered in error"
NOT_DONE_REASON: Final = "was not done, cancelled or entered in error"
NOT_CONFIRMED_REASON: Final = "is refuted or entered in error"

RESULTS: Final = "laboratory result"
PROCEDURES: Final = "Procedure"
DRUGS: Final = "MedicationRequest or MedicationAdministration"
VISITS: Final = "other Encounter"
"""Kinds of resources. If the source delivers a kind for anybody, a person without any has none; else their number is not known."""


class Chart:
    """The resources of one person, without those that do not count.

    Attributes:
        wrong_version: what showed that a resource is not FHIR R4, or None.
        left_out: (resource type, reason) -> number of resources that do not count, whatever the stay.
    """

    def __init__(
        self,
        terminology: Terminology,
        medications: Mapping[str, Drug | None] | None = None,
        specialties: Mapping[str, tuple[Concept, ...]] | None = None,
        delivered: Collection[str] = (),
    ) -> None:
        """Create an empty chart.

        Args:
            terminology: how codes are read.
            medications: drugs that are known already, by id; see `drug_of`.
            specialties: those that are known already, by the keys of `keys_of`.
            delivered: what the source of this chart has for other persons, such as `RESULTS`.
        """
        self.terminology = terminology
        self.delivered = delivered
        self.patients: dict[str, Patient] = {}
        self.encounters: dict[str, Encounter] = {}
        self.conditions: list[Condition] = []
        self.observations: list[Observation] = []
        self.orders: list[MedicationRequest] = []
        self.administrations: list[MedicationAdministration] = []
        self.procedures: list[Procedure] = []
        self.coverages: list[Coverage] = []
        self._done: dict[type, list[Any]] = {
            Observation: self.observations,
            MedicationRequest: self.orders,
            MedicationAdministration: self.administrations,
            Procedure: self.procedures,
            Coverage: self.coverages,
        }
        self.medications: dict[str, Drug | None] = {}
        self.specialties: dict[str, tuple[Concept, ...]] = {}
        self._known_medications = medications or {}
        self._known_specialties = specialties or {}
        self.left_out: Counter[tuple[str, str]] = Counter()
        self.wrong_version: str | None = None

    def add(self, resource: AnyResource) -> None:
        """Add a resource, or count it as left out."""
        kind = type(resource)
        if not isinstance(resource, _DONE):
            _ADD[kind](self, resource)
        elif resource.status in NOT_DONE or (isinstance(resource, MedicationRequest) and resource.do_not_perform):
            self.left_out[kind.__name__, NOT_DONE_REASON] += 1
        else:
            self._done[kind].append(resource)

    def medication(self, order: MedicationRequest | MedicationAdministration) -> Drug | None:
        """Return the drug of an order or administration, or None if it cannot be found."""
        if order.medication_codeable_concept is not None:
            return order.medication_codeable_concept
        reference = target(order.medication_reference)
        if reference is None:
            return None
        for contained in order.contained:
            if contained.id == reference and isinstance(contained.code, dict):
                return _drug(contained.code)
        return self.medications.get(reference) or self._known_medications.get(reference)

    def specialty(self, reference: str) -> tuple[Concept, ...]:
        """Return the specialties of a practitioner or role."""
        return self.specialties.get(reference) or self._known_specialties.get(reference, ())

    def _add_patient(self, patient: Patient) -> None:
        if patient.id is None or patient.id in self.patients:
            self.left_out["Patient", REPEATED if patient.id else "has no id"] += 1
        else:
            self.patients[patient.id] = patient

    def _add_encounter(self, encounter: Encounter) -> None:
        if isinstance(encounter.class_, tuple) or encounter.actual_period is not None:
            self.wrong_version = "R5 (an Encounter with a list of classes)"
        elif isinstance(encounter.class_, str):
            self.wrong_version = "DSTU2 (an Encounter whose class is a text)"
        if encounter.id is None or encounter.id in self.encounters:
            self.left_out["Encounter", REPEATED if encounter.id else "has no id"] += 1
        elif encounter.status in NOT_HELD:
            self.left_out["Encounter", NOT_HELD_REASON] += 1
        else:
            self.encounters[encounter.id] = encounter

    def _add_condition(self, condition: Condition) -> None:
        if isinstance(condition.clinical_status, str):
            self.wrong_version = "STU3 or older (a Condition whose clinicalStatus is a text)"
        status = condition.verification_status
        codes = [status] if isinstance(status, str) else codes_of(status)
        if any(code in NOT_CONFIRMED for code in codes):
            self.left_out["Condition", NOT_CONFIRMED_REASON] += 1
        else:
            self.conditions.append(condition)

    def _add_medication(self, medication: Medication) -> None:
        if medication.id is not None:
            self.medications[medication.id] = drug_of(medication)

    def _add_role(self, role: PractitionerRole) -> None:
        for key in keys_of(role):
            self.specialties[key] = role.specialty


def drug_of(medication: Medication) -> Drug | None:
    """Return what a Medication says about its drug: its code, else the codes of all its ingredients."""
    if medication.code is not None and (medication.code.coding or medication.code.text):
        return medication.code
    parts = [part.item_codeable_concept for part in medication.ingredient if part.item_codeable_concept is not None]
    if not parts:
        return None
    text = " / ".join(part.text or "" for part in parts)
    return Drug(coding=tuple(code for part in parts for code in part.coding), text=text)


def keys_of(role: PractitionerRole) -> list[str]:
    """Return the keys under which encounters refer to a PractitionerRole: its id and its practitioner."""
    return [key for key in (role.id, target(role.practitioner)) if key]


def _drug(code: dict[str, Any]) -> Drug | None:
    try:
        return msgspec.convert(code, Drug)
    except msgspec.ValidationError:
        return None


_ADD: dict[type, Callable[[Chart, Any], None]] = {
    Patient: Chart._add_patient,
    Encounter: Chart._add_encounter,
    Condition: Chart._add_condition,
    Medication: Chart._add_medication,
    PractitionerRole: Chart._add_role,
}
