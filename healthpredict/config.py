"""The settings: the only reader of the environment."""

from __future__ import annotations

import difflib
import json
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import AliasChoices, BaseModel, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from healthpredict.data.import_params import ImportParams
from healthpredict.data.params import ContractParams, LiveParams
from healthpredict.errors import ConfigurationError
from healthpredict.monitoring.params import DriftPolicy
from healthpredict.rollout.params import RolloutParams
from healthpredict.training.params import ModelParams, PromotionPolicy, SearchParams
from healthpredict.work_pool_params import WorkPoolParams

_PREFIX: Final = "HEALTHPREDICT_"
_MIN_SIMILARITY: Final = 0.9
"""Minimum similarity of a misspelt prefix. A prefix with one character wrong, missing, added or moved has at least .92."""
_TRACEBACK: Final = "HEALTHPREDICT_TRACEBACK"
OTHER_VARIABLES: Final = (
    _TRACEBACK,
    # Compose files, images and the scripts beside them.
    "HEALTHPREDICT_DATABASE_CA",
    "HEALTHPREDICT_DATABASE_SSLMODE",
    "HEALTHPREDICT_DOCKER_GID",
    "HEALTHPREDICT_HOSPITAL_DIR",
    "HEALTHPREDICT_JUPYTER_PORT",
    "HEALTHPREDICT_KUBERNETES_NETWORK",
    "HEALTHPREDICT_KUBERNETES_NETWORK_EXTERNAL",
    "HEALTHPREDICT_MLFLOW_DATABASE_URL",
    "HEALTHPREDICT_MLFLOW_PORT",
    "HEALTHPREDICT_PREDICTION_LOG",
    "HEALTHPREDICT_PREFECT_DATABASE_URL",
    "HEALTHPREDICT_PREFECT_PORT",
    "HEALTHPREDICT_SECRETS_DIR",
    "HEALTHPREDICT_TAG",
    "HEALTHPREDICT_TRAINING_WORKERS",
    # Scripts of the host on AWS, and variables that they pass to compose.
    "HEALTHPREDICT_AWS_DIR",
    "HEALTHPREDICT_AWS_READER_DIR",
    "HEALTHPREDICT_CONTAINERS_ROLE",
    "HEALTHPREDICT_HOME",
    "HEALTHPREDICT_MAX_HOURS",
    "HEALTHPREDICT_PARAMETERS",
    "HEALTHPREDICT_SOURCE_ARCHIVE",
    "HEALTHPREDICT_SOURCE_COMMIT",
    "HEALTHPREDICT_SOURCE_SHA256",
    # Tests and the notebook.
    "HEALTHPREDICT_INFRA_TOOLS",
    "HEALTHPREDICT_PLOTS",
    "HEALTHPREDICT_TEST_CHAI",
    "HEALTHPREDICT_TEST_DATA",
    "HEALTHPREDICT_TEST_FHIR",
    "HEALTHPREDICT_TEST_LOG_FOLDER",
    "HEALTHPREDICT_TEST_PULUMI",
    "HEALTHPREDICT_TEST_REGISTRY",
)
"""Variables that other parts of the system read. They are not settings."""
BatchSource = Literal["batches", "live"]
"""Where the drift loop takes batches from: delivered files only, or also the predictions of the API."""


class _Variables(EnvSettingsSource):
    """Reads the environment. A variable with our prefix that nothing reads is an error. A list may be written as `a,b`."""

    def __call__(self) -> dict[str, Any]:
        """Check the names of all variables, then read the settings."""
        settings = set(variables(self.settings_cls))
        known = sorted({*settings, *OTHER_VARIABLES})
        for name, value in os.environ.items():
            upper = name.upper()
            if not _has_prefix(upper):
                continue
            if upper not in known:
                raise _misspelt(name, known)
            if upper in settings and value and not value.strip():
                raise ConfigurationError(f"{name} is empty: it holds only spaces. Set a value, or unset it.")
        values = super().__call__()
        for name in _names(values):
            # Names inside the JSON of a nested model.
            if f"{_PREFIX}{name}".upper() not in known and name.partition("__")[0] in self.settings_cls.model_fields:
                raise _misspelt(f"{_PREFIX}{name}".upper(), known)
        return values

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Parse a list or a nested model. Other text is returned unchanged; its validation error names the variable."""
        text = value.strip()
        if not text.startswith(("[", "{")):
            return [part.strip() for part in text.split(",")]
        try:
            return json.loads(text)
        except ValueError:
            return text


def _names(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        yield f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _names(value, f"{prefix}{name}__")


def _has_prefix(name: str) -> bool:
    """Return whether a name begins with the prefix or a misspelling of it, such as `HEALTHPREDICTION_`. Args: name, in capitals."""
    starts = {name[: len(_PREFIX) + more] for more in (-1, 0, 1)}
    return bool(difflib.get_close_matches(_PREFIX, starts, n=1, cutoff=_MIN_SIMILARITY))


def _misspelt(name: str, known: Sequence[str]) -> ConfigurationError:
    nearest = max(known, key=lambda other: difflib.SequenceMatcher(None, name.upper(), other).ratio())
    return ConfigurationError(f"There is no setting {name}. The nearest one is {nearest}: rename or unset it.")


def variables(model: type[BaseModel], prefix: str = _PREFIX) -> Iterator[str]:
    """Yield the environment variables of a settings model, including nested ones."""
    for name, field in model.model_fields.items():
        if field.validation_alias is not None:
            continue
        yield f"{prefix}{name.upper()}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from variables(field.annotation, f"{prefix}{name.upper()}__")


class Settings(BaseSettings):
    """Everything that differs between installations, read from `HEALTHPREDICT_*`.

    Nested values use two underscores: `HEALTHPREDICT_SEARCH__N_TRIALS=8`. Lists are written as `a,b` or as JSON.
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        protected_namespaces=(),
        populate_by_name=True,
    )

    data_uri: str = Field("var/data", description="Folder or s3://bucket/prefix that holds data and ledger")
    reports_uri: str = Field("reports", description="Folder or s3://bucket/prefix for reports")
    state_path: Path = Field(Path("var"), description="Local folder for databases, locks, search state and logs")
    initial_share: float = Field(0.2, gt=0, lt=1, description="Share of encounters, the earliest, in the initial data")
    n_batches: int = Field(
        10, ge=0, description="Number of batches for the other encounters; with 0, all are initial data"
    )
    label_delay: int = Field(1, ge=1, description="How many batches later the outcomes of a batch are known")
    known_share: float = Field(
        0.95,
        gt=0,
        le=1,
        description="Share of a batch's encounters at risk whose outcome must be known to learn from it",
    )
    arrival_seconds: float = Field(
        60, ge=0, description="Seconds without a change after which a file without a marker NAME.done is complete"
    )
    outcome: Literal["within_30_days", "any"] = Field("within_30_days", description="Which readmissions count")
    model_name: str = Field("readmission", description="Name of the registered model")
    tracking_uri: str | None = Field(
        None, description="Tracking URI of MLflow; by default a SQLite file in the state folder"
    )
    mlflow_ui_url: str | None = Field(
        None, description="URL of MLflow's pages for links; by default that of the server"
    )
    governance_path: Path | None = Field(
        None, description="governance.yaml with what the hospital states on the model card"
    )
    cds_hooks_path: Path | None = Field(
        None, description="TOML file of parameters for CDS Hooks, with files of keys that it names beside it"
    )
    silent: bool = Field(
        False, description="Predictions are logged and judged, but no flag and no card is issued; for the first month"
    )
    hold_out: float = Field(
        0, ge=0, le=0.2, description="Share of the flags just above the threshold that is held back at random"
    )
    hold_out_width: float = Field(0.05, gt=0, le=0.1, description="How far above the threshold flags are held back")
    api_host: str = Field("127.0.0.1", description="Address of the API")
    api_port: int = Field(8080, ge=1, le=65535, description="Port of the API")
    api_key_path: Path | None = Field(None, description="File with the API key that rollouts use")
    webhook_url: str | None = Field(None, description="URL to which Prefect posts notifications as JSON")
    silence_seconds: int = Field(180, ge=75, description="Seconds without a heartbeat after which a flow run is ended")
    git_commit: str | None = Field(None, description="Commit of the code, if it does not run from a Git work tree")
    source_path: Path | None = Field(
        None, description="Checkout that images are built from; by default that of this code"
    )
    source_repository: str | None = Field(None, description="Git repository for a rollout with a Git ref")
    image_repository: str | None = Field(None, description="Repository for images, such as HOST/health-predict")
    backup_uri: str | None = Field(
        None, description="Folder or s3://bucket/prefix for backups; by default a folder of the state"
    )
    backups_kept: int = Field(14, ge=1, description="Number of backups to keep; each new backup deletes older ones")
    backup_databases: tuple[str, ...] = Field(
        (), description="Postgres databases to back up, postgresql://user@host:port/name; SQLite needs none"
    )
    external_databases: tuple[str, ...] = Field(
        (), description="Databases of Prefect and MLflow in a Postgres outside the services, for `healthpredict doctor`"
    )
    artifacts_path: Path | None = Field(
        None, description="MLflow's artifact folder for backups, if MLflow is a server with a local folder"
    )
    artifacts_uri: str | None = Field(
        None, description="s3://bucket/prefix where MLflow's server keeps models; only `healthpredict doctor` uses it"
    )
    python_image: str = Field(
        "python:3.11-slim-bookworm", description="Base image of the API's image: a tag, or NAME:TAG@sha256:DIGEST"
    )
    kubeconfig: Path | None = Field(None, description="Kubeconfig of the cluster for rollouts")
    contract: ContractParams = ContractParams()
    live: LiveParams = LiveParams()
    fhir: ImportParams = ImportParams()
    search: SearchParams = SearchParams()
    model: ModelParams = ModelParams()
    promotion: PromotionPolicy = PromotionPolicy()
    drift: DriftPolicy = DriftPolicy()
    rollout: RolloutParams = RolloutParams()
    work_pool: WorkPoolParams = WorkPoolParams()
    ray_address: str | None = Field(
        None,
        validation_alias=AliasChoices("RAY_ADDRESS", "ray_address"),
        description="Ray cluster for searches, scoring and imports",
    )

    prefect_api_url: str | None = Field(
        None,
        validation_alias=AliasChoices("PREFECT_API_URL", "prefect_api_url"),
        description="Prefect server, for links to its pages",
    )
    prefect_login: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("PREFECT_API_AUTH_STRING", "prefect_login"),
        description="user:password of the Prefect server, for `healthpredict doctor`",
    )
    mlflow_user: str | None = Field(
        None,
        validation_alias=AliasChoices("MLFLOW_TRACKING_USERNAME", "mlflow_user"),
        description="User of the MLflow server, for `healthpredict doctor`",
    )
    mlflow_password: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("MLFLOW_TRACKING_PASSWORD", "mlflow_password"),
        description="Password of the MLflow server, for `healthpredict doctor`",
    )

    def __init__(self, **values: Any) -> None:
        """Read the settings. Values given here take precedence over the environment.

        Raises:
            ConfigurationError: a variable is misspelt, or its value is wrong. The message names it and not its value.
        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            problems = "; ".join(f"{_variable(e['loc'])}: {e['msg']}" for e in error.errors(include_input=False))
            raise ConfigurationError(f"Wrong setting. {problems}.") from None  # the cause contains values

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read only arguments and the environment."""
        return init_settings, _Variables(settings_cls)

    @property
    def prefect_ui_url(self) -> str | None:
        """URL of Prefect's pages, or None if there is no server."""
        return self.prefect_api_url.removesuffix("/api") if self.prefect_api_url else None

    @property
    def prediction_log_path(self) -> Path:
        """Folder of the local API's prediction log before it is shipped."""
        return self.state_path.resolve() / "prediction-log"

    @property
    def patient_key_path(self) -> Path:
        """File of the key for the pseudonyms of patients."""
        return self.state_path.resolve() / "patient-key"

    @property
    def api_keys_path(self) -> Path:
        """File with the hashes of API keys. Pods always require a key; the local API requires one if `api_key_path` is set."""
        return self.state_path.resolve() / "api-keys.json"

    @property
    def api_options(self) -> list[str]:
        """Options of the API's command line that do not depend on where it runs."""
        options = ["--silent=true"] if self.silent else []
        if self.hold_out:
            options += [f"--hold-out={self.hold_out}", f"--hold-out-width={self.hold_out_width}"]
        return options

    @property
    def backup_place(self) -> str:
        """Folder or S3 prefix for backups."""
        return self.backup_uri or str(self.state_path / "backups")

    @property
    def mlflow_uri(self) -> str:
        """Tracking URI of MLflow."""
        return self.tracking_uri or f"sqlite:///{self.state_path.resolve() / 'mlflow.db'}"


def _variable(place: tuple[int | str, ...]) -> str:
    """Return the environment variable of a value that validation rejected. Args: place, field names and list indices."""
    field = Settings.model_fields.get(str(place[0]))
    if field is None or field.validation_alias is not None:
        return str(place[0]).upper()
    name, model = f"{_PREFIX}{place[0]}", field.annotation
    for part in place[1:]:
        if not (isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields):
            break
        name, model = f"{name}__{part}", model.model_fields[str(part)].annotation
    return name.upper()


def shows_tracebacks() -> bool:
    """Return whether the command shows the traceback of an unexpected error: `HEALTHPREDICT_TRACEBACK=1`."""
    return os.environ.get(_TRACEBACK, "") not in ("", "0")


def quiet_vendors() -> None:
    """Turn off telemetry and console output of libraries. Entry points call this first."""
    defaults = {
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        # MLflow and Prefect set the levels of their loggers when they are imported.
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "healthpredict",
        "PREFECT_LOGGING_LOGGERS_PREFECT_FLOW_RUNS_LEVEL": "WARNING",
        "PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL": "WARNING",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    # A Prefect worker imports Prefect before our code, too early for the variables above.
    for name in ("alembic", "mlflow", "prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It warns at every logged model if pip is not installed, as in the image of the workers.
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)
    logging.getLogger("healthpredict").setLevel(logging.INFO)
    # Python 3.12 and newer warn when they compile Evidently 0.7.23, which has strings with escapes like "\d".
    warnings.filterwarnings("ignore", category=SyntaxWarning)
