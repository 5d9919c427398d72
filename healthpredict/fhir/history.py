"""The history of one person: everything that describing a stay needs, indexed once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from healthpredict.fhir.chart import Chart, Grouped, Problem
from healthpredict.fhir.dates import Moment, first_moment, read_moment
from healthpredict.fhir.doses import Order
from healthpredict.fhir.drugs import antidiabetics
from healthpredict.fhir.references import target
from healthpredict.fhir.resources import (
    NO_PERIOD,
    AnyResource,
    Encounter,
    MedicationAdministration,
    MedicationRequest,
    Observation,
    Patient,
    Procedure,
)
from healthpredict.fhir.rules import ACUTE, EMERGENCY, INPATIENT, LOINC, MEASURED
from healthpredict.fhir.stays import Stay, class_of, find_stays


class History:
    """The chart of one person, with indexes.

    Attributes:
        chart: what it was made from.
        laboratory: all laboratory results without panels.
        stays: all inpatient stays in the order of their start.
        used: the `id()` of each resource that a description used.
    """

    def __init__(self, chart: Chart, transfer_hours: float | None) -> None:
        """Args: transfer_hours, see `find_stays`."""
        self.chart = chart
        self.stays = find_stays(chart.encounters.values(), transfer_hours)
        self.used: set[int] = set()
        self.problems = chart.problems()
        self.own_problems: dict[str, list[Problem]] = {}
        self.by_id = {problem.condition.id: problem for problem in self.problems if problem.condition.id}
        for problem in self.problems:
            encounter = target(problem.condition.encounter)
            if encounter is not None:
                self.own_problems.setdefault(encounter, []).append(problem)
        visits = chart.visits()
        self.outpatient, self.emergency = visits["outpatient"], visits[EMERGENCY]
        self.laboratory: list[Observation] = []
        measured: dict[str, list[Observation]] = {name: [] for name in ("A1Cresult", "max_glu_serum", "weight")}
        for observation in chart.observations:
            if not observation.has_member and _is_laboratory(observation):
                self.laboratory.append(observation)
            name = _measures(observation)
            if name is not None:
                measured[name].append(observation)
        self.results = Grouped(self.laboratory, _encounter, observed)
        self.measured = {name: Grouped(found, _encounter, observed) for name, found in measured.items()}
        self.procedures = Grouped(chart.procedures, _encounter, _performed)
        self.orders = Grouped(chart.orders, _encounter, _authored)
        self.administrations = Grouped(chart.administrations, _context, _given)
        self.antidiabetic_orders = self._antidiabetic_orders()

    def patient_of(self, stay: Stay) -> Patient | None:
        """Return the Patient resource that the discharging encounter names, or the only one if it names none."""
        subject = target(stay.last.subject)
        if subject is None and len(self.chart.patients) == 1:
            return next(iter(self.chart.patients.values()))
        return self.chart.patients.get(subject or "")

    def use(self, resources: Collection[AnyResource]) -> None:
        """Record that a description used some resources."""
        self.used.update(map(id, resources))

    def _antidiabetic_orders(self) -> list[Order]:
        """Return all orders for antidiabetics, by time."""
        found = []
        for request in self.chart.orders:
            drug = self.chart.medication(request)
            columns = antidiabetics(drug) if drug is not None else ()
            if columns:
                found.append(Order(request, columns, read_moment(request.authored_on)))
        return sorted(found, key=lambda order: _sortable(order.time))


def _sortable(moment: Moment | None) -> float:
    return moment.time.timestamp() if moment else 0.0


def visits_before(visits: Sequence[tuple[Moment, Encounter]], start: datetime, days: int) -> list[Encounter]:
    """Return the visits that start in some days before a time."""
    first = start - timedelta(days=days)
    return [encounter for moment, encounter in visits if first <= moment.time < start]


def observed(observation: Observation) -> Moment | None:
    """Return when a measurement was made, or None if it is not known to the day."""
    period = observation.effective_period or NO_PERIOD
    return first_moment(
        observation.effective_date_time, observation.effective_instant, period.start, period.end, observation.issued
    )


def _is_laboratory(observation: Observation) -> bool:
    for concept in observation.category:
        for code in concept.coding:
            if code.code == "laboratory":
                return True
    return False


def _measures(observation: Observation) -> str | None:
    """Return the name of the column that a measurement is for, or None."""
    if observation.code is not None:
        for code in observation.code.coding:
            if code.code in MEASURED and code.system == LOINC:
                return MEASURED[code.code]
    return None


def _encounter(resource: Observation | Procedure | MedicationRequest) -> object:
    return resource.encounter


def _context(resource: MedicationAdministration) -> object:
    return resource.context


def _performed(procedure: Procedure) -> Moment | None:
    period = procedure.performed_period or NO_PERIOD
    return first_moment(procedure.performed_date_time, period.start, period.end)


def _authored(order: MedicationRequest) -> Moment | None:
    return read_moment(order.authored_on)


def _given(administration: MedicationAdministration) -> Moment | None:
    period = administration.effective_period or NO_PERIOD
    return first_moment(administration.effective_date_time, period.start, period.end)


def is_inpatient(encounter: Encounter) -> bool:
    """Return whether an encounter is an inpatient one, acute or not."""
    return class_of(encounter) in INPATIENT


def is_acute_class(encounter: Encounter) -> bool:
    """Return whether the class of an encounter is acute inpatient care."""
    return class_of(encounter) in ACUTE


def is_read(observation: Observation) -> bool:
    """Return whether a measurement is needed: a laboratory result, or a weight."""
    return _is_laboratory(observation) or _measures(observation) is not None
