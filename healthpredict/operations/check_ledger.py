"""Check the ledger, and keep the result for `status`."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, ValidationError

from healthpredict.errors import StorageError
from healthpredict.operations.installation import LEDGER_CHECK, Installation
from healthpredict.storage.ledger_check import Altered, find_altered
from healthpredict.storage.tables import read_json, write_json
from healthpredict.storage.uris import exists

_logger = logging.getLogger(__name__)


class LedgerCheck(BaseModel):
    """The result of a check.

    Attributes:
        time: of the check.
        events: number of events in the ledger.
        altered: the first event that was changed, removed or reordered, or None.
    """

    model_config = ConfigDict(frozen=True)

    time: datetime
    events: int
    altered: Altered | None


def check_ledger(installation: Installation) -> LedgerCheck:
    """Check every event of the ledger against the digest in the next one, and keep the result in the state folder.

    Raises:
        StorageError: the ledger cannot be read.
    """
    events, altered = find_altered(installation.ledger)
    check = LedgerCheck(time=datetime.now(UTC), events=events, altered=altered)
    if altered is not None:
        _logger.error("The ledger was altered. %s", altered.problem)
    write_json(str(installation.settings.state_path / LEDGER_CHECK), check.model_dump(mode="json"))
    return check


def last_ledger_check(installation: Installation) -> LedgerCheck | None:
    """Return the result of the last check on this host, or None if there is none."""
    uri = str(installation.settings.state_path / LEDGER_CHECK)
    if not exists(uri):
        return None
    try:
        return LedgerCheck.model_validate(read_json(uri))
    except (StorageError, ValidationError):
        return None  # written by another version of this system; the next check replaces it
