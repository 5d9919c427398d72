"""Override the decision on the next batch."""

from __future__ import annotations

from healthpredict.errors import ConfigurationError
from healthpredict.monitoring.policy import Override
from healthpredict.operations.installation import Installation


def decide_by_hand(installation: Installation, override: Override) -> None:
    """Set the decision on the next batch of the drift loop by hand, whatever drift it shows, and record it in the ledger.

    Raises:
        ConfigurationError: no reason was given.
        StorageError: the ledger cannot be written.
    """
    if not override.because.strip():
        raise ConfigurationError("Give a reason with --because. It is shown with the decision.")
    installation.ledger.append("override", **override.model_dump())


def pending_override(installation: Installation) -> tuple[int, Override] | None:
    """Return the newest manual decision and its sequence number in the ledger, or None if a batch has used it or there is none."""
    ledger = installation.ledger
    override = ledger.last("override")
    if override is None or ledger.last("batch", override=override["sequence"]) is not None:
        return None
    return override["sequence"], Override(state=override["state"], because=override["because"])
