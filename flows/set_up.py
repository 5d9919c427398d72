"""`python -m flows.set_up`: everything on the Prefect server of PREFECT_API_URL that runs need. Run twice it changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound
from prefect.variables import Variable
from prefect.workers.process import ProcessWorker

from flows.automations import set_up_automations
from flows.blocks import set_up_s3, set_up_webhook
from healthpredict.config import Settings

# Name, description, and how many runs at once: a loop, its training, a preparation and a scoring; one rollout.
POOLS = (
    ("health-predict", "Data, training, monitoring and scoring", 4),
    ("health-predict-deploy", "Rollouts: the only workers that may replace the API", 1),
)
SETTINGS = "health_predict_settings"
"""Variable with settings for every run, such as {"HEALTHPREDICT_SEARCH__N_TRIALS": "20"}: the next run reads it."""
HOME = Path(__file__).parents[1]


def set_up() -> None:
    """Make pools, variables, blocks and automations, and deploy what `prefect.yaml` describes.

    Raises:
        CalledProcessError: `prefect deploy` failed, and has said why.
    """
    settings = Settings()
    if Variable.get(SETTINGS) is None:
        Variable.set(SETTINGS, {})
    set_up_s3(settings)
    webhook = set_up_webhook(settings)
    with get_client(sync_client=True) as client:
        for name, description, limit in POOLS:
            _set_up_pool(client, name, description, limit)
        set_up_automations(client, webhook, timedelta(seconds=settings.silence_seconds))
    program = Path(sys.executable).with_name("prefect")
    environment = {**os.environ, "HEALTHPREDICT_HOME": str(HOME)}
    subprocess.run([str(program), "--no-prompt", "deploy", "--all"], cwd=HOME, env=environment, check=True)


def _set_up_pool(client: SyncPrefectClient, name: str, description: str, limit: int) -> None:
    """Make a pool, or change the one that a worker has made; a team's own limit stays."""
    template = _job_template()
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


if __name__ == "__main__":
    set_up()
