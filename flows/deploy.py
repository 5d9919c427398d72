"""`deploy/deploy`: put a version into service, verified, and make it the champion."""

from __future__ import annotations

from prefect import flow

from flows.artifacts import show_table
from flows.tasks import as_task
from healthpredict.config import Settings
from healthpredict.operations.roll_out import Rollout, roll_out


@flow(name="deploy")
def deploy(version: int) -> Rollout:
    """Roll a version out; on any failure what ran before keeps running.

    Args:
        version: of the registry.
    """
    rollout = as_task(roll_out)(Settings(), version)
    facts = rollout.model_dump(mode="json", exclude={"seconds"})
    show_table(
        f"rollout-version-{version}", [{"fact": name, "value": value} for name, value in facts.items()], "In service"
    )
    return rollout
