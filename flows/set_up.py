"""`python -m flows.set_up`: work pools and deployments on the Prefect server of PREFECT_API_URL. Run twice it changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists

POOLS = {
    "health-predict": "Data, training, monitoring and scoring",
    "health-predict-deploy": "Rollouts: the only workers that may replace the API",
}
HOME = Path(__file__).parents[1]


def set_up() -> None:
    """Make what `prefect.yaml` describes, and the pools that it names.

    Raises:
        CalledProcessError: `prefect deploy` failed, and has said why.
    """
    with get_client(sync_client=True) as client:
        for name, description in POOLS.items():
            try:
                client.create_work_pool(WorkPoolCreate(name=name, type="process", description=description))
            except ObjectAlreadyExists:
                continue
    program = Path(sys.executable).with_name("prefect")
    environment = {**os.environ, "HEALTHPREDICT_HOME": str(HOME)}
    subprocess.run([str(program), "--no-prompt", "deploy", "--all"], cwd=HOME, env=environment, check=True)


if __name__ == "__main__":
    set_up()
