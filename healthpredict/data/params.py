"""Parameters of the data layer."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ContractParams(BaseModel):
    """How strictly a batch is held to the contract.

    Attributes:
        max_bad_share: share of bad rows (0-1) above which the whole batch is refused; below it they are quarantined.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    max_bad_share: float = Field(0.10, ge=0, le=1)


class LiveParams(BaseModel):
    """How batches are made from what the API predicted.

    Attributes:
        min_rows: encounters that make a batch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    min_rows: int = Field(2000, ge=1)
