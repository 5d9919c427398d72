"""Put the last promoted version back into service after its container or host was restarted."""

from __future__ import annotations

from healthpredict.operations.installation import Installation
from healthpredict.operations.record_rollout import Rollout
from healthpredict.operations.roll_out import repair_rollout, roll_out


def resume(installation: Installation) -> Rollout | None:
    """Roll out the last promoted version again. If it is in service, it is only verified.

    Returns:
        What is in service, or None if nothing was promoted yet.

    Raises:
        RegistryError: MLflow failed.
        RolloutError, RolloutUnknown, BundleError, AlreadyRunning: see `roll_out`.
    """
    repair_rollout(installation)
    promoted = installation.ledger.last("promotion")
    return roll_out(installation, promoted["version"], image=promoted.get("image")) if promoted else None
