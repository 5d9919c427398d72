"""What an EHR would send when patients of a FHIR export are discharged."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from healthpredict.errors import NothingToPredict
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
from healthpredict.fhir.stays import class_of
from healthpredict.operations.find_export import find_export, lines_of
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
        if isinstance(resource, Encounter) and patient and class_of(resource) == "IMP":
            newest[patient] = max(newest.get(patient, resource), resource, key=_end)
    if not newest:
        raise NothingToPredict(folder, "it has no acute inpatient encounter")
    patients = sorted(newest, key=lambda patient: _end(newest[patient]), reverse=True)[:_PATIENTS]
    own: dict[str, list[tuple[AnyResource, bytes]]] = {patient: [] for patient in patients}
    medications: dict[str, bytes] = {}
    for resource, line in _resources(folder):
        if isinstance(resource, Medication):
            medications[resource.id or ""] = line
        patient = resource.id if isinstance(resource, Patient) else target(subject_of(resource))
        if patient in own:
            own[patient].append((resource, line))
    for patient, resources in own.items():
        yield _request(patient, newest[patient], resources, medications)


def _end(encounter: Encounter) -> str:
    return (encounter.period or NO_PERIOD).end or ""


def _request(
    patient: str, stay: Encounter, resources: list[tuple[AnyResource, bytes]], medications: dict[str, bytes]
) -> dict[str, Any]:
    entries: dict[str, list[bytes]] = {key: [] for key in _BUNDLES.values()}
    prefetch: dict[str, Any] = {}
    for resource, line in resources:
        if isinstance(resource, Patient):
            prefetch["patient"] = msgspec.json.decode(line)
            continue
        if resource == stay:
            prefetch["encounter"] = msgspec.json.decode(line)
        found = entries[_BUNDLES[type(resource).__name__]]
        found.append(line)
        if isinstance(resource, MedicationRequest | MedicationAdministration):
            medication = medications.get(target(resource.medication_reference) or "")
            if medication is not None and medication not in found:
                found.append(medication)
    for key, lines in entries.items():
        prefetch[key] = {
            "resourceType": "Bundle",
            "type": "searchset",
            "entry": [{"resource": msgspec.json.decode(line)} for line in lines],
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
        for _, line in lines_of(file, lambda _: None):
            try:
                yield _read(line), line
            except msgspec.DecodeError:
                continue
