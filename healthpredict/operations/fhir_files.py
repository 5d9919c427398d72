"""Read the files of a FHIR Bulk Data export, in bounded memory: line by line, into one temporary file for each group of persons."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, cast

import msgspec
from msgspec import Struct

from healthpredict.errors import SourceError
from healthpredict.fhir.chart import DRUGS, PROCEDURES, RESULTS, VISITS, concept_of, keys_of
from healthpredict.fhir.dates import read_moment
from healthpredict.fhir.history import is_read
from healthpredict.fhir.references import target
from healthpredict.fhir.resources import (
    NO_PERIOD,
    NOT_READ,
    TYPES,
    AnyResource,
    Concept,
    Encounter,
    Link,
    Medication,
    Observation,
    Patient,
    PractitionerRole,
    subject_of,
)
from healthpredict.fhir.rules import INPATIENT
from healthpredict.fhir.stays import class_of
from healthpredict.storage.stored import Stored
from healthpredict.storage.uris import join, list_folder, local_copy, read_bytes

NO_PATIENT: Final = "names no patient"
NOT_NEEDED_MEASUREMENT: Final = "neither a laboratory result nor a weight"
_NAMES: Final = re.compile(r".*\.ndjson(\.gz)?", re.IGNORECASE)
_MANIFEST: Final = "manifest.json"
_PARTITION_BYTES: Final = 25_000_000
"""NDJSON per group of persons; its structs take about as much memory."""
_MOST_PARTITIONS: Final = 200
_GZIP_FACTOR: Final = 25
"""How much longer NDJSON is than its gzip file, roughly."""
_BUFFER: Final = 1 << 18
_LENGTH: Final = 4
_SHOWN: Final = 100


_DELIVERED: Final = {
    "Observation": RESULTS,
    "Procedure": PROCEDURES,
    "MedicationRequest": DRUGS,
    "MedicationAdministration": DRUGS,
}


class ExportFile(NamedTuple):
    """A file of an export."""

    stored: Stored
    name: str


class Export(NamedTuple):
    """The files of an export.

    Attributes:
        files: all NDJSON files.
        until: day of the export, from its manifest, or None.
        notices: what else is in the folder, in sentences.
    """

    files: tuple[ExportFile, ...]
    until: date | None
    notices: tuple[str, ...]


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
class Sorted:
    """The resources of an export, by groups of persons.

    Attributes:
        folder: local folder with a file for each group.
        groups: number of groups.
        read: type -> number of resources.
        left_out: (type, reason) -> number of resources that were left out at once.
        broken: number of broken lines.
        lines: the first broken lines.
        medications: id -> drug.
        specialties: id or identifier of a practitioner or role -> specialties.
        roles: id or identifier of a practitioner or role -> id of the role.
        leaders: id of a Patient that is linked to others -> the id that stands for the person.
        delivered: what the export has at all, such as `chart.RESULTS`.
        last_day: the last day on which an encounter started or ended, or None.
    """

    folder: Path
    groups: int
    read: Counter[str] = field(default_factory=Counter)
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)
    broken: int = 0
    lines: list[BrokenLine] = field(default_factory=list)
    medications: dict[str, Concept | None] = field(default_factory=dict)
    specialties: dict[str, tuple[Concept, ...]] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    leaders: dict[str, str] = field(default_factory=dict)
    last_day: date | None = None
    delivered: set[str] = field(default_factory=set)

    def person_of(self, patient: str) -> str:
        """Return the id that stands for the person of a Patient."""
        return self.leaders.get(patient, patient)


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
_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(AnyResource).decode
_LINE_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def find_export(folder: str) -> Export:
    """List the NDJSON files of an export.

    Args:
        folder: local folder or `s3://bucket/prefix`. If it has a `manifest.json`, only the files that this names are read.

    Raises:
        SourceError: there is no NDJSON file, or one that the manifest names is missing.
        StorageError: the folder cannot be read.
    """
    listing = list_folder(folder)
    stored = {entry.name: entry for entry in listing.objects}
    names = sorted(name for name in stored if _NAMES.fullmatch(name))
    until, notices = None, []
    if _MANIFEST in stored:
        manifest = _read_manifest(join(folder, _MANIFEST))
        named = [entry.rpartition("/")[2].partition("?")[0] for entry in manifest.files]
        absent = [name for name in dict.fromkeys(named) if name not in stored]
        if absent:
            raise SourceError(
                f"The export {folder} is incomplete: {_MANIFEST} names {', '.join(absent)}. Copy it again."
            )
        if others := sorted(set(names) - set(named)):
            notices.append(f"Not read, because {_MANIFEST} does not name them: {', '.join(others)}.")
        names, until = list(dict.fromkeys(named)), manifest.until
    if not names:
        raise SourceError(
            f"There is no NDJSON file (.ndjson, .ndjson.gz) in {folder}. Name the folder of a Bulk Data export."
        )
    return Export(tuple(ExportFile(stored[name], name) for name in names), until, tuple(notices))


class _Manifest(NamedTuple):
    files: list[str]
    until: date | None


def _read_manifest(uri: str) -> _Manifest:
    problem = SourceError(
        f"{uri} is not the manifest of a Bulk Data export. Correct it, or remove it to read every NDJSON file."
    )
    try:
        content = json.loads(read_bytes(uri))
        files = [entry["url"] for entry in content["output"]]
    except (ValueError, TypeError, KeyError) as error:
        raise problem from error
    if not all(isinstance(url, str) for url in files):
        raise problem
    time = content.get("transactionTime")
    moment = read_moment(time) if isinstance(time, str) else None
    return _Manifest(files, moment.day if moment else None)


def sort_export(export: Export, folder: Path, progress: Callable[[int], None], quarantine: BinaryIO) -> Sorted:
    """Read every line, and sort the resources into groups of persons.

    Args:
        export: what to read.
        folder: local and empty, for the groups.
        progress: called with the number of bytes of the export that were read since the last call.
        quarantine: receives a JSON line for each broken line: file, line, problem and content.
    """
    size = sum(file.stored.size * (_GZIP_FACTOR if file.name.lower().endswith(".gz") else 1) for file in export.files)
    found = Sorted(folder, max(1, min(_MOST_PARTITIONS, size // _PARTITION_BYTES)))
    patient_files = [file for file in export.files if _holds_patients(file)]
    for file in patient_files:
        _link_patients(file, found)
    with _Groups(folder, found.groups) as groups:
        for file in export.files:
            _sort_file(file, found, groups, progress, quarantine)
    return found


def _holds_patients(file: ExportFile) -> bool:
    for _, line in _lines(file, lambda _: None):
        try:
            return _read_header(line).resourceType == "Patient"
        except _LINE_ERRORS:
            continue
    return False


def _link_patients(file: ExportFile, found: Sorted) -> None:
    """Find which Patient resources are one person. Links may form cycles and may lead out of the export."""
    leaders = found.leaders

    def leader(patient: str) -> str:
        while leaders.get(patient, patient) != patient:
            patient = leaders[patient]
        return patient

    for _, line in _lines(file, lambda _: None):
        try:
            patient = _read_links(line)
        except _LINE_ERRORS:
            continue
        for link in patient.link:
            other = target(link.other)
            if patient.id is not None and other is not None:
                first, second = sorted((leader(patient.id), leader(other)))
                leaders[second] = leaders.setdefault(first, first)
    for patient_id in leaders:
        leaders[patient_id] = leader(patient_id)


class _Groups:
    """The files of the groups, each written in large pieces."""

    def __init__(self, folder: Path, number: int) -> None:
        self._paths = [group_path(folder, group) for group in range(number)]
        self._buffers = [bytearray() for _ in range(number)]

    def __enter__(self) -> _Groups:
        return self

    def __exit__(self, *_: object) -> None:
        for group in range(len(self._buffers)):
            self._flush(group)

    def add(self, person: str, resource: AnyResource) -> None:
        """Write a resource to the group of its person."""
        group = zlib.crc32(person.encode()) % len(self._buffers)
        packed = _pack(resource)
        buffer = self._buffers[group]
        buffer += len(packed).to_bytes(_LENGTH)
        buffer += packed
        if len(buffer) > _BUFFER:
            self._flush(group)

    def _flush(self, group: int) -> None:
        with self._paths[group].open("ab") as file:
            file.write(self._buffers[group])
        self._buffers[group].clear()


def group_path(folder: Path, group: int) -> Path:
    """Return the file of a group."""
    return folder / f"{group:03d}.msgpack"


def read_group(found: Sorted, group: int) -> Iterator[AnyResource]:
    """Yield the resources of a group of persons."""
    data = memoryview(group_path(found.folder, group).read_bytes())
    position = 0
    while position < len(data):
        end = position + _LENGTH + int.from_bytes(data[position : position + _LENGTH])
        yield _unpack(data[position + _LENGTH : end])
        position = end


def _sort_file(
    file: ExportFile, found: Sorted, groups: _Groups, progress: Callable[[int], None], quarantine: BinaryIO
) -> None:
    unneeded = False
    number = 0
    try:
        for number, line in _lines(file, progress):
            if unneeded:
                unneeded = _count_unneeded(line, found)
                if unneeded:
                    continue
            try:
                resource = _read_resource(line)
            except _LINE_ERRORS as error:
                unneeded = _count_unneeded(line, found)
                if not unneeded:
                    _quarantine(BrokenLine(file.name, number, str(error)), line, found, quarantine)
            else:
                _sort_resource(resource, found, groups)
    except (EOFError, OSError, zlib.error) as error:
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
            raise
        _quarantine(
            BrokenLine(file.name, number + 1, f"the gzip file is damaged from here ({error})"), b"", found, quarantine
        )


def _lines(file: ExportFile, progress: Callable[[int], None]) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, with their numbers."""
    with local_copy(file.stored.uri) as path, path.open("rb") as raw:
        content = cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if file.name.lower().endswith(".gz") else raw
        reported = 0
        for number, line in enumerate(content, 1):
            if not number & 1023:
                progress(raw.tell() - reported)
                reported = raw.tell()
            if not line.isspace():
                yield number, line
        progress(raw.tell() - reported)


def _count_unneeded(line: bytes, found: Sorted) -> bool:
    """Count a line if it is a resource of a type that is not needed. Returns: whether it is."""
    try:
        kind = _read_header(line).resourceType
    except _LINE_ERRORS:
        return False
    if kind in TYPES:
        return False
    found.read[kind] += 1
    found.left_out[kind, NOT_READ] += 1
    return True


def _quarantine(broken: BrokenLine, line: bytes, found: Sorted, quarantine: BinaryIO) -> None:
    found.broken += 1
    if len(found.lines) < _SHOWN:
        found.lines.append(broken)
    entry: dict[str, Any] = broken._asdict() | {"content": line.decode(errors="backslashreplace").rstrip("\r\n")}
    quarantine.write(json.dumps(entry).encode() + b"\n")


def _sort_resource(resource: AnyResource, found: Sorted, groups: _Groups) -> None:
    kind = type(resource).__name__
    found.read[kind] += 1
    if isinstance(resource, Observation) and not is_read(resource):
        found.left_out[kind, NOT_NEEDED_MEASUREMENT] += 1
        return
    if kind in _DELIVERED:
        found.delivered.add(_DELIVERED[kind])
    if isinstance(resource, Medication):
        if resource.id is not None:
            found.medications[resource.id] = concept_of(resource)
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
        period = resource.period or NO_PERIOD
        moment = read_moment(period.end) or read_moment(period.start)
        if moment is not None and (found.last_day is None or moment.day > found.last_day):
            found.last_day = moment.day
    groups.add(found.person_of(person), resource)
