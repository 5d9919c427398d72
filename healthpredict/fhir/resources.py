"""The parts of FHIR R4 resources that are read, as typed structs. Decoding skips everything else.

Source of the names: HL7 FHIR R4 (4.0.1, hl7.org/fhir/R4) and US Core 6.1.0. FHIR R4B has the same elements here. Elements whose
type differs in DSTU2, STU3 or R5 accept those types too, so that `Chart` can name the wrong version instead of a malformed
resource.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Final

from msgspec import Struct, field


class Coding(Struct, frozen=True, gc=False, omit_defaults=True):
    """A code of a code system."""

    system: str | None = None
    code: str | None = None


class Concept(Struct, frozen=True, gc=False, omit_defaults=True):
    """A CodeableConcept: one meaning, perhaps in several code systems. Its names are not read, except those of drugs."""

    coding: tuple[Coding, ...] = ()


class NamedCoding(Coding, frozen=True, gc=False, omit_defaults=True):
    """A code with its name."""

    display: str | None = None


class Drug(Struct, frozen=True, gc=False, omit_defaults=True):
    """The CodeableConcept of a drug, with its names."""

    coding: tuple[NamedCoding, ...] = ()
    text: str | None = None


class Identifier(Struct, frozen=True, gc=False, omit_defaults=True):
    """A business identifier."""

    system: str | None = None
    value: str | None = None


class Reference(Struct, frozen=True, gc=False, omit_defaults=True):
    """A reference to another resource, by URL or by identifier."""

    reference: str | None = None
    identifier: Identifier | None = None


class Period(Struct, frozen=True, gc=False, omit_defaults=True):
    """A period. Both ends are FHIR dateTimes."""

    start: str | None = None
    end: str | None = None


NO_PERIOD: Final = Period()


class Quantity(Struct, frozen=True, gc=False, omit_defaults=True):
    """A number with a unit: `code` in UCUM if `system` says so, else only `unit`."""

    value: float | None = None
    comparator: str | None = None
    unit: str | None = None
    code: str | None = None


class Extension(Struct, frozen=True, gc=False, omit_defaults=True):
    """An extension, perhaps of extensions."""

    url: str | None = None
    extension: tuple[Extension, ...] = ()
    valueCoding: Coding | None = None  # noqa: N815


class Link(Struct, frozen=True, gc=False, omit_defaults=True):
    """Another Patient resource of the same person."""

    other: Reference | None = None


class Resource(Struct, frozen=True, gc=False, omit_defaults=True, tag_field="resourceType", kw_only=True):
    """What all resources have."""

    id: str | None = None


class Patient(Resource, tag="Patient", frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """A person, or one of several records of a person."""

    identifier: tuple[Identifier, ...] = ()
    extension: tuple[Extension, ...] = ()
    gender: str | None = None
    birthDate: str | None = None  # noqa: N815
    deceasedBoolean: bool | None = None  # noqa: N815
    deceasedDateTime: str | None = None  # noqa: N815
    link: tuple[Link, ...] = ()


class Participant(Struct, frozen=True, gc=False, omit_defaults=True):
    """Somebody who takes part in an encounter."""

    type: tuple[Concept, ...] = ()
    individual: Reference | None = None


class Diagnosis(Struct, frozen=True, gc=False, omit_defaults=True):
    """A diagnosis of an encounter, with its rank."""

    condition: Any = None
    use: Any = None
    rank: int | None = None


class Hospitalization(Struct, frozen=True, gc=False, omit_defaults=True, rename="camel"):
    """Where a patient came from and went to."""

    admit_source: Concept | None = None
    discharge_disposition: Concept | None = None


class Encounter(Resource, tag="Encounter", frozen=True, gc=False, omit_defaults=True, kw_only=True, rename="camel"):
    """A stay or a visit."""

    identifier: tuple[Identifier, ...] = ()
    status: str | None = None
    class_: Coding | tuple[Any, ...] | str | None = field(name="class", default=None)
    type: tuple[Concept, ...] = ()
    priority: Concept | None = None
    subject: Reference | None = None
    participant: tuple[Participant, ...] = ()
    period: Period | None = None
    reason_code: tuple[Concept, ...] = ()
    reason_reference: tuple[Reference, ...] = ()
    diagnosis: tuple[Diagnosis, ...] = ()
    hospitalization: Hospitalization | None = None
    part_of: Reference | None = None
    actual_period: Any = None


class Condition(Resource, tag="Condition", frozen=True, gc=False, omit_defaults=True, kw_only=True, rename="camel"):
    """A diagnosis or problem."""

    clinical_status: Concept | str | None = None
    verification_status: Concept | str | None = None
    category: tuple[Concept, ...] = ()
    code: Concept | None = None
    subject: Reference | None = None
    encounter: Reference | None = None
    onset_date_time: str | None = None
    onset_period: Period | None = None
    abatement_date_time: str | None = None
    abatement_period: Period | None = None
    recorded_date: str | None = None


class Observation(Resource, tag="Observation", frozen=True, gc=False, omit_defaults=True, kw_only=True, rename="camel"):
    """A measurement."""

    status: str | None = None
    category: tuple[Concept, ...] = ()
    code: Concept | None = None
    subject: Reference | None = None
    encounter: Reference | None = None
    effective_date_time: str | None = None
    effective_instant: str | None = None
    effective_period: Period | None = None
    issued: str | None = None
    value_quantity: Quantity | None = None
    has_member: tuple[Reference, ...] = ()


class Ingredient(Struct, frozen=True, gc=False, omit_defaults=True, rename="camel"):
    """An ingredient of a medication."""

    item_codeable_concept: Drug | None = None


class Medication(Resource, tag="Medication", frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """A drug."""

    code: Drug | None = None
    ingredient: tuple[Ingredient, ...] = ()


class Contained(Struct, frozen=True, gc=False, omit_defaults=True):
    """A resource inside another one. Only medications are of interest."""

    id: str | None = None
    code: Any = None


class DoseAndRate(Struct, frozen=True, gc=False, omit_defaults=True, rename="camel"):
    """A dose."""

    dose_quantity: Quantity | None = None


class Repeat(Struct, frozen=True, gc=False, omit_defaults=True, rename="camel"):
    """How often a dose is taken."""

    frequency: int | None = None
    period: float | None = None
    period_unit: str | None = None


class Timing(Struct, frozen=True, gc=False, omit_defaults=True):
    """When a dose is taken."""

    repeat: Repeat | None = None


class Dosage(Struct, frozen=True, gc=False, omit_defaults=True, rename="camel"):
    """How a drug is taken."""

    timing: Timing | None = None
    dose_and_rate: tuple[DoseAndRate, ...] = ()


class MedicationRequest(
    Resource, tag="MedicationRequest", frozen=True, gc=False, omit_defaults=True, kw_only=True, rename="camel"
):
    """An order for a drug."""

    contained: tuple[Contained, ...] = ()
    status: str | None = None
    intent: str | None = None
    do_not_perform: bool | None = None
    medication_reference: Reference | None = None
    medication_codeable_concept: Drug | None = None
    subject: Reference | None = None
    encounter: Reference | None = None
    authored_on: str | None = None
    dosage_instruction: tuple[Dosage, ...] = ()


class AdministeredDose(Struct, frozen=True, gc=False, omit_defaults=True):
    """The dose that was given."""

    dose: Quantity | None = None


class MedicationAdministration(
    Resource, tag="MedicationAdministration", frozen=True, gc=False, omit_defaults=True, kw_only=True, rename="camel"
):
    """A drug that was given."""

    contained: tuple[Contained, ...] = ()
    status: str | None = None
    medication_reference: Reference | None = None
    medication_codeable_concept: Drug | None = None
    subject: Reference | None = None
    context: Reference | None = None
    effective_date_time: str | None = None
    effective_period: Period | None = None
    dosage: AdministeredDose | None = None


class Procedure(Resource, tag="Procedure", frozen=True, gc=False, omit_defaults=True, kw_only=True, rename="camel"):
    """Something that was done to a patient."""

    status: str | None = None
    code: Concept | None = None
    subject: Reference | None = None
    encounter: Reference | None = None
    performed_date_time: str | None = None
    performed_period: Period | None = None


class Coverage(Resource, tag="Coverage", frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """An insurance, or another way to pay."""

    status: str | None = None
    type: Concept | None = None
    beneficiary: Reference | None = None
    period: Period | None = None
    order: int | None = None


class PractitionerRole(Resource, tag="PractitionerRole", frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """What somebody does at a hospital."""

    practitioner: Reference | None = None
    specialty: tuple[Concept, ...] = ()


AnyResource = (
    Patient
    | Encounter
    | Condition
    | Observation
    | Medication
    | MedicationRequest
    | MedicationAdministration
    | Procedure
    | Coverage
    | PractitionerRole
)
TYPES: Final[dict[str, type[AnyResource]]] = {
    kind.__name__: kind
    for kind in (
        Patient,
        Encounter,
        Condition,
        Observation,
        Medication,
        MedicationRequest,
        MedicationAdministration,
        Procedure,
        Coverage,
        PractitionerRole,
    )
}
"""resourceType -> struct, for every type that is read."""
NOT_READ: Final = "this type is not needed"
"""Why a resource of another type is left out."""

_SUBJECTS: Final[dict[type, attrgetter[Reference | None]]] = {
    kind: attrgetter("beneficiary" if kind is Coverage else "subject")
    for kind in TYPES.values()
    if kind not in (Patient, Medication, PractitionerRole)
}
"""The element of each type that refers to the patient."""


class Entry(Struct, frozen=True, gc=False, omit_defaults=True, rename="camel"):
    """An entry of a Bundle whose resources are all of types that are read."""

    full_url: str | None = None
    resource: AnyResource | None = None


class Bundle(Resource, tag="Bundle", frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """Such a Bundle."""

    entry: tuple[Entry, ...] = ()


def subject_of(resource: AnyResource) -> Reference | None:
    """Return the reference to the patient that a resource is about, or None if it has none or is about nobody."""
    read = _SUBJECTS.get(type(resource))
    found: Reference | None = None if read is None else read(resource)
    return found
