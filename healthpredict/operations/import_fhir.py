"""Import a FHIR R4 Bulk Data export: index admissions become batches, and what followed becomes their outcomes."""

from __future__ import annotations

import gc
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final

import pandas as pd

from healthpredict.data.columns import ENCOUNTER_COLUMNS, OUTCOME_COLUMN
from healthpredict.data.contract import BY_FIELD, DIAGNOSES, FEATURE_COLUMNS, RECORD_COLUMNS
from healthpredict.data.diagnosis import unambiguous
from healthpredict.data.import_params import ImportParams
from healthpredict.data.raw import format_raw
from healthpredict.errors import ConfigurationError, NothingToPredict
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
from healthpredict.fhir.snomed import parse_map
from healthpredict.fhir.stays import class_of
from healthpredict.fhir.terminology import Terminology
from healthpredict.operations.extend_batches import extend_batches
from healthpredict.operations.fetch import Fetched
from healthpredict.operations.fhir_files import Sorted, find_export, read_group, sort_export
from healthpredict.operations.fhir_report import ImportedExport, LeftOut
from healthpredict.operations.installation import Installation
from healthpredict.operations.prepare import prepare_fetched
from healthpredict.storage.tables import write_json
from healthpredict.storage.uris import exists, join, write_file

DATA_FILE: Final = "fhir.csv"
REPORT_FILE: Final = "fhir-import.json"
NO_STAY: Final = "belongs to no index stay"
NO_VISIT: Final = "in no index stay, and not in the year before one"
NO_ADMISSION: Final = "has no index admission"
NO_PATIENT: Final = "its patient is not in the export"
NOT_REFERRED: Final = "no order or administration that counts refers to it"
_FRACTION_OF_SORTING: Final = 0.6
"""Share of the progress bar for reading; the rest is for describing stays."""

Progress = Callable[[float], None]
"""Receives the share (0-1) that is done."""


@dataclass(slots=True)
class _Found:
    """What the groups of persons gave.

    Attributes:
        rows: raw rows, with `readmitted`.
        used: type -> number of resources that a stay used.
        left_out: (type, reason) -> number of resources.
        medications: ids of the Medications that were used.
        specialties: keys of the practitioners that were used.
    """

    rows: list[dict[str, str | None]] = field(default_factory=list)
    used: Counter[str] = field(default_factory=Counter)
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)
    stays: Counter[str] = field(default_factory=Counter)
    no_outcome: Counter[str] = field(default_factory=Counter)
    planned: int = 0
    persons: int = 0
    unknown: Counter[tuple[str, str]] = field(default_factory=Counter)
    limited: Counter[str] = field(default_factory=Counter)
    unknown_codes: Counter[str] = field(default_factory=Counter)
    medications: set[str] = field(default_factory=set)
    specialties: set[str] = field(default_factory=set)
    ids: set[int] = field(default_factory=set)


def import_fhir(installation: Installation, folder: str, progress: Progress = lambda _: None) -> ImportedExport:
    """Import an export. A later export of the same hospital adds its new stays as a batch, and the outcomes that have become known.

    Args:
        installation: where the data goes; its settings `fhir` have the rules.
        folder: local folder or `s3://bucket/prefix` of NDJSON files, perhaps gzip files, with or without a `manifest.json`.
        progress: called with the share (0-1) that is done.

    Returns:
        What was used and left out, which is also written beside the data as JSON.

    Raises:
        SourceError: there is no export, or it is incomplete.
        NothingToPredict: it has no index admission.
        BatchRefused: too many rows break the contract.
        ConfigurationError: the `data_uri` contains other data that the ledger refers to.
        StorageError: something cannot be read or written. The next call starts over.
    """
    layout, params = installation.layout, installation.settings.fhir
    export = find_export(folder)
    size = max(1, sum(file.stored.size for file in export.files))
    with tempfile.TemporaryDirectory() as temporary:
        quarantine = Path(temporary) / "broken.ndjson"
        done = 0

        def read(some: int) -> None:
            nonlocal done
            done += some
            progress(min(1.0, done / size) * _FRACTION_OF_SORTING)

        groups = Path(temporary) / "groups"
        groups.mkdir()
        with _no_cycle_collection():
            with quarantine.open("wb") as broken:
                sorted_export = sort_export(export, groups, read, broken)
            until = export.until or sorted_export.last_day
            found = _describe_groups(sorted_export, params, until or date.min, progress)
        report = _report(folder, export.notices, until, sorted_export, found)
        if not found.rows:
            raise NothingToPredict(
                folder, f"it has no index admission: {report.why_left_out or 'it has no inpatient stay'}"
            )
        report = report.model_copy(update={"batches": _write_batches(installation, folder, found.rows)})
        if sorted_export.broken:
            write_file(join(layout.root, "quarantine", "fhir-lines.ndjson"), quarantine)
    write_json(layout.raw(REPORT_FILE), report.model_dump(mode="json"))
    progress(1.0)
    return report


@contextmanager
def _no_cycle_collection() -> Iterator[None]:
    """Pause the collector of reference cycles. Resources form none, and it would traverse those of a group again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _write_batches(installation: Installation, folder: str, rows: list[dict[str, str | None]]) -> list[str]:
    """Write the rows as batches and outcomes. Returns: the names of the batches that were written."""
    layout = installation.layout
    rows.sort(key=lambda row: int(row["encounter_id"] or 0))
    raw = pd.DataFrame(rows, columns=[*ENCOUNTER_COLUMNS, OUTCOME_COLUMN], dtype="str")
    raw = raw.where(raw.notna())
    if exists(layout.prepared) and exists(layout.raw(REPORT_FILE)):
        return extend_batches(installation, raw)
    fetched = Fetched(format_raw(raw), f"FHIR export {folder}", DATA_FILE)
    return prepare_fetched(installation, fetched).batches


def read_snomed_map(params: ImportParams) -> Terminology:
    """Return the terminology of an installation. Raises: ConfigurationError, its map cannot be read."""
    if params.snomed_map is None:
        return Terminology()
    try:
        lines = params.snomed_map.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"The map {params.snomed_map} of HEALTHPREDICT_FHIR__SNOMED_MAP cannot be read."
        ) from error
    return Terminology(parse_map(lines, str(params.snomed_map)))


def _describe_groups(export: Sorted, params: ImportParams, until: date, progress: Progress) -> _Found:
    found, terminology = _Found(), read_snomed_map(params)
    for group in range(export.groups):
        for history in _histories(export, group, terminology, params, found):
            admissions = find_admissions(history, params, until)
            found.stays.update(admissions.left_out)
            for admission in admissions.index:
                _add_row(admission, found)
            _account(history, bool(admissions.index), export, found)
        share = (group + 1) / export.groups
        progress(_FRACTION_OF_SORTING + (1 - _FRACTION_OF_SORTING) * 0.9 * share)
    return found


def _histories(
    export: Sorted, group: int, terminology: Terminology, params: ImportParams, found: _Found
) -> Iterator[History]:
    """Yield the history of each person of a group."""
    charts: defaultdict[str, Chart] = defaultdict(
        lambda: Chart(terminology, export.medications, export.specialties, export.delivered)
    )
    for resource in read_group(export, group):
        patient = resource.id if isinstance(resource, Patient) else target(subject_of(resource))
        charts[export.person_of(patient or "")].add(resource)
    hours = params.transfer_hours if params.merge_stays else None
    while charts:
        _, chart = charts.popitem()
        found.left_out.update(chart.left_out)
        if not chart.patients:
            for resource in _resources(chart):
                found.left_out[type(resource).__name__, NO_PATIENT] += 1
        else:
            found.persons += 1
            yield History(chart, hours)


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


def _add_row(admission: Admission, found: _Found) -> None:
    description = admission.description
    record = description.record
    number = int(record["encounter_id"] or 0)
    while number in found.ids:
        number += 1
    found.ids.add(number)
    row: dict[str, str | None] = {
        column.name: None if (value := record[column.field]) is None else str(value) for column in RECORD_COLUMNS
    }
    row["encounter_id"] = str(number)
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


def _account(history: History, has_index: bool, export: Sorted, found: _Found) -> None:
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
                    found.medications.add(reference)
            elif isinstance(resource, Encounter):
                for participant in resource.participant:
                    reference = target(participant.individual)
                    if reference in export.roles:
                        found.specialties.add(export.roles[reference or ""])
        elif isinstance(resource, Encounter):
            found.left_out[kind, NO_VISIT if class_of(resource) else "has no class"] += 1
        else:
            found.left_out[kind, NO_STAY] += 1


def _report(folder: str, notices: tuple[str, ...], until: date | None, export: Sorted, found: _Found) -> ImportedExport:
    medications, roles = len(export.medications.keys() & found.medications), len(found.specialties)
    used = found.used + Counter({"Medication": medications, "PractitionerRole": roles})
    left_out = export.left_out + found.left_out
    left_out["Medication", NOT_REFERRED] += export.read["Medication"] - medications
    left_out["PractitionerRole", NO_STAY] += export.read["PractitionerRole"] - roles
    rows = len(found.rows)
    outcomes = Counter(row[OUTCOME_COLUMN] for row in found.rows if row[OUTCOME_COLUMN] is not None)
    features = {column.name for column in FEATURE_COLUMNS}
    unknown: dict[str, dict[str, int]] = {}
    for (name, reason), number in sorted(found.unknown.items(), key=lambda item: -item[1]):
        if name in features:
            unknown.setdefault(name, {})[reason] = number
    return ImportedExport(
        source=folder,
        until=until.isoformat() if until else None,
        notices=notices,
        resources=dict(export.read),
        used={kind: number for kind, number in used.items() if number},
        left_out=tuple(
            LeftOut(kind=kind, reason=reason, number=number)
            for (kind, reason), number in left_out.most_common()
            if number
        ),
        broken_lines=export.broken,
        broken=tuple(f"{line.file}, line {line.line}: {line.problem}" for line in export.lines),
        persons=found.persons,
        stays=rows,
        stays_left_out=dict(found.stays.most_common()),
        outcomes=dict(outcomes),
        no_outcome=dict(found.no_outcome),
        planned=found.planned,
        unknown=unknown,
        limited=dict(found.limited),
        unknown_codes=dict(found.unknown_codes.most_common()),
    )
