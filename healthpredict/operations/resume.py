"""Start again what was in service: a container that was replaced took the local API with it."""

from __future__ import annotations

from healthpredict.config import Settings
from healthpredict.operations.context import open_ledger
from healthpredict.operations.record_rollout import Rollout
from healthpredict.operations.roll_out import roll_out, settle


def resume(settings: Settings) -> Rollout | None:
    """Roll the last promoted version out again, verified; where it still answers it is only looked at.

    Returns:
        What is in service; None where nothing was promoted yet.

    Raises:
        RolloutError: it did not become ready or did not answer as trained.
        RegistryError: MLflow does not answer.
    """
    settle(settings)
    promoted = open_ledger(settings).last("promotion")
    return roll_out(settings, promoted["version"], image=promoted.get("image")) if promoted else None
