"""Prefect automations that send notifications to a webhook."""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import UUID

from prefect.automations import AutomationCore, EventTrigger, Posture
from prefect.client.orchestration import SyncPrefectClient
from prefect.events import Event, Resource
from prefect.events.actions import CallWebhook

from flows.events import AUTOMATION_PREFIX, BACKUP, BACKUP_AWAITED, BACKUP_MADE, DRIFT, RESOURCE


def notifications(webhook: UUID, max_backup_age: timedelta) -> list[AutomationCore]:
    """Return every notification.

    Args:
        webhook: id of the webhook's block.
        max_backup_age: age of the last backup after which a notification is sent.
    """
    return [
        _notification(
            "failures",
            "A run failed or crashed. Its page says why. The API keeps running.",
            {"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
            "prefect.flow-run.*",
            webhook,
        ),
        _notification(
            "drift",
            "The decision on a batch is to warn, recalibrate or retrain.",
            {DRIFT},
            "health-predict.batch.*",
            webhook,
        ),
        _notification(
            "waiting work",
            "A work queue has runs and no worker: start the worker.",
            {"prefect.work-queue.not-ready"},
            "prefect.work-queue.*",
            webhook,
        ),
        _backup_too_old(webhook, max_backup_age),
    ]


def _backup_too_old(webhook: UUID, max_age: timedelta) -> AutomationCore:
    """Notify once if there is no backup for this time. It counts from the last backup or, before the first one, from the set-up."""
    hours = max_age.total_seconds() / 3600
    description = f"The last backup is older than {hours:g} hours: look at the runs of backup/backup."
    # Like every other notification, except for the trigger.
    warning = _notification("old backups", description, {BACKUP_MADE}, BACKUP, webhook)
    # Each backup restarts the timer. Without `after`, Prefect would use fixed windows, and a gap could be twice as long.
    trigger = EventTrigger(
        match={RESOURCE: BACKUP},
        for_each={RESOURCE},
        after={BACKUP_MADE, BACKUP_AWAITED},
        expect={BACKUP_MADE},
        posture=Posture.Proactive,
        threshold=1,
        within=max_age,
    )
    return warning.model_copy(update={"trigger": trigger})


def expect_backup(client: SyncPrefectClient) -> None:
    """Start the timer for the first backup, if it is not running."""
    event = Event(event=BACKUP_AWAITED, resource=Resource({RESOURCE: BACKUP}))
    # Not with `emit_event`, which raises no error if the server rejects the event.
    client.request("POST", "/events", json=[event.model_dump(mode="json")])


def _notification(what: str, description: str, events: set[str], resource: str, webhook: UUID) -> AutomationCore:
    """Return the automation that sends one notification for each of these events."""
    payload = {
        "text": f"Health Predict: {description}",
        "event": "{{ event.event }}",
        "resource": "{{ event.resource.id }}",
        "name": "{{ event.resource.get('prefect.resource.name') or event.resource.id }}",
        "occurred": "{{ event.occurred }}",
    }
    return AutomationCore(
        name=f"{AUTOMATION_PREFIX}notify of {what}",
        description=description,
        trigger=EventTrigger(
            match={RESOURCE: resource}, for_each={RESOURCE}, expect=events, posture=Posture.Reactive, threshold=1
        ),
        actions=[CallWebhook(block_document_id=webhook, payload=json.dumps(payload))],
    )
