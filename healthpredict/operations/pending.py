"""Which batches are pending, which changed after they were accepted, and which files are ignored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from healthpredict.data.batches import INITIAL, natural_key
from healthpredict.errors import Removed
from healthpredict.operations.arrivals import DeliveredFile, delivered_batches, fingerprint
from healthpredict.operations.installation import Installation
from healthpredict.storage.tables import read_json
from healthpredict.storage.uris import exists

NOT_USED: Final = ("refused", "empty")
"""Decisions on batches that were not used. Such a batch is pending again when its file has new content."""


@dataclass(frozen=True, slots=True)
class Pending:
    """The batches that are not done.

    Attributes:
        files: batch -> its delivered file, for all batches, done or not.
        ready: batches that can be processed now, in order.
        waiting: batch whose file may be incomplete -> the reason.
        changed: batch that is done -> how its file differs from the one that was accepted.
        ignored: see `Folder.ignored`.
    """

    files: dict[str, DeliveredFile]
    ready: list[str]
    waiting: dict[str, str]
    changed: dict[str, str]
    ignored: list[str]

    @property
    def names(self) -> list[str]:
        """Batches that are not done, in order."""
        return sorted([*self.ready, *self.waiting], key=natural_key)

    @property
    def sentences(self) -> list[str]:
        """What the operator should know."""
        return [
            *(f"{name} is pending: {why}." for name, why in self.waiting.items()),
            *(f"{name} changed: {how}." for name, how in self.changed.items()),
            *(f"Ignored: {what}" for what in self.ignored),
        ]


def find_pending(installation: Installation) -> Pending:
    """Compare the delivered batches with those in the ledger.

    A file whose batch is in the ledger is read only if its version in the store differs from the recorded one.

    Raises:
        StorageError: the folder, a file or the ledger cannot be read.
    """
    folder = delivered_batches(installation)
    done = _initial(installation) | batch_events(installation)
    ready, waiting, changed = [], {}, {}
    files = dict(folder.files)
    for name, delivered in folder.files.items():
        event = done.get(name)
        try:
            new = _is_new(installation, event, delivered)
        except Removed:
            del files[name]
            continue
        if not new:
            continue
        if event is not None and event["decision"] not in NOT_USED:
            changed[name] = (
                f"{delivered.file} now has {delivered.stored.size:,} bytes; {event['size']:,} bytes were accepted and stay in "
                "use. Deliver further rows as another batch"
            )
        elif delivered.waits is not None:
            waiting[name] = delivered.waits
        else:
            ready.append(name)
    for name, event in done.items():
        if name not in files and "file" in event and event["decision"] not in NOT_USED:
            changed[name] = f"{event['file']} was removed; what was accepted stays in use"
    return Pending(files=files, ready=ready, waiting=waiting, changed=changed, ignored=list(folder.ignored))


def batch_events(installation: Installation) -> dict[str, dict[str, Any]]:
    """Return the latest event of each batch, in the order of the events."""
    latest: dict[str, dict[str, Any]] = {}
    for event in installation.ledger.events("batch"):
        latest.pop(event["batch"], None)
        latest[event["batch"]] = event
    return latest


def _initial(installation: Installation) -> dict[str, dict[str, Any]]:
    """Return an event for the initial data like those in the ledger, because `prepare` appends none."""
    uri = installation.layout.accepted(INITIAL)
    delivered = read_json(uri).get("delivered") if exists(uri) else None
    return {INITIAL: {"decision": "prepared", **(delivered or {})}}


def _is_new(installation: Installation, event: dict[str, Any] | None, delivered: DeliveredFile) -> bool:
    """Return whether a file has content that was not processed yet. Args: event, the latest one of its batch, or None."""
    if event is None:
        return True
    # Events of earlier versions of this system contain no digest.
    if "sha256" not in event or event["version"] == delivered.stored.version:
        return False
    content = fingerprint(delivered).sha256
    if event["decision"] not in NOT_USED:
        return bool(event["sha256"] != content)
    # The same content may have been refused before the latest event.
    events = installation.ledger.events("batch")
    return all((other["batch"], other.get("sha256")) != (delivered.name, content) for other in events)
