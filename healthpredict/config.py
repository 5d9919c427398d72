"""The settings: the only reader of the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from healthpredict.data.params import ContractParams


class Settings(BaseSettings):
    """Everything that differs between installations, read from `HEALTHPREDICT_*`.

    Nested values use two underscores: `HEALTHPREDICT_SEARCH__N_TRIALS=8`.
    """

    model_config = SettingsConfigDict(
        env_prefix="HEALTHPREDICT_", env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    data_uri: str = Field("var/data", description="Folder or s3://bucket/prefix that holds data and ledger")
    reports_uri: str = Field("reports", description="Folder or s3://bucket/prefix for reports")
    state_path: Path = Field(Path("var"), description="Local folder for databases, locks, search state and logs")
    initial_share: float = Field(0.2, gt=0, lt=1, description="Share of encounters, by time, that is there at first")
    n_batches: int = Field(10, ge=1, description="Batches the rest arrives in")
    label_delay: int = Field(1, ge=1, description="Batches after which the outcomes of a batch are known")
    outcome: Literal["within_30_days", "any"] = Field("within_30_days", description="Which readmissions count")
    contract: ContractParams = ContractParams()
