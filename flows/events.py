"""Events that the flows send to Prefect, for automations and triggers, and the names of our automations.

Prefect stores these names, and a team's own automations may use them. Never rename them.
"""

from __future__ import annotations

from typing import Final

from prefect.events import emit_event

from healthpredict.operations.backup import Backup
from healthpredict.operations.detect_drift import DriftCheck

AUTOMATION_PREFIX: Final = "health-predict: "
"""The names of our automations begin with this. `set_up_automations` deletes every other automation whose name does."""
RESOURCE: Final = "prefect.resource.id"
DRIFT: Final = "health-predict.drift"
RUN_AWAITED: Final = "health-predict.run.awaited"
"""Starts the timer of a run. If the run sends no heartbeat before the timer ends, it is ended, see `flows.dead_runs`."""

BACKUP: Final = "health-predict.backup"
"""The resource of the following two events."""
BACKUP_MADE: Final = "health-predict.backup.made"
BACKUP_AWAITED: Final = "health-predict.backup.awaited"
"""Starts the timer for the first backup."""


def emit_backup(made: Backup) -> None:
    """Send the event that a backup is complete."""
    emit_event(BACKUP_MADE, resource={RESOURCE: BACKUP}, payload={"uri": made.uri, "bytes": made.bytes})


def emit_drift(check: DriftCheck) -> None:
    """Send an event if the decision on a batch is not `stable`, with the decision and its reasons."""
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
