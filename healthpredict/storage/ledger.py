"""The ledger: an append-only list of what was done and decided.

Every event is an object of its own, `000001.json` and so on, written only if its number is free; if two writers want the same
number, the slower one takes the next. So the ledger is append-only on a local disk and on S3, and a killed writer leaves no partial
event. The kind of an event is not part of its name: otherwise two writers could use one number for events of different kinds.

Each event has a unique `id` and, as `previous_sha256`, the digest of the stored bytes of the event before it. Events of older
versions have neither; the first event with a digest covers the last of them.

Events are never rewritten. So the kinds of events and the names of their facts must never be renamed: code reads events that older
versions wrote.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from healthpredict.errors import AlreadyExists, StorageError
from healthpredict.storage.tables import json_bytes, read_json, write_json
from healthpredict.storage.uris import join, list_uris, read_bytes, write_bytes

_logger = logging.getLogger(__name__)
Event = dict[str, Any]
"""`sequence` (from 1), `time` (UTC, ISO 8601), `kind`, `id`, `previous_sha256`, perhaps `key`, and the facts of that kind."""
OWN_FACTS: Final = frozenset({"sequence", "time", "kind", "id", "previous_sha256", "key"})
_NAME: Final = re.compile(r"[0-9]{6,}\.json")
_READERS: Final = 8
"""Parallel reads, because S3 takes about 30 ms for each event."""
_EVENTS_PER_PART: Final = 32


class Ledger:
    """The events below one folder or prefix.

    The folder is listed once, and each event is read once. Call `refresh` to see what other processes have written since.
    """

    def __init__(self, uri: str, head_path: Path | None = None) -> None:
        """Open a ledger.

        Args:
            uri: folder or prefix of the events; it need not exist.
            head_path: local file with number and digest of the last event that this host wrote or checked, see `ledger_check`.
        """
        self.uri = uri
        self.head_path = head_path
        self._listed: list[str] | None = None
        self._events: dict[str, Event] = {}

    def append(self, kind: str, *, key: str | None = None, **facts: Any) -> Event:
        """Write one event and return it.

        Args:
            kind: what happened, such as `promotion`.
            key: identifies what happened. If an event with this key exists, it is returned and nothing is written.
            facts: JSON values, with any names except those in `OWN_FACTS`.

        Raises:
            StorageError: it cannot be written, or a fact is not JSON. If the store did not respond, the event may still have been
                written. With a key, it is safe to append it again.
        """
        assert not OWN_FACTS & facts.keys(), f"the ledger itself sets {', '.join(sorted(OWN_FACTS))}"
        identity = uuid.uuid4().hex
        uris = self._known_uris()
        if key is not None:
            known = next((event for event in self._read(uris) if event.get("key") == key), None)
            if known is not None:
                return known
        sequence = sequence_of(uris[-1]) if uris else 0
        previous = digest(read_bytes(uris[-1])) if uris else None
        while True:
            sequence += 1
            event = {
                "sequence": sequence,
                "time": datetime.now(UTC).isoformat(),
                "kind": kind,
                "id": identity,
                "previous_sha256": previous,
                **({} if key is None else {"key": key}),
                **facts,
            }
            uri = self._uri(sequence)
            data = json_bytes(uri, event)
            try:
                # Succeeds if these bytes are stored already: the id makes them unique, so only the response was lost.
                write_bytes(uri, data, exclusive=True)
            except AlreadyExists:
                stored = read_bytes(uri)
                other = self._add(uri, stored)
                if key is not None and other.get("key") == key:
                    return other
                previous = digest(stored)
                continue
            self.remember(sequence, data)
            return self._add(uri, data)

    def restore(self, events: Sequence[Event]) -> None:
        """Write events 1 to n of a backup. Events that exist already must be equal. They stay, and so do later ones.

        Raises:
            StorageError: another event exists under one of the numbers, or an event does not follow from the one before it. Nothing
                was changed.
        """
        written = [json_bytes(self._uri(event["sequence"]), event) for event in events]
        for before, event in zip(written, events[1:], strict=False):
            if event.get("previous_sha256") not in (None, digest(before)):
                raise StorageError(
                    f"Event {event['sequence']} does not follow from the event before it. Nothing was restored."
                )
        self.restore_bytes(written)

    def restore_bytes(self, events: Sequence[bytes]) -> None:
        """Restore the stored bytes of events, like `restore`, but without a check of their digests."""
        present = list(read_all(self.uris()))
        common = min(len(present), len(events))
        if present[:common] != list(events[:common]):
            raise StorageError(f"The ledger {self.uri} contains other events. Restore into an empty installation.")
        for sequence, data in enumerate(events[len(present) :], len(present) + 1):
            write_bytes(self._uri(sequence), data, exclusive=True)
            self.remember(sequence, data)
        self.refresh()

    def refresh(self) -> None:
        """List the folder again before the next read."""
        self._listed = None

    def events(self, kind: str | None = None) -> list[Event]:
        """Return the events, or those of one kind, in order.

        Raises:
            StorageError: they cannot be read.
        """
        return [event for event in self._read(self._known_uris()) if kind in (None, event["kind"])]

    def last(self, kind: str, **match: Any) -> Event | None:
        """Return the latest event of a kind with these facts, or None.

        Raises:
            StorageError: the events cannot be read.
        """
        wanted = {"kind": kind, **match}
        uris = self._known_uris()
        # In parts from the end, because callers usually want a recent event.
        for end in range(len(uris), 0, -_EVENTS_PER_PART):
            part = self._read(uris[max(0, end - _EVENTS_PER_PART) : end])
            found = next((event for event in reversed(part) if wanted.items() <= event.items()), None)
            if found is not None:
                return found
        return None

    def uris(self) -> list[str]:
        """List the URIs of the events, sorted by number. Sorted as text, event 1000000 would come before event 999999."""
        found = list_uris(self.uri, suffix=".json")
        return sorted((uri for uri in found if _NAME.fullmatch(uri.rpartition("/")[2])), key=sequence_of)

    def remember(self, sequence: int, data: bytes) -> None:
        """Store number and digest of an event at `head_path`, unless a later event is stored there."""
        if self.head_path is None:
            return
        try:
            head = self.head()
            if head is not None and head["sequence"] > sequence:
                return
            write_json(str(self.head_path), {"ledger": self.uri, "sequence": sequence, "sha256": digest(data)})
        except StorageError as error:
            # The event itself is written, so this must not fail. Without the head, this host cannot detect that events are dropped.
            _logger.warning("%s", error)

    def head(self) -> dict[str, Any] | None:
        """Return `sequence` and `sha256` of the last event that this host wrote or checked, or None if there is none."""
        if self.head_path is None or not self.head_path.exists():
            return None
        head: dict[str, Any] = read_json(str(self.head_path))
        if not isinstance(head, dict) or not head.keys() >= {"ledger", "sequence", "sha256"}:
            raise StorageError(
                f"{self.head_path} is damaged. Check the ledger against a backup, then remove this file."
            )
        return head if head["ledger"] == self.uri else None

    def _known_uris(self) -> list[str]:
        if self._listed is None:
            self._listed = self.uris()
        return self._listed

    def _read(self, uris: Sequence[str]) -> list[Event]:
        unread = [uri for uri in uris if uri not in self._events]
        self._events |= zip(unread, map(_parse, unread, read_all(unread)), strict=True)
        return [self._events[uri] for uri in uris]

    def _add(self, uri: str, data: bytes) -> Event:
        """Add an event that follows the known ones."""
        self._known_uris().append(uri)
        self._events[uri] = _parse(uri, data)
        return self._events[uri]

    def _uri(self, sequence: int) -> str:
        return join(self.uri, f"{sequence:06d}.json")


def sequence_of(uri: str) -> int:
    """Return the number in the name of an event."""
    return int(uri.rpartition("/")[2].removesuffix(".json"))


def read_all(uris: Sequence[str]) -> Iterator[bytes]:
    """Yield the stored bytes of events, in order."""
    with ThreadPoolExecutor(_READERS) as pool:
        yield from pool.map(read_bytes, uris)


def digest(data: bytes) -> str:
    """Return the SHA-256 of the stored bytes of an event."""
    return hashlib.sha256(data).hexdigest()


def _parse(uri: str, data: bytes) -> Event:
    try:
        event: Event = json.loads(data)
    except ValueError as error:
        raise StorageError(
            f"{uri} is not JSON ({error}). Compare it with a backup: healthpredict ledger --verify."
        ) from error
    return event
