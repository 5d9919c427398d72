"""`refresh-login/refresh-login`: renew the cluster's login for the image registry before it expires."""

from __future__ import annotations

from prefect import flow

from flows.tasks import as_task
from healthpredict.errors import RolloutError
from healthpredict.operations.installation import Installation
from healthpredict.operations.put_on_kubernetes import refresh_login as operation


@flow(name="refresh-login")
def refresh_login() -> bool:
    """Renew the cluster's login for the image registry. Returns: whether the registry needs one."""
    installation = Installation()
    if installation.settings.rollout.target != "kubernetes":
        return False
    return as_task(operation, retry_on=(RolloutError,))(installation)
