"""Describe the index admissions of a sorted FHIR export as rows of the raw layout, and account for every resource."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Final

from healthpredict.data.columns import OUTCOME_COLUMN
from healthpredict.data.contract import BY_FIELD, DIAGNOSES, RECORD_COLUMNS
from healthpredict.data.diagnosis import unambiguous
from healthpredict.data.import_params import ImportParams
from healthpredict.fhir.admissions import Admission, find_admissions
from healthpredict.fhir.chart import Chart
from healthpredict.fhir.history import History
from healthpredict.fhir.references import target
from healthpredict.fhir.resources import (
    AnyResource,
    Encounter,
    MedicationAdministration,
    MedicationRequest,
    Patient,
    subject_of,
)
from healthpredict.fhir.stays import class_of
from healthpredict.fhir.terminology import Terminology
from healthpredict.operations.resource_groups import group_bytes, no_cycle_collection, unpack_group
from healthpredict.operations.sort_export import SortedExport

NO_STAY: Final = "belongs to no index stay"
NO_VISIT: Final = "in no index stay, and not in the year before one"
NO_ADMISSION: Final = "has no index admission"
NO_PATIENT: Final = "its patient is not in the export"


@dataclass(slots=True)
class DescribedExport:
    """The index admissions of an export as rows, and what was used and left out.

    Attributes:
        rows: raw rows, with `readmitted`.
        used: type -> number of resources that a stay used.
        left_out: (type, reason) -> number of resources.
        stays_left_out, no_outcome, planned, persons, limited, unknown_codes: as in `ImportedExport`.
        unknown: (column, reason) -> number of index admissions.
        used_medications: ids of the Medications that were used.
        used_roles: ids of the PractitionerRoles that were used.
        ids: the values of `encounter_id` that `add` has seen.
    """

    rows: list[dict[str, str | None]] = field(default_factory=list)
    used: Counter[str] = field(default_factory=Counter)
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)
    stays_left_out: Counter[str] = field(default_factory=Counter)
    no_outcome: Counter[str] = field(default_factory=Counter)
    planned: int = 0
    persons: int = 0
    unknown: Counter[tuple[str, str]] = field(default_factory=Counter)
    limited: Counter[str] = field(default_factory=Counter)
    unknown_codes: Counter[str] = field(default_factory=Counter)
    used_medications: set[str] = field(default_factory=set)
    used_roles: set[str] = field(default_factory=set)
    ids: set[int] = field(default_factory=set)

    def add(self, part: DescribedExport) -> None:
        """Add the admissions of other persons. If a value of `encounter_id` is taken, the next one that is free replaces it."""
        for row in part.rows:
            number = int(row["encounter_id"] or 0)
            while number in self.ids:
                number += 1
            self.ids.add(number)
            self.rows.append(row | {"encounter_id": str(number)})
        self.planned += part.planned
        self.persons += part.persons
        for name in ("used", "left_out", "stays_left_out", "no_outcome", "unknown", "limited", "unknown_codes"):
            getattr(self, name).update(getattr(part, name))
        self.used_medications |= part.used_medications
        self.used_roles |= part.used_roles


def describe_export(
    export: SortedExport,
    terminology: Terminology,
    params: ImportParams,
    until: date,
    *,
    progress: Callable[[float], None],
    ray_address: str | None = None,
) -> DescribedExport:
    """Find and describe the index admissions of an export.

    Args:
        export: its resources.
        terminology: how codes are read.
        params: the rules.
        until: the day until when it reports encounters.
        progress: called with the share (0-1) of the groups that are done.
        ray_address: of the cluster whose CPUs describe the groups; None is this process. The result is the same.

    Raises:
        ClusterError: the cluster failed.
    """
    found = DescribedExport()
    describe = partial(_describe_group, export, terminology, params, until)
    groups = (group_bytes(export.folder, group) for group in range(export.groups))
    for done, part in enumerate(_described(describe, groups, ray_address), start=1):
        found.add(part)
        progress(done / export.groups)
    return found


def _described(
    describe: Callable[[bytes], DescribedExport], groups: Iterable[bytes], ray_address: str | None
) -> Iterator[DescribedExport]:
    if ray_address is None:
        return map(describe, groups)
    from healthpredict.training.ray_cluster import map_on_cluster

    return (part for _, part in map_on_cluster(describe, groups, ray_address))


def _describe_group(
    export: SortedExport, terminology: Terminology, params: ImportParams, until: date, group: bytes
) -> DescribedExport:
    """Describe the index admissions of a group of persons."""
    found = DescribedExport()
    with no_cycle_collection():
        for history in _histories(export, group, terminology, params, found):
            admissions = find_admissions(history, params, until)
            found.stays_left_out.update(admissions.left_out)
            for admission in admissions.index:
                _add_row(admission, found)
            _count_resources(history, bool(admissions.index), export, found)
    return found


def _histories(
    export: SortedExport, group: bytes, terminology: Terminology, params: ImportParams, found: DescribedExport
) -> Iterator[History]:
    """Yield the history of each person of a group."""
    charts: defaultdict[str, Chart] = defaultdict(
        lambda: Chart(terminology, export.medications, export.specialties, export.delivered)
    )
    for resource in unpack_group(group):
        patient = resource.id if isinstance(resource, Patient) else target(subject_of(resource))
        charts[export.persons.of(patient or "")].add(resource)
    transfer_days = params.transfer_days if params.merge_stays else None
    while charts:
        _, chart = charts.popitem()
        found.left_out.update(chart.left_out)
        if not chart.patients:
            for resource in _resources(chart):
                found.left_out[type(resource).__name__, NO_PATIENT] += 1
        else:
            found.persons += 1
            yield History(chart, transfer_days)


def _resources(chart: Chart) -> Iterable[AnyResource]:
    """Yield all resources of a chart."""
    yield from chart.patients.values()
    yield from chart.encounters.values()
    for resources in (
        chart.conditions,
        chart.observations,
        chart.orders,
        chart.administrations,
        chart.procedures,
        chart.coverages,
    ):
        yield from resources


def _add_row(admission: Admission, found: DescribedExport) -> None:
    description = admission.description
    record = description.record
    row: dict[str, str | None] = {
        column.name: None if (value := record[column.field]) is None else str(value) for column in RECORD_COLUMNS
    }
    for name in DIAGNOSES:
        code = row[name]
        row[name] = None if code is None else unambiguous(code)
    row[OUTCOME_COLUMN] = admission.readmitted
    found.rows.append(row)
    found.planned += admission.planned
    if admission.no_outcome is not None:
        found.no_outcome[admission.no_outcome] += 1
    found.unknown.update((BY_FIELD[name].name, reason) for name, reason in description.unknown.items())
    found.limited.update(BY_FIELD[name].name for name in description.limited)
    found.unknown_codes.update(description.unknown_codes)


def _count_resources(history: History, has_index: bool, export: SortedExport, found: DescribedExport) -> None:
    """Count each resource of a person as used, or as left out with a reason."""
    chart, used = history.chart, history.used
    for resource in _resources(chart):
        kind = type(resource).__name__
        if isinstance(resource, Patient):
            if has_index:
                found.used[kind] += 1
            else:
                found.left_out[kind, NO_ADMISSION] += 1
        elif id(resource) in used:
            found.used[kind] += 1
            if isinstance(resource, MedicationRequest | MedicationAdministration):
                reference = target(resource.medication_reference)
                if reference is not None:
                    found.used_medications.add(reference)
            elif isinstance(resource, Encounter):
                for participant in resource.participant:
                    reference = target(participant.individual)
                    if reference is not None and reference in export.roles:
                        found.used_roles.add(export.roles[reference])
        elif isinstance(resource, Encounter):
            found.left_out[kind, NO_VISIT if class_of(resource) else "has no class"] += 1
        else:
            found.left_out[kind, NO_STAY] += 1
