"""`backup/backup`: copy databases, ledger, data, models and keys into one archive, every day."""

from __future__ import annotations

from prefect import flow

from flows.events import emit_backup
from flows.tasks import as_task
from healthpredict.operations.backup import Backup
from healthpredict.operations.backup import backup as operation
from healthpredict.operations.installation import Installation


@flow(name="backup")
def backup() -> Backup:
    """Make a backup in the configured place, check it, and delete the oldest ones."""
    made = as_task(operation)(Installation())
    emit_backup(made)
    return made
