"""`refresh-login/refresh-login`: the cluster's login for the image registry, before it expires."""

from __future__ import annotations

from prefect import flow

from flows.tasks import as_task
from healthpredict.config import Settings
from healthpredict.errors import RolloutError
from healthpredict.operations.put_on_kubernetes import refresh_login as operation


@flow(name="refresh-login")
def refresh_login() -> bool:
    """Give the cluster a fresh login; whether it needs one."""
    settings = Settings()
    if settings.rollout.target != "kubernetes":
        return False
    return as_task(operation, may_pass=(RolloutError,))(settings)
