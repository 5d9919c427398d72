"""The work pools, whose workers run the deployments."""

from __future__ import annotations

from typing import Any, Final

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

SETTINGS: Final = "health_predict_settings"
"""Variable with settings for every run, such as {"HEALTHPREDICT_SEARCH__N_TRIALS": "20"}: the next run reads it."""
# Name, description, and how many runs at once: a loop, its training, a preparation and a scoring; one rollout.
_POOLS = (
    ("health-predict", "Data, training, monitoring and scoring", 4),
    ("health-predict-deploy", "Rollouts: the only workers that may replace the API", 1),
)
NAMES: Final = tuple(name for name, _, _ in _POOLS)


def set_up_pools(client: SyncPrefectClient) -> None:
    """Make the pools, or change those that a worker has made; a team's own limit stays."""
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
    """Prefect's own for processes, with the variable as environment; the worker looks it up at every run."""
    template = ProcessWorker.get_default_base_job_template()
    environment = template["variables"]["properties"]["env"]
    # Prefect checks a new pool's defaults against their types: this one is a text until the worker looks it up.
    kinds = [{"type": environment.pop("type"), "additionalProperties": environment.pop("additionalProperties")}]
    environment |= {"anyOf": [*kinds, {"type": "string"}], "default": f"{{{{ prefect.variables.{SETTINGS} }}}}"}
    return template
