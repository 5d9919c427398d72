"""Parameters of the data layer."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from healthpredict.data.diagnosis import Coding


class ContractParams(BaseModel):
    """How strictly batches are checked against the contract.

    Attributes:
        max_bad_share: a batch with a larger share (0-1) of bad rows is refused as a whole; otherwise its bad rows are quarantined.
        diagnosis_coding: the code system of a diagnosis code that exists in both systems, where a file states none. With None, such
            a row is bad.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    max_bad_share: float = Field(0.10, ge=0, le=1)
    diagnosis_coding: Coding | None = Coding.ICD9


class LiveParams(BaseModel):
    """How encounters that the API predicted are collected into batches.

    Attributes:
        min_rows: smallest number of encounters in a batch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    min_rows: int = Field(2000, ge=1)
