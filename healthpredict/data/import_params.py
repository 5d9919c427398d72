"""Parameters of the import of FHIR exports."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class ImportParams(BaseModel):
    """Which stays of an export are index admissions, and which of the later ones are readmissions.

    The rules are those of CMS's hospital-wide all-cause unplanned readmission measure, as far as the resources allow; each can be
    switched off.

    Attributes:
        merge_stays: whether acute encounters that overlap or follow each other are one stay.
        transfer_days: an acute encounter that starts at most so many days after the day on which another ends is a transfer.
        planned_readmissions: whether planned readmissions do not count.
        require_diabetes: leave out stays of persons without a diagnosis of diabetes until discharge.
        require_diagnosis: leave out stays for which no diagnosis was recorded.
        exclude_against_advice: leave out stays that the patient ended against medical advice.
        exclude_transferred: leave out stays that ended with a transfer to another acute hospital.
        exclude_psychiatric: leave out stays with a psychiatric principal diagnosis.
        exclude_rehabilitation: leave out stays for rehabilitation.
        exclude_cancer: leave out stays for the medical treatment of cancer.
        readmission_days: a readmission within so many days is `<30`.
        later_days: a readmission after that, within so many days, is `>30`.
        snomed_map: csv of the hospital's own map from SNOMED CT to ICD-10-CM; by default the built-in table.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    merge_stays: bool = True
    transfer_days: int = Field(1, ge=0, le=7)
    planned_readmissions: bool = True
    require_diabetes: bool = True
    require_diagnosis: bool = True
    exclude_against_advice: bool = True
    exclude_transferred: bool = True
    exclude_psychiatric: bool = True
    exclude_rehabilitation: bool = True
    exclude_cancer: bool = True
    readmission_days: int = Field(30, ge=1, le=365)
    later_days: int = Field(365, ge=1)
    snomed_map: Path | None = None
