"""`deploy/deploy`: roll out a version, verify it, and make it the champion."""

from __future__ import annotations

from prefect import flow

from flows.artifacts import show_failed_rollout, show_table
from flows.tasks import as_task
from healthpredict.errors import HealthPredictError
from healthpredict.operations.installation import Installation
from healthpredict.operations.promote import promote
from healthpredict.operations.record_rollout import Rollout


@flow(name="deploy")
def deploy(version: int, git_ref: str | None = None, force: bool = False, because: str | None = None) -> Rollout:
    """Roll out a version that passed the gate, or is a recalibration, and make it the champion.

    Args:
        version: of the registry.
        git_ref: branch, tag or commit of the code in the image; by default the code that runs here.
        force: promote even if the version did not pass the gate.
        because: the reason, which the ledger records; required with `force`.
    """
    try:
        rollout = as_task(promote)(Installation(), version, force=force, because=because, git_ref=git_ref)
    except HealthPredictError as error:
        show_failed_rollout(version, error)
        raise
    facts = rollout.model_dump(mode="json", exclude={"seconds"}) | rollout.seconds
    show_table(
        f"rollout-version-{version}", [{"fact": name, "value": value} for name, value in facts.items()], "In service"
    )
    return rollout
