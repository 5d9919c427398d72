"""Prefect automations: end runs whose worker died, and send notifications to a webhook."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Final
from uuid import UUID

from prefect.automations import AutomationCore, EventTrigger, Posture
from prefect.client.orchestration import SyncPrefectClient
from prefect.events import Event, Resource
from prefect.events.actions import CallWebhook

from flows.dead_runs import end_dead_runs
from flows.events import BACKUP, BACKUP_AWAITED, BACKUP_MADE, DRIFT, RESOURCE
from healthpredict.operations.backup import MAX_HOURS

_PREFIX: Final = "health-predict: "
"""The names of our automations begin with this. `set_up_automations` deletes every other automation whose name does.
Never change it: automations with the old names would stay."""


def _automations(webhook: UUID | None, silence: timedelta, max_backup_age: timedelta) -> list[AutomationCore]:
    """Return every automation. Notifications need a webhook."""
    dead = end_dead_runs(silence)
    if webhook is None:
        return [dead]
    return [
        dead,
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
        name=f"{_PREFIX}notify of {what}",
        description=description,
        trigger=EventTrigger(
            match={RESOURCE: resource}, for_each={RESOURCE}, expect=events, posture=Posture.Reactive, threshold=1
        ),
        actions=[CallWebhook(block_document_id=webhook, payload=json.dumps(payload))],
    )


def set_up_automations(
    client: SyncPrefectClient,
    webhook: UUID | None,
    silence: timedelta,
    max_backup_age: timedelta = timedelta(hours=MAX_HOURS),
) -> None:
    """Create our automations, update those that differ, and delete every other one whose name has our prefix.

    Without a webhook, this deletes the notifications. It never changes automations with other names.

    Args:
        client: of the server.
        webhook: id of the webhook's block, or None for no notifications.
        silence: time without a heartbeat after which a run is ended, see `end_dead_runs`.
        max_backup_age: age of the last backup after which a notification is sent.
    """
    wanted = {automation.name: automation for automation in _automations(webhook, silence, max_backup_age)}
    existing = {found.name: found for found in client.read_automations()}
    for name, automation in wanted.items():
        if name not in existing:
            client.create_automation(automation)
        elif AutomationCore.model_validate(existing[name].model_dump()) != automation:
            # Keep `enabled`, because the team switches automations on and off in the UI.
            client.update_automation(
                existing[name].id, automation.model_copy(update={"enabled": existing[name].enabled})
            )
    for name, found in existing.items():
        if name.startswith(_PREFIX) and name not in wanted:
            client.delete_automation(found.id)
