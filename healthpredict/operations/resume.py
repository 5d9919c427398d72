"""Start the local API again, which ended with its container or host."""

from __future__ import annotations

from healthpredict.operations.installation import Installation
from healthpredict.operations.record_rollout import Rollout
from healthpredict.operations.roll_out import roll_out, settle


def resume(installation: Installation) -> Rollout | None:
    """Roll out the last promoted version again. If it is still in service, it is only verified.

    Returns:
        What is in service, or None if nothing was promoted yet.

    Raises:
        RolloutError: it did not become ready, or its predictions differ from those at training.
        RegistryError: MLflow does not answer.
    """
    settle(installation)
    promoted = installation.ledger.last("promotion")
    return roll_out(installation, promoted["version"], image=promoted.get("image")) if promoted else None
