"""The work pools, whose workers run the deployments."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

from flows.kubernetes_jobs import kubernetes_template
from healthpredict.config import Settings
from healthpredict.errors import ConfigurationError

KUBERNETES: Final = "kubernetes"
SETTINGS_VARIABLE: Final = "health_predict_settings"
"""Prefect variable with settings for every run, such as {"HEALTHPREDICT_SEARCH__N_TRIALS": "20"}. Never rename it."""


class _Pool(NamedTuple):
    name: str
    description: str
    concurrency_limit: int


# Prefect, `prefect.yaml` and the workers' commands name the pools. Never rename one.
_POOLS: Final = (
    # Enough for a loop, its training, a preparation and a scoring at the same time.
    _Pool("health-predict", "Data, training, monitoring and scoring", concurrency_limit=4),
    # Rollouts run one after the other.
    _Pool("health-predict-deploy", "Rollouts: only these workers may replace the API", concurrency_limit=1),
)
POOL_NAMES: Final = tuple(pool.name for pool in _POOLS)


def set_up_pools(client: SyncPrefectClient, settings: Settings) -> None:
    """Create the pools, or update those that exist.

    Description and job template of an existing pool are overwritten. A limit of concurrent runs that a team has set stays.

    Raises:
        ConfigurationError: a pool has another type, or pods of Kubernetes cannot reach the data.
    """
    process = _process_template()
    training, rollouts = _POOLS
    # Rollouts and backups need Docker's socket and the passwords of the databases, which no pod gets.
    _set_up_pool(client, rollouts, ProcessWorker.type, process)
    if settings.work_pool.type == KUBERNETES:
        environment = process["variables"]["properties"]["env"]
        _set_up_pool(client, training, KUBERNETES, kubernetes_template(settings, environment))
    else:
        _set_up_pool(client, training, ProcessWorker.type, process)


def _set_up_pool(client: SyncPrefectClient, pool: _Pool, kind: str, template: dict[str, Any]) -> None:
    try:
        found = client.read_work_pool(pool.name)
    except ObjectNotFound:
        client.create_work_pool(
            WorkPoolCreate(
                name=pool.name,
                type=kind,
                description=pool.description,
                base_job_template=template,
                concurrency_limit=pool.concurrency_limit,
            )
        )
        return
    if found.type != kind:
        raise ConfigurationError(
            f"The work pool {pool.name} is of type {found.type}, which Prefect cannot change to {kind}. When no run is active, "
            f"delete it (`prefect work-pool delete {pool.name}`), then repeat the command."
        )
    limit = pool.concurrency_limit if found.concurrency_limit is None else found.concurrency_limit
    if (found.description, found.base_job_template, found.concurrency_limit) != (pool.description, template, limit):
        client.update_work_pool(
            pool.name,
            WorkPoolUpdate(
                description=pool.description,
                base_job_template=template,
                concurrency_limit=limit,
            ),
        )


def _process_template() -> dict[str, Any]:
    """Return Prefect's template for processes, with the environment from the variable, which the worker reads for each run."""
    template = ProcessWorker.get_default_base_job_template()
    environment = template["variables"]["properties"]["env"]
    # Prefect checks a new pool's defaults against their types, and this one is a string until the worker reads the variable.
    kinds = [{"type": environment.pop("type"), "additionalProperties": environment.pop("additionalProperties")}]
    environment |= {
        "anyOf": [*kinds, {"type": "string"}],
        "default": f"{{{{ prefect.variables.{SETTINGS_VARIABLE} }}}}",
    }
    return template
