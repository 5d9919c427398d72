"""What the flows tell Prefect's event bus, for automations and triggers."""

from __future__ import annotations

from typing import Final

from prefect.events import emit_event

from healthpredict.operations.backup import Backup
from healthpredict.operations.detect_drift import DriftCheck

RESOURCE: Final = "prefect.resource.id"
DRIFT: Final = "health-predict.drift"
AWAITED: Final = "health-predict.run.awaited"
"""A run has to give a sign of life now, or is ended."""

BACKUP: Final = "health-predict.backup"
"""The resource of the two events about backups."""
BACKUP_MADE: Final = "health-predict.backup.made"
BACKUP_AWAITED: Final = "health-predict.backup.awaited"
"""From now on the first backup is waited for."""


def tell_backup(made: Backup) -> None:
    """Say that a backup is complete and in its place."""
    emit_event(BACKUP_MADE, resource={RESOURCE: BACKUP}, payload={"uri": made.uri, "bytes": made.bytes})


def tell_drift(check: DriftCheck) -> None:
    """Say that a batch showed drift, with the decision and its reasons; a stable batch is no news."""
    if check.decision.state == "stable":
        return
    emit_event(
        DRIFT,
        resource={
            RESOURCE: f"health-predict.batch.{check.batch}",
            "prefect.resource.name": f"{check.batch}: {check.decision.state}",
        },
        payload={"decision": check.decision.state, "reasons": list(check.decision.reasons)},
    )
