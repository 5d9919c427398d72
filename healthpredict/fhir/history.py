"""The history of one person: everything that describing a stay needs, indexed once."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime, time, timedelta
from operator import attrgetter
from typing import Any, Final, Generic, NamedTuple, TypeVar

from healthpredict.fhir.chart import Chart
from healthpredict.fhir.dates import Moment, first_moment, read_moment
from healthpredict.fhir.doses import Order
from healthpredict.fhir.drugs import antidiabetics
from healthpredict.fhir.references import target
from healthpredict.fhir.resources import (
    NO_PERIOD,
    AnyResource,
    Condition,
    Encounter,
    MedicationAdministration,
    MedicationRequest,
    Observation,
    Patient,
    Procedure,
)
from healthpredict.fhir.rules import ADMISSION_HOURS, EMERGENCY, LOINC, MEASURED, OUTPATIENT
from healthpredict.fhir.stays import Stay, class_of, find_stays
from healthpredict.fhir.terminology import Diagnosis

Item = TypeVar("Item", bound=AnyResource)
_ENCOUNTER: Final = attrgetter("encounter")
_CONTEXT: Final = attrgetter("context")
"""What an administration calls its encounter."""
_LARGEST_OFFSET: Final = timedelta(hours=14)
"""Of a time zone in FHIR."""


class DatedCondition(NamedTuple):
    """A condition of a person.

    Attributes:
        condition: the resource.
        diagnosis: what its code says.
        start: onset, else when it was recorded, or None if neither is known to the day.
        end: abatement, or None if it is not known to the day.
        recorded: when it was recorded, else its start; None if neither is known to the day.
    """

    condition: Condition
    diagnosis: Diagnosis
    start: Moment | None
    end: Moment | None
    recorded: datetime | None


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
            # Times on the day of admission, in any time zone, are later than this.
            earliest = datetime.combine(stay.start.day, time(), UTC) - _LARGEST_OFFSET
            for moment, item in self._loose[bisect_left(self._times, earliest) :]:
                if moment.time > until.time and moment.day > until.day:
                    break
                if moment.within(stay.start, until):
                    found.append(item)
        return found


class History:
    """The chart of one person, with indexes.

    Attributes:
        chart: what it was made from.
        laboratory: all laboratory results without panels.
        stays: all inpatient stays in the order of their start.
        used: the `id()` of each resource that a description used.
    """

    def __init__(self, chart: Chart, transfer_days: int | None) -> None:
        """Args: transfer_days, see `find_stays`."""
        self.chart = chart
        self.stays = find_stays(chart.encounters.values(), transfer_days)
        self.used: set[int] = set()
        self.problems = _problems(chart)
        self.own_problems: dict[str, list[DatedCondition]] = {}
        self.by_id = {problem.condition.id: problem for problem in self.problems if problem.condition.id}
        for problem in self.problems:
            encounter = target(problem.condition.encounter)
            if encounter is not None:
                self.own_problems.setdefault(encounter, []).append(problem)
        self.outpatient = _visits(chart, OUTPATIENT)
        self.emergency = _visits(chart, {EMERGENCY})
        self.laboratory: list[Observation] = []
        measured: dict[str, list[Observation]] = {name: [] for name in ("A1Cresult", "max_glu_serum", "weight")}
        for observation in chart.observations:
            if not observation.has_member and _is_laboratory(observation):
                self.laboratory.append(observation)
            name = _measures(observation)
            if name is not None:
                measured[name].append(observation)
        self.results = Grouped(self.laboratory, _ENCOUNTER, observed)
        self.measured = {name: Grouped(found, _ENCOUNTER, observed) for name, found in measured.items()}
        self.procedures = Grouped(chart.procedures, _ENCOUNTER, _performed)
        self.orders = Grouped(chart.orders, _ENCOUNTER, _authored)
        self.administrations = Grouped(chart.administrations, _CONTEXT, _given)
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

    def emergency_before(self, stay: Stay) -> list[Encounter]:
        """Return the emergency encounters that led to the admission of a stay."""
        earliest = stay.start.time - timedelta(hours=ADMISSION_HOURS)
        return [
            encounter
            for start, encounter in self.emergency
            if start.time <= stay.start.time
            and (end := read_moment((encounter.period or NO_PERIOD).end)) is not None
            and end.time >= earliest
        ]

    def _antidiabetic_orders(self) -> list[Order]:
        """Return all orders for antidiabetics, by time."""
        found = []
        for request in self.chart.orders:
            drug = self.chart.medication(request)
            columns = antidiabetics(drug) if drug is not None else ()
            if columns:
                found.append(Order(request, columns, read_moment(request.authored_on)))
        return sorted(found, key=lambda order: _sortable(order.time))


def _problems(chart: Chart) -> list[DatedCondition]:
    """Return all conditions."""
    found = []
    for condition in chart.conditions:
        onset = condition.onset_period or NO_PERIOD
        abatement = condition.abatement_period or NO_PERIOD
        recorded = read_moment(condition.recorded_date)
        start = first_moment(condition.onset_date_time, onset.start) or recorded
        end = first_moment(condition.abatement_date_time, abatement.end)
        recorded = recorded or start
        diagnosis = chart.terminology.diagnosis(condition.code)
        found.append(DatedCondition(condition, diagnosis, start, end, recorded.time if recorded else None))
    return found


def _visits(chart: Chart, classes: Collection[str]) -> list[tuple[Moment, Encounter]]:
    """Return the visits of some classes, in the order of their start."""
    found = []
    for encounter in chart.encounters.values():
        if class_of(encounter) in classes:
            start = read_moment((encounter.period or NO_PERIOD).start)
            if start is not None:
                found.append((start, encounter))
    return sorted(found, key=lambda visit: visit[0].time)


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


def _performed(procedure: Procedure) -> Moment | None:
    period = procedure.performed_period or NO_PERIOD
    return first_moment(procedure.performed_date_time, period.start, period.end)


def _authored(order: MedicationRequest) -> Moment | None:
    return read_moment(order.authored_on)


def _given(administration: MedicationAdministration) -> Moment | None:
    period = administration.effective_period or NO_PERIOD
    return first_moment(administration.effective_date_time, period.start, period.end)


def is_needed(observation: Observation) -> bool:
    """Return whether a measurement is needed: a laboratory result, or a weight."""
    return _is_laboratory(observation) or _measures(observation) is not None
