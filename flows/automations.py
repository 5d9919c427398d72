"""What Prefect does by itself: ends runs whose worker died, and tells a team what it has to know."""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import UUID

from prefect.automations import AutomationCore, EventTrigger, Posture
from prefect.client.orchestration import SyncPrefectClient
from prefect.events import Event, Resource
from prefect.events.actions import CallWebhook

from flows.dead_runs import end_dead_runs
from flows.events import BACKUP, BACKUP_AWAITED, BACKUP_MADE, DRIFT, RESOURCE
from healthpredict.operations.backup import MAX_HOURS


def _wanted(webhook: UUID | None, silence: timedelta, max_backup_age: timedelta) -> list[AutomationCore]:
    """Every automation; those that tell somebody only where there is a webhook."""
    dead = end_dead_runs(silence)
    if webhook is None:
        return [dead]
    return [
        dead,
        _told(
            "failures",
            "A run failed or crashed. What ran before keeps running; its page says why.",
            {"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
            "prefect.flow-run.*",
            webhook,
        ),
        _told("drift", "A batch showed drift: warn or retrain.", {DRIFT}, "health-predict.batch.*", webhook),
        _told(
            "waiting work",
            "A work queue has runs and no worker: start the worker.",
            {"prefect.work-queue.not-ready"},
            "prefect.work-queue.*",
            webhook,
        ),
        _backup_too_old(webhook, max_backup_age),
    ]


def _backup_too_old(webhook: UUID, max_age: timedelta) -> AutomationCore:
    """Warns once when no backup follows the last one, or the set-up, in this time."""
    hours = max_age.total_seconds() / 3600
    description = f"The last backup is older than {hours:g} hours: look at the runs of backup/backup."
    warning = _told("old backups", description, {BACKUP_MADE}, BACKUP, webhook)
    # Each backup starts the time anew. With `after` it is not cut into fixed windows, in which a gap could be twice as long.
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


def await_backup(client: SyncPrefectClient) -> None:
    """Wait for the first backup from now on, unless one is waited for already."""
    event = Event(event=BACKUP_AWAITED, resource=Resource({RESOURCE: BACKUP}))
    # Not by `emit_event`, which goes on where the server did not take it.
    client.request("POST", "/events", json=[event.model_dump(mode="json")])


def _told(what: str, description: str, events: set[str], resource: str, webhook: UUID) -> AutomationCore:
    payload = {
        "text": f"Health Predict: {description}",
        "event": "{{ event.event }}",
        "resource": "{{ event.resource.id }}",
        "name": "{{ event.resource.get('prefect.resource.name') or event.resource.id }}",
        "occurred": "{{ event.occurred }}",
    }
    return AutomationCore(
        name=f"health-predict: tell of {what}",
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
    """Make the automations, change those that differ, and remove those that nobody is told by any more.

    Args:
        client: of the server.
        webhook: id of the block of the address that is told; None where nobody is.
        silence: of a run after which it is ended.
        max_backup_age: above which the team is warned.
    """
    wanted = {automation.name: automation for automation in _wanted(webhook, silence, max_backup_age)}
    known = {found.name: found for found in client.read_automations()}
    for name, automation in wanted.items():
        if name not in known:
            client.create_automation(automation)
        elif AutomationCore.model_validate(known[name].model_dump()) != automation:
            # Whether it is switched on is the team's choice, made in the UI.
            client.update_automation(known[name].id, automation.model_copy(update={"enabled": known[name].enabled}))
    for name, left in known.items():
        if name.startswith("health-predict: ") and name not in wanted:
            client.delete_automation(left.id)
