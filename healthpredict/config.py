"""The settings: the only reader of the environment."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from healthpredict.data.params import ContractParams, LiveParams
from healthpredict.monitoring.params import DriftPolicy
from healthpredict.rollout.params import RolloutParams
from healthpredict.training.gate import PromotionPolicy
from healthpredict.training.params import ModelParams, SearchParams


class Settings(BaseSettings):
    """Everything that differs between installations, read from `HEALTHPREDICT_*`.

    Nested values use two underscores: `HEALTHPREDICT_SEARCH__N_TRIALS=8`.
    """

    model_config = SettingsConfigDict(
        env_prefix="HEALTHPREDICT_",
        env_nested_delimiter="__",
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        populate_by_name=True,
    )

    data_uri: str = Field("var/data", description="Folder or s3://bucket/prefix that holds data and ledger")
    reports_uri: str = Field("reports", description="Folder or s3://bucket/prefix for reports")
    state_path: Path = Field(Path("var"), description="Local folder for databases, locks, search state and logs")
    initial_share: float = Field(0.2, gt=0, lt=1, description="Share of encounters, by time, that is there at first")
    n_batches: int = Field(10, ge=0, description="Batches the rest arrives in; 0 takes everything as initial data")
    label_delay: int = Field(1, ge=1, description="Batches after which the outcomes of a batch are known")
    outcome: Literal["within_30_days", "any"] = Field("within_30_days", description="Which readmissions count")
    model_name: str = Field("readmission", description="Name of the registered model")
    tracking_uri: str | None = Field(None, description="MLflow; by default a SQLite file in the state folder")
    mlflow_ui_url: str | None = Field(None, description="MLflow's pages, for links; by default those of the server")
    api_host: str = Field("127.0.0.1", description="Address of the API")
    api_port: int = Field(8080, ge=1, le=65535, description="Port of the API")
    api_key_path: Path | None = Field(None, description="File with the key that rollouts ask the API with")
    webhook_url: str | None = Field(None, description="Where Prefect posts failures and drift, as JSON")
    silence_seconds: int = Field(180, ge=75, description="After which silence of its worker a flow run is ended")
    git_commit: str | None = Field(None, description="Commit of the code, where there is no work tree to ask")
    source_path: Path | None = Field(
        None, description="Checkout that images are built from; by default that of this code"
    )
    source_repository: str | None = Field(None, description="Git repository that a named ref is fetched from")
    image_repository: str | None = Field(None, description="Where images are pushed to, such as HOST/health-predict")
    backup_uri: str | None = Field(
        None, description="Folder or s3://bucket/prefix for backups; by default a folder of the state"
    )
    backups_kept: int = Field(14, ge=1, description="Backups that are kept; older ones are deleted after a new one")
    backup_databases: tuple[str, ...] = Field(
        (), description="Postgres databases in a backup, postgresql://user@host:port/name; SQLite needs none"
    )
    artifacts_path: Path | None = Field(
        None, description="Folder of MLflow's artifacts for backups, where MLflow is a server with a local folder"
    )
    kubeconfig: Path | None = Field(None, description="Of the cluster that is rolled out to")
    contract: ContractParams = ContractParams()
    live: LiveParams = LiveParams()
    search: SearchParams = SearchParams()
    model: ModelParams = ModelParams()
    promotion: PromotionPolicy = PromotionPolicy()
    drift: DriftPolicy = DriftPolicy()
    rollout: RolloutParams = RolloutParams()
    ray_address: str | None = Field(
        None, validation_alias=AliasChoices("RAY_ADDRESS", "ray_address"), description="Ray cluster to search on"
    )

    prefect_api_url: str | None = Field(
        None,
        validation_alias=AliasChoices("PREFECT_API_URL", "prefect_api_url"),
        description="Prefect server, for links to its pages",
    )

    @property
    def prefect_ui_url(self) -> str | None:
        """Prefect's pages, where there is a server."""
        return self.prefect_api_url.removesuffix("/api") if self.prefect_api_url else None

    @property
    def prediction_log_path(self) -> Path:
        """Folder of the local API's prediction log, until it is shipped."""
        return self.state_path.resolve() / "prediction-log"

    @property
    def patient_key_path(self) -> Path:
        """File of the key for the pseudonyms of patients."""
        return self.state_path.resolve() / "patient-key"

    @property
    def api_keys_path(self) -> Path:
        """File of the hashes of the API's keys, which pods always ask for, and the local API where `api_key_path` is set."""
        return self.state_path.resolve() / "api-keys.json"

    @property
    def backup_place(self) -> str:
        """Where backups go."""
        return self.backup_uri or str(self.state_path / "backups")

    @property
    def mlflow_uri(self) -> str:
        """Where MLflow is."""
        return self.tracking_uri or f"sqlite:///{self.state_path.resolve() / 'mlflow.db'}"


def quiet_vendors() -> None:
    """Keep vendors from reporting home and from drawing over our output. Entry points call it before anything else."""
    defaults = {
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "healthpredict",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
