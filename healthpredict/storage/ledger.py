"""The ledger: what was done and decided, in order, never changed.

Every event is a file of its own, `000001.json` and so on, written only where there is none: of two writers that want the
same number one takes the next. So the ledger is append-only on a local disk and on S3 alike, and a writer that is killed
leaves no half event. The kind is in the file and not in its name, because then two writers could both have a number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from healthpredict.errors import AlreadyExists, StorageError
from healthpredict.storage.tables import read_json, write_json
from healthpredict.storage.uris import join, list_uris

Event = dict[str, Any]
"""`sequence` (from 1), `time` (UTC, ISO 8601), `kind` and the facts of that kind."""


class Ledger:
    """The events below one folder or prefix."""

    def __init__(self, uri: str) -> None:
        """Args: uri, the folder or prefix of the events; it need not exist."""
        self.uri = uri

    def append(self, kind: str, *, key: str | None = None, **facts: Any) -> Event:
        """Write one event and return it.

        Args:
            kind: what happened, such as `promotion`.
            facts: JSON values, under any name but `sequence` and `time`.

        Raises:
            StorageError: it cannot be written, or a fact is not JSON; the ledger is as it was.
        """
        assert not {"sequence", "time"} & facts.keys(), "the ledger itself sets sequence and time"
        uris = self._uris()
        sequence = _sequence(uris[-1]) if uris else 0
        while True:
            sequence += 1
            event = {"sequence": sequence, "time": datetime.now(UTC).isoformat(), "kind": kind, **facts}
            try:
                write_json(join(self.uri, f"{sequence:06d}.json"), event, exclusive=True)
            except AlreadyExists:
                continue
            return event

    def restore(self, events: Sequence[Event]) -> None:
        """Write events of a backup under their own numbers; those that are there already, alike, are left.

        Raises:
            StorageError: there is another event under one of the numbers, or more events than these. Nothing was changed.
        """
        present = self.events()
        if present != list(events[: len(present)]):
            raise StorageError(f"The ledger {self.uri} holds other events. Restore to an empty place.")
        for event in events[len(present) :]:
            write_json(join(self.uri, f"{event['sequence']:06d}.json"), event, exclusive=True)

    def events(self, kind: str | None = None) -> list[Event]:
        """Return the events, or those of one kind, in order.

        Raises:
            StorageError: they cannot be read.
        """
        return [event for event in map(read_json, self._uris()) if kind in (None, event["kind"])]

    def last(self, kind: str, **match: Any) -> Event | None:
        """Return the latest event of a kind with these facts, or None.

        Raises:
            StorageError: the events cannot be read.
        """
        wanted = {"kind": kind, **match}
        newest_first: Iterator[Event] = map(read_json, reversed(self._uris()))
        return next((event for event in newest_first if wanted.items() <= event.items()), None)

    def _uris(self) -> list[str]:
        # By number: as text, event 1000000 would come before event 999999.
        return sorted(list_uris(self.uri, suffix=".json"), key=_sequence)


def _sequence(uri: str) -> int:
    return int(uri.rpartition("/")[2].removesuffix(".json"))
