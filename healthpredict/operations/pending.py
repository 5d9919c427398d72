"""Which batches are pending, which changed after they were accepted, and which files are ignored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from healthpredict.config import Settings
from healthpredict.data.batches import INITIAL, natural_key
from healthpredict.errors import Removed
from healthpredict.operations.arrivals import Delivered, delivered_batches, fingerprint
from healthpredict.operations.context import open_ledger
from healthpredict.storage.layout import Layout
from healthpredict.storage.tables import read_json
from healthpredict.storage.uris import exists

NOT_USED: Final = ("refused", "empty")
"""Decisions on batches of which nothing was used. Such a batch is pending again if its file has new content."""


@dataclass(frozen=True, slots=True)
class Pending:
    """The batches that are not done.

    Attributes:
        files: every delivered file, done or not, by its batch.
        ready: batches that can be processed now, in order.
        waiting: batch whose file may still be copied -> why it waits.
        changed: batch that is done -> how its file differs from the accepted one.
        ignored: see `Folder.ignored`.
    """

    files: dict[str, Delivered]
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


def find_pending(settings: Settings) -> Pending:
    """Compare the delivered batches with those in the ledger.

    A file is read only if its version at the store differs from that in the ledger.

    Raises:
        StorageError: the folder, a file or the ledger cannot be read.
    """
    folder = delivered_batches(settings)
    done = _initial(settings) | batch_events(settings)
    ready, waiting, changed = [], {}, {}
    files = dict(folder.files)
    for name, delivered in folder.files.items():
        event = done.get(name)
        try:
            if event is not None and not _differs(event, delivered):
                continue
            if event is not None and event["decision"] not in NOT_USED:
                changed[name] = (
                    f"{delivered.file} now has {delivered.stored.size:,} bytes; {event['size']:,} bytes were accepted and stay "
                    "in use. Deliver further rows as another batch"
                )
            elif event is not None and _was_not_used(settings, delivered):
                continue
            elif delivered.waits is not None:
                waiting[name] = delivered.waits
            else:
                ready.append(name)
        except Removed:
            del files[name]
    for name, event in done.items():
        if name not in files and "file" in event and event["decision"] not in NOT_USED:
            changed[name] = f"{event['file']} was removed; what was accepted stays in use"
    return Pending(files=files, ready=ready, waiting=waiting, changed=changed, ignored=list(folder.ignored))


def batch_events(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the latest event of each batch, in the order of these events."""
    latest: dict[str, dict[str, Any]] = {}
    for event in open_ledger(settings).events("batch"):
        latest.pop(event["batch"], None)
        latest[event["batch"]] = event
    return latest


def _initial(settings: Settings) -> dict[str, dict[str, Any]]:
    """The initial data, which `prepare` accepts, in the form of a ledger event."""
    uri = Layout(settings.data_uri).accepted(INITIAL)
    delivered = read_json(uri).get("delivered") if exists(uri) else None
    return {INITIAL: {"decision": "prepared", **(delivered or {})}}


def _was_not_used(settings: Settings, delivered: Delivered) -> bool:
    """Whether this content was refused before under this name, earlier than the content of the latest event."""
    content = fingerprint(delivered).sha256
    events = open_ledger(settings).events("batch")
    return any((event["batch"], event.get("sha256")) == (delivered.name, content) for event in events)


def _differs(event: dict[str, Any], delivered: Delivered) -> bool:
    """Whether the content of a file differs from that in the event. Events of earlier versions contain no digest."""
    if "sha256" not in event or event["version"] == delivered.stored.version:
        return False
    return bool(event["sha256"] != fingerprint(delivered).sha256)
