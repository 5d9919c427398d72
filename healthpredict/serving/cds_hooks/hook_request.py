"""The request of an EHR to the service, and its prefetch templates (CDS Hooks 2.0, https://cds-hooks.hl7.org/2.0/)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Generic, TypeVar

import msgspec

from healthpredict.fhir.resources import AnyResource, Bundle
from healthpredict.serving.problems import ProblemError

DISCHARGE: Final = "encounter-discharge"
PATIENT_VIEW: Final = "patient-view"
_ERROR: Final = "OperationOutcome"
_FHIR_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_SEARCH: Final = "?patient={{context.patientId}}&_count=500"
_OF_PATIENT: Final = {
    "patient": "Patient/{{context.patientId}}",
    "encounters": f"Encounter{_SEARCH}&_sort=-date",
    "conditions": f"Condition{_SEARCH}",
    "observations": f"Observation{_SEARCH}&_sort=-date&category=laboratory",
    "procedures": f"Procedure{_SEARCH}&_sort=-date",
    "medicationRequests": f"MedicationRequest{_SEARCH}",
    "medicationAdministrations": f"MedicationAdministration{_SEARCH}",
    "coverage": "Coverage?beneficiary={{context.patientId}}",
}
PREFETCH: Final[Mapping[str, Mapping[str, str]]] = {
    DISCHARGE: {**_OF_PATIENT, "encounter": "Encounter/{{context.encounterId}}"},
    PATIENT_VIEW: _OF_PATIENT,
}
"""The prefetch templates of each hook. They use only what the specification recommends for queries."""
REQUIRED: Final = ("patient", "encounters", "conditions", "observations", "procedures", "medicationRequests")
"""Prefetch keys without which there is no prediction. Without one of the others, there is a prediction from less data."""


Prefetched = TypeVar("Prefetched")


class _Resource(msgspec.Struct, rename="camel"):
    resource_type: str | None = None
    id: str | None = None


class FhirAuthorization(msgspec.Struct):
    """Access to the FHIR server of the EHR."""

    access_token: str


class HookRequest(msgspec.Struct, Generic[Prefetched], rename="camel"):
    """The body of a call. Unknown fields are ignored."""

    hook: str
    hook_instance: str
    context: dict[str, Any]
    fhir_server: str | None = None
    fhir_authorization: FhirAuthorization | None = None
    prefetch: dict[str, Prefetched] | None = None

    @property
    def prefetched(self) -> Mapping[str, Prefetched]:
        """What the EHR prefetched, by key; empty if it sent nothing."""
        return self.prefetch or {}

    @property
    def patient_id(self) -> str:
        """FHIR id of the patient."""
        return str(self.context["patientId"])

    @property
    def encounter_id(self) -> str | None:
        """FHIR id of the encounter, or None if the context names none."""
        return self.context.get("encounterId")

    def missing(self) -> dict[str, str]:
        """Return the queries of the prefetch keys that the EHR left out, by key. One with null was not: there are no data."""
        return {
            key: self._query(template) for key, template in PREFETCH[self.hook].items() if key not in self.prefetched
        }

    def _query(self, template: str) -> str:
        return re.sub(r"\{\{context\.(\w+)\}\}", lambda name: self.context[name[1]], template)


TypedRequest = HookRequest[AnyResource | Bundle | None]
RawRequest = HookRequest[msgspec.Raw]
"""A request whose prefetched data are still JSON texts, because something in them is malformed or not needed."""
AnyRequest = TypedRequest | RawRequest
_decode_typed: Final = msgspec.json.Decoder(TypedRequest).decode
_decode_raw: Final = msgspec.json.Decoder(RawRequest).decode


def read_hook_request(body: bytes, hooks: tuple[str, ...]) -> AnyRequest:
    """Decode a call, with its resources if all of them are well-formed and of types that are read.

    Args:
        body: body of the HTTP request.
        hooks: the hooks that the service answers.

    Raises:
        ProblemError: it is not JSON (400), or not a call of one of these hooks (422). The message repeats no value.
    """
    try:
        body.decode()  # msgspec does not check the texts that it skips
        request = _decode(body)
    except msgspec.ValidationError as error:
        raise ProblemError(422, f"The body is not a CDS Hooks request: {error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ProblemError(400, "The body is not JSON.") from None
    if request.hook not in hooks:
        raise ProblemError(422, f"This service answers only these hooks: {', '.join(hooks)}.")
    needed = ("patientId", "encounterId") if request.hook == DISCHARGE else ("patientId",)
    for name in ("patientId", "encounterId"):
        value = request.context.get(name)
        if value is None and name not in needed:
            continue
        if not (isinstance(value, str) and _FHIR_ID.fullmatch(value)):
            raise ProblemError(422, f"context.{name} is not the id of a FHIR resource.")
    return request


def _decode(body: bytes) -> AnyRequest:
    try:
        typed: TypedRequest = _decode_typed(body)
        return typed
    except msgspec.ValidationError:
        raw: RawRequest = _decode_raw(body)
        return raw


def keys_with_errors(request: AnyRequest) -> list[str]:
    """Return the required keys for which the EHR sent an error instead of data."""
    return [key for key in REQUIRED if _head(request.prefetched.get(key)).resource_type == _ERROR]


def names_another_patient(request: AnyRequest) -> bool:
    """Return whether the prefetched Patient is not the patient of the context."""
    patient = _head(request.prefetched.get("patient"))
    return patient.resource_type == "Patient" and patient.id != request.patient_id


def _head(resource: AnyResource | Bundle | msgspec.Raw | None) -> _Resource:
    if isinstance(resource, msgspec.Raw):
        try:
            return msgspec.json.decode(resource, type=_Resource)
        except msgspec.ValidationError:
            return _Resource()
    return _Resource() if resource is None else _Resource(type(resource).__name__, resource.id)
