"""`governance.yaml`: what a hospital states about a model, because no record contains it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from healthpredict.errors import ConfigurationError

_REQUIRED: Final[dict[str, Any]] = {"required": True}
_LONGEST: Final = 5000
"""Characters of one text."""


def _required(description: str) -> Any:
    return Field("", description=description, max_length=_LONGEST, json_schema_extra=_REQUIRED)


def _optional(description: str) -> Any:
    return Field("", description=description, max_length=_LONGEST)


class _Part(BaseModel):
    """A part of the file. The docstring of each part is a comment in the template."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class Developer(_Part):
    """Who answers for the model."""

    name: str = _required("Who trained the model and answers for it")
    contact: str = _required("How to reach them")
    funding: str = _required("Who paid for it")


class Use(_Part):
    """What the model is for."""

    intended_use: str = _required("What the prediction is used for, and where in the workflow")
    how_to_use: str = _required("What a reader of the risk does with it")
    users: str = _required("Who reads the risk")
    patients: str = _required("Patients for whom it is used")
    decision_role: str = _required("Whether the risk informs, augments or replaces a clinical decision")
    out_of_scope: str = _required("Tasks, situations and patients for which it must not be used")


class Risks(_Part):
    """What can go wrong."""

    known_risks: str = _required("Known risks, inappropriate settings and uses")
    ethics: str = _required("Known biases and ethical considerations")
    clinical_risk_level: str = _required("Clinical risk level, by the hospital's own scale")


class Data(_Part):
    """Where the training data comes from."""

    setting: str = _required("Hospitals, country and kind of care that the training data comes from")
    dates: str = _required("First and last date of the training data")
    relevance: str = _required("Why the training data is relevant where the model is used")
    treatments: str = _optional("Treatments that patients received, and how they were taken into account")


class Fairness(_Part):
    """How fairness was considered."""

    approach: str = _required("How it was ensured that predictions are fair")
    bias_management: str = _required("How bias is managed, reduced or eliminated")
    inequalities: str = _optional("Known health inequalities between groups of these patients")


class ExternalValidation(_Part):
    """A validation on data of another source. Leave all empty if there was none."""

    source: str = _optional("Data source, clinical setting or environment")
    party: str = _optional("Who conducted it")
    representativeness: str = _optional("Who is in that data: race, ethnicity, language, sex, age and others")
    process: str = _optional("How it was conducted")
    validity: str = _optional("Measured validity")
    fairness: str = _optional("Measured fairness")
    outcome_studies: str = _optional("Studies of the effect on outcomes: citations or links")


class Maintenance(_Part):
    """Who looks after the model."""

    responsible: str = _required("Who receives alarms and decides")
    review: str = _required("How often people review the model")
    correction: str = _required("How soon a found risk to validity or fairness is corrected")


class Release(_Part):
    """Under which conditions the model is used."""

    stage: str = _optional("Stage of the release, such as pilot or production")
    availability: str = _optional("Where the model is available")
    ehr: str = _optional("EHR systems that it is used with")
    regulatory: str = _optional("Regulatory status")
    security: str = _optional("Security practices and accreditations")
    third_parties: str = _optional("Third parties involved")
    reimbursement: str = _optional("Reimbursement status")
    patient_disclosure: str = _required("Whether patients consent or are informed")
    publications: str = _optional("Peer-reviewed publications")
    clinical_trial: str = _optional("Clinical trial")


class Study(_Part):
    """Who was involved, and what is open to others."""

    stakeholders: str = _required("Patients, clinicians and others who were consulted")
    ethics_approval: str = _optional("Ethics committee and its decision")
    conflicts: str = _optional("Conflicts of interest")
    protocol: str = _optional("Where the study protocol is")
    registration: str = _optional("Registration of the study")
    data_sharing: str = _optional("Whether and how the data is available")
    code_sharing: str = _optional("Whether and how the code is available")
    next_steps: str = _optional("Planned research")


class Governance(_Part):
    """The content of `governance.yaml`. An empty text means that the hospital has not stated it.

    Hospitals have files with these names: never rename a part or a text. A new required text makes their files incomplete, so that
    promotions warn or are rejected. The order is that of the template.
    """

    developer: Developer = Developer()
    use: Use = Use()
    risks: Risks = Risks()
    data: Data = Data()
    fairness: Fairness = Fairness()
    external_validation: ExternalValidation = ExternalValidation()
    maintenance: Maintenance = Maintenance()
    release: Release = Release()
    study: Study = Study()

    @property
    def missing(self) -> tuple[str, ...]:
        """Names such as `use.users` of the required texts that are empty."""
        return tuple(
            f"{part}.{name}"
            for part, name, field in _fields()
            if field.json_schema_extra == _REQUIRED and not getattr(getattr(self, part), name)
        )


def _fields() -> Iterator[tuple[str, str, Any]]:
    """Yield part, name and field of every text."""
    for part, holder in Governance.model_fields.items():
        assert holder.annotation is not None
        for name, field in holder.annotation.model_fields.items():
            yield part, name, field


def template() -> str:
    """Return a `governance.yaml` with every text empty, and a comment above each."""
    lines = [
        "# What the model card says about this model, apart from figures. Keep it under version control, and set",
        "# HEALTHPREDICT_GOVERNANCE_PATH to its path. Text over several lines begins with | after the colon.",
    ]
    last = None
    for part, name, field in _fields():
        if part != last:
            docstring = Governance.model_fields[part].annotation.__doc__
            lines += ["", f"# {docstring}", f"{part}:"]
            last = part
        required = " (required)" if field.json_schema_extra == _REQUIRED else ""
        lines += [f"  # {field.description}{required}", f'  {name}: ""']
    return "\n".join(lines) + "\n"


_NULLS: Final = ("~", "null", "Null", "NULL")


class _Loader(yaml.BaseLoader):  # type: ignore[misc] # PyYAML has no types
    """Keeps every scalar as text: YAML would read `No` as false, and a date as a date. Only null is an empty text."""

    def construct_scalar(self, node: Any) -> Any:
        text = super().construct_scalar(node)
        return "" if node.style is None and text in _NULLS else text

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        names = [self.construct_object(key, deep=deep) for key, _ in node.value]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"{twice} is given twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)


def parse_governance(text: str, name: str) -> Governance:
    """Read a `governance.yaml`.

    Args:
        text: its content.
        name: of the file, for messages.

    Raises:
        ConfigurationError: the text is not YAML, a name is unknown, or a value is not text.
    """
    try:
        data = yaml.load(text, Loader=_Loader)  # noqa: S506 -- it makes text, lists and mappings only
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{name} cannot be read as YAML: {error}.") from error
    if data in (None, ""):
        return Governance()
    if not isinstance(data, dict):
        raise ConfigurationError(f"{name} must have parts such as `use:`. `healthpredict card --template` prints them.")
    # A part without content is written `use:`.
    data = {part: {} if content == "" else content for part, content in data.items()}
    try:
        return Governance.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(map(_problem, error.errors(include_input=False, include_url=False)))
        raise ConfigurationError(f"{name}: {problems}. `healthpredict card --template` prints every name.") from None


def _problem(error: Any) -> str:
    place = ".".join(map(str, error["loc"]))
    match error["type"]:
        case "extra_forbidden":
            known = [f"{part}.{name}" for part, name, _ in _fields()] if "." in place else list(Governance.model_fields)
            nearest = max(known, key=lambda other: difflib.SequenceMatcher(None, place, other).ratio())
            return f"there is no {place}; the nearest name is {nearest}"
        case "string_type":
            return f"{place} must be text; for several lines, write | after the colon"
        case "model_type":
            return f"{place} must be a part with names below it"
        case "string_too_long":
            return f"{place} has more than {_LONGEST} characters"
        case _:
            return f"{place}: {error['msg']}"
