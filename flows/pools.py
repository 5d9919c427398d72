"""The work pools, whose workers run the deployments."""

from __future__ import annotations

from typing import Any, Final

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

SETTINGS: Final = "health_predict_settings"
"""Prefect variable with settings for every run, such as {"HEALTHPREDICT_SEARCH__N_TRIALS": "20"}."""
# Name, description, and limit of concurrent runs. Four: a loop, its training, a preparation and a scoring. One: a rollout.
_POOLS = (
    ("health-predict", "Data, training, monitoring and scoring", 4),
    ("health-predict-deploy", "Rollouts: only these workers may replace the API", 1),
)
NAMES: Final = tuple(name for name, _, _ in _POOLS)


def set_up_pools(client: SyncPrefectClient) -> None:
    """Create the pools, or update those that a worker has created. A limit that a team has set stays."""
    template = _job_template()
    for name, description, limit in _POOLS:
        _set_up_pool(client, name, description, limit, template)


def _set_up_pool(client: SyncPrefectClient, name: str, description: str, limit: int, template: dict[str, Any]) -> None:
    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(
            WorkPoolCreate(
                name=name,
                type=ProcessWorker.type,
                description=description,
                base_job_template=template,
                concurrency_limit=limit,
            )
        )
        return
    limit = limit if pool.concurrency_limit is None else pool.concurrency_limit
    if (pool.description, pool.base_job_template, pool.concurrency_limit) != (description, template, limit):
        client.update_work_pool(
            name,
            WorkPoolUpdate(
                description=description,
                base_job_template=template,
                concurrency_limit=limit,
            ),
        )


def _job_template() -> dict[str, Any]:
    """Return Prefect's template for processes, with the environment from the variable, which the worker reads for each run."""
    template = ProcessWorker.get_default_base_job_template()
    environment = template["variables"]["properties"]["env"]
    # Prefect checks a new pool's defaults against their types, and this one is a string until the worker reads the variable.
    kinds = [{"type": environment.pop("type"), "additionalProperties": environment.pop("additionalProperties")}]
    environment |= {"anyOf": [*kinds, {"type": "string"}], "default": f"{{{{ prefect.variables.{SETTINGS} }}}}"}
    return template
