"""What a person decides about the next batch, written into the ledger before it arrives."""

from __future__ import annotations

from healthpredict.config import Settings
from healthpredict.monitoring.policy import Override
from healthpredict.operations.context import open_ledger


def decide_by_hand(settings: Settings, override: Override) -> None:
    """Decide the next batch that the drift loop takes, whatever it shows.

    Raises:
        StorageError: the ledger cannot be written.
    """
    open_ledger(settings).append("override", **override.model_dump())


def pending_override(settings: Settings) -> tuple[int, Override] | None:
    """The newest decision by hand that no batch has used yet, with its number in the ledger; None where there is none."""
    ledger = open_ledger(settings)
    override = ledger.last("override")
    if override is None or ledger.last("batch", override=override["sequence"]) is not None:
        return None
    return override["sequence"], Override(state=override["state"], because=override["because"])
