"""Set up our automations in Prefect: the one that ends runs whose worker died, and the notifications."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from prefect.automations import AutomationCore
from prefect.client.orchestration import SyncPrefectClient

from flows.dead_runs import end_dead_runs
from flows.events import AUTOMATION_PREFIX
from flows.notifications import notifications
from healthpredict.operations.backup import MAX_HOURS


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
    ours = [end_dead_runs(silence), *(notifications(webhook, max_backup_age) if webhook else [])]
    wanted = {automation.name: automation for automation in ours}
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
        if name.startswith(AUTOMATION_PREFIX) and name not in wanted:
            client.delete_automation(found.id)
