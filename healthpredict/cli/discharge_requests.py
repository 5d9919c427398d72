"""What an EHR would send when patients of a FHIR export are discharged."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from healthpredict.errors import NothingToPredict
from healthpredict.fhir.dates import read_moment
from healthpredict.fhir.references import target
from healthpredict.fhir.resources import (
    NO_PERIOD,
    AnyResource,
    Encounter,
    Medication,
    MedicationAdministration,
    MedicationRequest,
    Patient,
    subject_of,
)
from healthpredict.fhir.rules import NOT_HELD
from healthpredict.fhir.stays import is_acute
from healthpredict.operations.find_export import find_export
from healthpredict.operations.sort_export import LINE_ERRORS, undamaged_lines
from healthpredict.serving.cds_hooks.hook_request import DISCHARGE, PREFETCH

_PATIENTS: Final = 20
_BUNDLES: Final = {template.partition("?")[0]: key for key, template in PREFETCH[DISCHARGE].items() if "?" in template}
"""Type of resource -> prefetch key."""
_read: Final = msgspec.json.Decoder(AnyResource).decode


def discharge_requests(folder: str) -> Iterator[dict[str, Any]]:
    """Yield CDS Hooks requests for the newest acute stays of an export, one for each of up to 20 patients.

    Each prefetches all resources of its patient.

    Raises:
        NothingToPredict: the export has no acute stay.
        SourceError: there is no export, or it is incomplete.
    """
    newest: dict[str, Encounter] = {}
    for resource, _ in _resources(folder):
        patient = target(subject_of(resource))
        if isinstance(resource, Encounter) and patient and resource.status not in NOT_HELD and is_acute(resource):
            newest[patient] = max(newest.get(patient, resource), resource, key=_end)
    if not newest:
        raise NothingToPredict(folder, "it has no acute inpatient encounter")
    patients = sorted(newest, key=lambda patient: _end(newest[patient]), reverse=True)[:_PATIENTS]
    own: dict[str, list[tuple[AnyResource, Any]]] = {patient: [] for patient in patients}
    medications: dict[str, bytes] = {}
    for resource, line in _resources(folder):
        if isinstance(resource, Medication):
            medications[resource.id or ""] = line
        patient = resource.id if isinstance(resource, Patient) else target(subject_of(resource))
        if patient in own:
            with suppress(*LINE_ERRORS):  # the line may be damaged in elements that the import does not read
                own[patient].append((resource, msgspec.json.decode(line)))
    for patient, resources in own.items():
        yield _request(patient, newest[patient], resources, medications)


def _end(encounter: Encounter) -> datetime:
    """Return the time of the discharge. A stay without one counts as the oldest."""
    end = read_moment((encounter.period or NO_PERIOD).end)
    return end.time if end else datetime.min.replace(tzinfo=UTC)


def _request(
    patient: str, stay: Encounter, resources: list[tuple[AnyResource, Any]], medications: dict[str, bytes]
) -> dict[str, Any]:
    entries: dict[str, list[Any]] = {key: [] for key in _BUNDLES.values()}
    prefetch: dict[str, Any] = {}
    for resource, content in resources:
        if isinstance(resource, Patient):
            prefetch["patient"] = content
            continue
        if resource == stay:
            prefetch["encounter"] = content
        found = entries[_BUNDLES[type(resource).__name__]]
        found.append(content)
        if isinstance(resource, MedicationRequest | MedicationAdministration):
            line = medications.get(target(resource.medication_reference) or "", b"")
            with suppress(*LINE_ERRORS):
                medication = msgspec.json.decode(line)
                if medication not in found:
                    found.append(medication)
    for key, contents in entries.items():
        prefetch[key] = {
            "resourceType": "Bundle",
            "type": "searchset",
            "entry": [{"resource": content} for content in contents],
        }
    return {
        "hook": DISCHARGE,
        "hookInstance": str(uuid.uuid4()),
        "context": {"userId": "Practitioner/demo", "patientId": patient, "encounterId": stay.id},
        "prefetch": prefetch,
    }


def _resources(folder: str) -> Iterator[tuple[AnyResource, bytes]]:
    """Yield the resources that are needed, with their lines. The import reports lines that cannot be read."""
    for file in find_export(folder).files:
        for line in undamaged_lines(file):
            try:
                yield _read(line), line
            except LINE_ERRORS:
                continue
