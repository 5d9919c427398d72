"""What Prefect does by itself: ends runs whose worker died, and tells a team what it has to know."""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import UUID

from prefect.automations import AutomationCore, EventTrigger, Posture
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.actions import CallWebhook

from flows.dead_runs import end_dead_runs
from flows.events import DRIFT, RESOURCE


def _wanted(webhook: UUID | None, silence: timedelta) -> list[AutomationCore]:
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
    ]


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


def set_up_automations(client: SyncPrefectClient, webhook: UUID | None, silence: timedelta) -> None:
    """Make the automations, change those that differ, and remove those that nobody is told by any more.

    Args:
        client: of the server.
        webhook: id of the block of the address that is told; None where nobody is.
        silence: of a run after which it is ended.
    """
    wanted = {automation.name: automation for automation in _wanted(webhook, silence)}
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
