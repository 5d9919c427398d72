"""Collect the resources of one person, so that a stay can be described from them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Generic, NamedTuple, TypeVar

from healthpredict.fhir.dates import Moment, first_moment, read_moment
from healthpredict.fhir.references import target
from healthpredict.fhir.resources import (
    NO_PERIOD,
    AnyResource,
    Concept,
    Condition,
    Coverage,
    Encounter,
    Medication,
    MedicationAdministration,
    MedicationRequest,
    Observation,
    Patient,
    PractitionerRole,
    Procedure,
)
from healthpredict.fhir.rules import EMERGENCY, NOT_CONFIRMED, NOT_DONE, NOT_HELD, OUTPATIENT
from healthpredict.fhir.stays import Stay, class_of
from healthpredict.fhir.terminology import Diagnosis, Terminology, codes_of

Item = TypeVar("Item", bound=AnyResource)

REPEATED = "is a repetition of another resource"
NOT_HELD_REASON = "was planned, cancelled or entered in error"
NOT_DONE_REASON = "was not done, cancelled or entered in error"
NOT_CONFIRMED_REASON = "is refuted or entered in error"


RESULTS: Final = "laboratory result"
PROCEDURES: Final = "Procedure"
DRUGS: Final = "MedicationRequest or MedicationAdministration"
VISITS: Final = "other Encounter"
"""What a source may have delivered or not. If it did, a person without any has none; otherwise their number is not known."""


class Problem(NamedTuple):
    """A condition of a person.

    Attributes:
        condition: the resource.
        diagnosis: what its code says.
        start: onset, else when it was recorded, or None if neither is known to the day.
        end: abatement, or None if it is not known to the day.
        order: when it was recorded, for sorting.
    """

    condition: Condition
    diagnosis: Diagnosis
    start: Moment | None
    end: Moment | None
    order: datetime | None


class Grouped(Generic[Item]):
    """Resources by the encounter that they name, and those that name none by time."""

    def __init__(
        self, items: Iterable[Item], encounter_of: Callable[[Item], Any], time_of: Callable[[Item], Moment | None]
    ) -> None:
        self._of_encounter: dict[str, list[Item]] = {}
        loose = []
        for item in items:
            encounter = target(encounter_of(item))
            if encounter is not None:
                self._of_encounter.setdefault(encounter, []).append(item)
            else:
                moment = time_of(item)
                if moment is not None:
                    loose.append((moment, item))
        self._loose = sorted(loose, key=lambda pair: pair[0].time)
        self._times = [moment.time for moment, _ in self._loose]

    def of(self, stay: Stay, until: Moment) -> list[Item]:
        """Return the resources of a stay: those that name one of its encounters, or no encounter and a time until `until`."""
        found = [item for encounter in stay.ids for item in self._of_encounter.get(encounter, ())]
        if self._loose:
            midnight = stay.start.time.replace(hour=0, minute=0, second=0, microsecond=0)
            for moment, item in self._loose[bisect_left(self._times, midnight) :]:
                if moment.time > until.time and moment.day > until.day:
                    break
                if moment.within(stay.start, until):
                    found.append(item)
        return found


class Chart:
    """The resources of one person, without those that do not count.

    Attributes:
        wrong_version: what showed that a resource is not FHIR R4, or None.
        left_out: (resource type, reason) -> number of resources that do not count, whatever the stay.
    """

    def __init__(
        self,
        terminology: Terminology,
        medications: Mapping[str, Concept | None] | None = None,
        specialties: Mapping[str, tuple[Concept, ...]] | None = None,
        delivered: Collection[str] = (),
    ) -> None:
        """Create an empty chart.

        Args:
            terminology: how codes are read.
            medications: drugs that are known already, by id; see `concept_of`.
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
        self.medications: dict[str, Concept | None] = {}
        self.specialties: dict[str, tuple[Concept, ...]] = {}
        self._known_medications = medications or {}
        self._known_specialties = specialties or {}
        self.left_out: Counter[tuple[str, str]] = Counter()
        self.wrong_version: str | None = None

    def add(self, resource: AnyResource) -> None:
        """Add a resource, or count it as left out."""
        _ADD[type(resource)](self, resource)

    def medication(self, order: MedicationRequest | MedicationAdministration) -> Concept | None:
        """Return the drug of an order or administration, or None if it cannot be found."""
        if order.medication_codeable_concept is not None:
            return order.medication_codeable_concept
        reference = target(order.medication_reference)
        if reference is None:
            return None
        for contained in order.contained:
            if contained.id == reference and isinstance(contained.code, dict):
                return _concept(contained.code)
        return self.medications.get(reference) or self._known_medications.get(reference)

    def specialty(self, reference: str) -> tuple[Concept, ...]:
        """Return the specialties of a practitioner or role."""
        return self.specialties.get(reference) or self._known_specialties.get(reference, ())

    def problems(self) -> list[Problem]:
        """Return all conditions."""
        found = []
        for condition in self.conditions:
            onset = condition.onset_period or NO_PERIOD
            abatement = condition.abatement_period or NO_PERIOD
            recorded = read_moment(condition.recorded_date)
            start = first_moment(condition.onset_date_time, onset.start) or recorded
            end = first_moment(condition.abatement_date_time, abatement.end)
            recorded = recorded or start
            diagnosis = self.terminology.diagnosis(condition.code)
            found.append(Problem(condition, diagnosis, start, end, recorded.time if recorded else None))
        return found

    def visits(self) -> dict[str, list[tuple[Moment, Encounter]]]:
        """Return visits other than inpatient ones by `OUTPATIENT` or `EMERGENCY`, in the order of their start."""
        found: dict[str, list[tuple[Moment, Encounter]]] = {"outpatient": [], EMERGENCY: []}
        for encounter in self.encounters.values():
            kind = class_of(encounter)
            start = read_moment((encounter.period or NO_PERIOD).start)
            if start is not None and (kind == EMERGENCY or kind in OUTPATIENT):
                found[EMERGENCY if kind == EMERGENCY else "outpatient"].append((start, encounter))
        for visits in found.values():
            visits.sort(key=lambda visit: visit[0].time)
        return found

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

    def _add_observation(self, observation: Observation) -> None:
        if observation.status in NOT_DONE:
            self.left_out["Observation", NOT_DONE_REASON] += 1
        else:
            self.observations.append(observation)

    def _add_order(self, order: MedicationRequest) -> None:
        if order.status in NOT_DONE or order.do_not_perform:
            self.left_out["MedicationRequest", NOT_DONE_REASON] += 1
        else:
            self.orders.append(order)

    def _add_administration(self, administration: MedicationAdministration) -> None:
        if administration.status in NOT_DONE:
            self.left_out["MedicationAdministration", NOT_DONE_REASON] += 1
        else:
            self.administrations.append(administration)

    def _add_procedure(self, procedure: Procedure) -> None:
        if procedure.status in NOT_DONE:
            self.left_out["Procedure", NOT_DONE_REASON] += 1
        else:
            self.procedures.append(procedure)

    def _add_coverage(self, coverage: Coverage) -> None:
        if coverage.status in NOT_DONE:
            self.left_out["Coverage", NOT_DONE_REASON] += 1
        else:
            self.coverages.append(coverage)

    def _add_medication(self, medication: Medication) -> None:
        if medication.id is not None:
            self.medications[medication.id] = concept_of(medication)

    def _add_role(self, role: PractitionerRole) -> None:
        for key in keys_of(role):
            self.specialties[key] = role.specialty


def concept_of(medication: Medication) -> Concept | None:
    """Return what a Medication says about its drug: its code, else the codes of all its ingredients."""
    if medication.code is not None and (medication.code.coding or medication.code.text):
        return medication.code
    parts = [part.item_codeable_concept for part in medication.ingredient if part.item_codeable_concept is not None]
    if not parts:
        return None
    text = " / ".join(part.text or "" for part in parts)
    return Concept(coding=tuple(code for part in parts for code in part.coding), text=text)


def keys_of(role: PractitionerRole) -> list[str]:
    """Return the keys under which encounters refer to a PractitionerRole: its id and its practitioner."""
    return [key for key in (role.id, target(role.practitioner)) if key]


def _concept(code: dict[str, Any]) -> Concept | None:
    import msgspec

    try:
        return msgspec.convert(code, Concept)
    except msgspec.ValidationError:
        return None


_ADD: dict[type, Callable[[Chart, Any], None]] = {
    Patient: Chart._add_patient,
    Encounter: Chart._add_encounter,
    Condition: Chart._add_condition,
    Observation: Chart._add_observation,
    MedicationRequest: Chart._add_order,
    MedicationAdministration: Chart._add_administration,
    Procedure: Chart._add_procedure,
    Coverage: Chart._add_coverage,
    Medication: Chart._add_medication,
    PractitionerRole: Chart._add_role,
}
