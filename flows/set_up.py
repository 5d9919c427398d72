"""`python -m flows.set_up`: set up the Prefect server at PREFECT_API_URL. A second call changes only what differs."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.variables import Variable

from flows.automations import set_up_automations
from flows.blocks import set_up_s3, set_up_webhook
from flows.dead_runs import expect_heartbeats
from flows.notifications import expect_backup
from flows.pools import SETTINGS_VARIABLE, set_up_pools
from healthpredict.config import Settings

HOME = Path(__file__).parents[1]


def set_up() -> None:
    """Create pools, variables, blocks and automations, and the deployments of `prefect.yaml`.

    Raises:
        ConfigurationError: a setting of the work pool is wrong.
        CalledProcessError: `prefect deploy` failed, and has printed why.
    """
    settings = Settings()
    if Variable.get(SETTINGS_VARIABLE) is None:
        Variable.set(SETTINGS_VARIABLE, {})
    set_up_s3(settings)
    webhook = set_up_webhook(settings)
    with get_client(sync_client=True) as client:
        set_up_pools(client, settings)
        set_up_automations(client, webhook, timedelta(seconds=settings.silence_seconds))
        program = Path(sys.executable).with_name("prefect")
        environment = {**os.environ, "HEALTHPREDICT_HOME": str(HOME)}
        subprocess.run([str(program), "--no-prompt", "deploy", "--all"], cwd=HOME, env=environment, check=True)
        expect_heartbeats(client)
        expect_backup(client)


if __name__ == "__main__":
    set_up()
