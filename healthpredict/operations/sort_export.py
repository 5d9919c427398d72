"""Sort the resources of a FHIR Bulk Data export into groups of persons: line by line, into temporary files."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import msgspec
from msgspec import Struct

from healthpredict.fhir.chart import DRUGS, PROCEDURES, RESULTS, VISITS, drug_of, keys_of
from healthpredict.fhir.dates import read_moment
from healthpredict.fhir.history import is_needed
from healthpredict.fhir.persons import Persons
from healthpredict.fhir.references import target
from healthpredict.fhir.resources import (
    NO_PERIOD,
    NOT_READ,
    TYPES,
    AnyResource,
    Concept,
    Drug,
    Encounter,
    Link,
    Medication,
    Observation,
    Patient,
    PractitionerRole,
    subject_of,
)
from healthpredict.fhir.rules import INPATIENT, NOT_HELD
from healthpredict.fhir.stays import class_of
from healthpredict.operations.find_export import Export, ExportFile, lines_of
from healthpredict.operations.resource_groups import Groups

NO_PATIENT: Final = "names no patient"
NOT_NEEDED_MEASUREMENT: Final = "neither a laboratory result nor a weight"
_GROUP_BYTES: Final = 25_000_000
"""NDJSON per group of persons; its structs take about as much memory."""
_MOST_GROUPS: Final = 200
"""Each needs a buffer. With an export of over 5 GB, groups become larger instead of more."""
_GZIP_FACTOR: Final = 25
"""How much longer NDJSON is than its gzip file, roughly."""
_SHOWN: Final = 100
_FIRST_ZONE: Final = timezone(timedelta(hours=14))
"""The time zone in which a day begins first."""
_DELIVERED: Final = {
    "Observation": RESULTS,
    "Procedure": PROCEDURES,
    "MedicationRequest": DRUGS,
    "MedicationAdministration": DRUGS,
}


class BrokenLine(NamedTuple):
    """A line that is not a usable resource.

    Attributes:
        file: its name.
        line: its number, from 1.
        problem: what is wrong, without values.
    """

    file: str
    line: int
    problem: str


@dataclass(slots=True)
class SortedExport:
    """The resources of an export, by groups of persons.

    Attributes:
        folder: local folder with a file for each group.
        groups: number of groups.
        read: type -> number of resources.
        left_out: (type, reason) -> number of resources that were left out while sorting.
        broken_lines: number of broken lines.
        first_broken: the first of them.
        medications: id -> drug.
        specialties: id or identifier of a practitioner or role -> specialties.
        roles: id or identifier of a practitioner or role -> id of the role.
        persons: which Patient resources are one person.
        delivered: what the export has at all, such as `chart.RESULTS`.
        last_day: the last day until today on which an encounter that took place started or ended, or None.
        in_future: number of encounters that took place, but start or end after today.
    """

    folder: Path
    groups: int
    read: Counter[str] = field(default_factory=Counter)
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)
    broken_lines: int = 0
    first_broken: list[BrokenLine] = field(default_factory=list)
    medications: dict[str, Drug | None] = field(default_factory=dict)
    specialties: dict[str, tuple[Concept, ...]] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    persons: Persons = field(default_factory=Persons)
    last_day: date | None = None
    in_future: int = 0
    delivered: set[str] = field(default_factory=set)


class _Header(Struct, gc=False):
    resourceType: str  # noqa: N815
    id: str | None = None


class _PatientLinks(Struct, gc=False):
    resourceType: str  # noqa: N815
    id: str | None = None
    link: tuple[Link, ...] = ()


_read_resource: Final = msgspec.json.Decoder(AnyResource).decode
_read_header: Final = msgspec.json.Decoder(_Header).decode
_read_links: Final = msgspec.json.Decoder(_PatientLinks).decode
LINE_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What reading a line raises that is not a usable resource."""
_DAMAGED: Final = (EOFError, gzip.BadGzipFile, zlib.error)


def sort_export(export: Export, folder: Path, progress: Callable[[int], None], quarantine: BinaryIO) -> SortedExport:
    """Read every line, and sort the resources into groups of persons.

    Args:
        export: what to read.
        folder: local and empty, for the groups.
        progress: called with the number of bytes of the export that were read since the last call.
        quarantine: receives a JSON line for each broken line: file, line, problem and content.
    """
    size = sum(file.stored.size * (_GZIP_FACTOR if file.compressed else 1) for file in export.files)
    found = SortedExport(folder, max(1, min(_MOST_GROUPS, size // _GROUP_BYTES)))
    for file in export.files:
        _link_patients(file, found.persons)
    with Groups(folder, found.groups) as groups:
        for file in export.files:
            _sort_file(file, found, groups, progress, quarantine)
    return found


def _link_patients(file: ExportFile, persons: Persons) -> None:
    """Find which Patient resources are one person. A file may contain several types, so every line is searched."""
    for line in undamaged_lines(file):
        # Decoding every line would take much longer.
        if b'"link"' not in line:
            continue
        try:
            patient = _read_links(line)
        except LINE_ERRORS:
            continue
        if patient.resourceType == "Patient":
            persons.link(patient.id, patient.link)


def undamaged_lines(file: ExportFile) -> Iterator[bytes]:
    """Yield the lines of a file until its gzip data is damaged. `_sort_file` reports the damage."""
    with suppress(*_DAMAGED):
        for _, line in lines_of(file, lambda _: None):
            yield line


def _sort_file(
    file: ExportFile, found: SortedExport, groups: Groups, progress: Callable[[int], None], quarantine: BinaryIO
) -> None:
    unneeded = False
    number = 0
    try:
        for number, line in lines_of(file, progress):
            if unneeded:
                unneeded = _count_unneeded(line, found)
                if unneeded:
                    continue
            try:
                resource = _read_resource(line)
            except LINE_ERRORS as error:
                unneeded = _count_unneeded(line, found)
                if not unneeded:
                    _quarantine(BrokenLine(file.name, number, str(error)), line, found, quarantine)
            else:
                _sort_resource(resource, found, groups)
    except _DAMAGED as error:
        _quarantine(
            BrokenLine(file.name, number + 1, f"the gzip file is damaged from here ({error})"), b"", found, quarantine
        )


def _count_unneeded(line: bytes, found: SortedExport) -> bool:
    """Count a line if it is a resource of a type that is not needed. Returns: whether it is."""
    try:
        kind = _read_header(line).resourceType
    except LINE_ERRORS:
        return False
    if kind in TYPES:
        return False
    found.read[kind] += 1
    found.left_out[kind, NOT_READ] += 1
    return True


def _quarantine(broken: BrokenLine, line: bytes, found: SortedExport, quarantine: BinaryIO) -> None:
    found.broken_lines += 1
    if len(found.first_broken) < _SHOWN:
        found.first_broken.append(broken)
    entry: dict[str, Any] = broken._asdict() | {"content": line.decode(errors="backslashreplace").rstrip("\r\n")}
    quarantine.write(json.dumps(entry).encode() + b"\n")


def _sort_resource(resource: AnyResource, found: SortedExport, groups: Groups) -> None:
    kind = type(resource).__name__
    found.read[kind] += 1
    if isinstance(resource, Observation) and not is_needed(resource):
        found.left_out[kind, NOT_NEEDED_MEASUREMENT] += 1
        return
    if kind in _DELIVERED:
        found.delivered.add(_DELIVERED[kind])
    if isinstance(resource, Medication):
        if resource.id is not None:
            found.medications[resource.id] = drug_of(resource)
        return
    if isinstance(resource, PractitionerRole):
        for key in keys_of(resource):
            found.specialties[key] = resource.specialty
            found.roles[key] = resource.id or key
        return
    person = resource.id if isinstance(resource, Patient) else target(subject_of(resource))
    if person is None:
        found.left_out[kind, NO_PATIENT] += 1
        return
    if isinstance(resource, Encounter):
        if class_of(resource) not in INPATIENT:
            found.delivered.add(VISITS)
        if resource.status not in NOT_HELD:
            _add_days(resource, found)
    groups.add(found.persons.of(person), resource)


def _add_days(encounter: Encounter, found: SortedExport) -> None:
    """Let an encounter that took place extend the time that the export covers. A day in the future is a mistake or a plan."""
    period = encounter.period or NO_PERIOD
    days = [moment.day for text in (period.start, period.end) if (moment := read_moment(text)) is not None]
    today = datetime.now(_FIRST_ZONE).date()
    past = [day for day in days if day <= today]
    found.in_future += len(past) < len(days)
    if past:
        found.last_day = max(*past, found.last_day or date.min)
