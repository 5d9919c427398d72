"""The manifest of a prepared data set."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from healthpredict.data.diagnosis import Coding

FHIR_SOURCE: Final = "FHIR export "
"""How the source of an imported export begins."""


class PreparedData(BaseModel):
    """The result of `prepare`.

    Attributes:
        source: where the data came from, for people.
        sha256: digest of the csv.
        synthetic: whether the encounters are synthetic.
        from_fhir: whether `import_fhir` wrote the batches, so that it adds later exports to them.
        encounters: rows of the source.
        read_as: how the source is written, for people.
        quarantined: bad rows among them.
        patients: distinct patients of the valid encounters.
        cohort: valid encounters that did not end in death or hospice.
        readmitted_share: share (0-1) of the cohort that was readmitted.
        batches: the names in the order of arrival, `initial` first.
        problems: rows in quarantine by reason, outcomes that cannot be used, and notices, in sentences without values of
            patients.
        settings: the settings that the batches depend on.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    sha256: str
    synthetic: bool
    from_fhir: bool = False
    read_as: str = ""
    encounters: int
    quarantined: int
    patients: int
    cohort: int
    readmitted_share: float
    batches: list[str]
    problems: tuple[str, ...] = ()
    settings: dict[str, Any]

    @model_validator(mode="before")
    @classmethod
    def _before_origins(cls, stored: Any) -> Any:
        """Read what an earlier version of this system recorded, when only the source told where the data came from."""
        if isinstance(stored, dict) and "from_fhir" not in stored:
            return stored | {"from_fhir": str(stored.get("source")).startswith(FHIR_SOURCE)}
        return stored

    @field_validator("settings")
    @classmethod
    def _before_code_systems(cls, stored: dict[str, Any]) -> dict[str, Any]:
        """Read the settings of an earlier version of this system, when all diagnoses were codes of ICD-9-CM."""
        return stored | {"contract": {"diagnosis_coding": Coding.ICD9.value} | stored.get("contract", {})}
