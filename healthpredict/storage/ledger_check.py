"""Detect whether events of the ledger were changed, dropped or reordered.

Limits: if somebody changes an event together with all later ones, or drops the last ones, only a host that has stored the last
event (`Ledger.head_path`) detects it. A host that never wrote or checked an event cannot detect dropped ones.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from healthpredict.storage.ledger import Ledger, digest, read_all, sequence_of


class Altered(BaseModel):
    """The first event that was altered.

    Attributes:
        sequence: its number.
        problem: a sentence that says what happened to it.
    """

    model_config = ConfigDict(frozen=True)

    sequence: int
    problem: str


def find_altered(ledger: Ledger) -> tuple[int, Altered | None]:
    """Check a ledger. If nothing was altered, store its last event on this host.

    Returns:
        The number of events, and the first that was changed, dropped or reordered, or None.

    Raises:
        StorageError: the events cannot be read.
    """
    uris = ledger.uris()
    stored = list(read_all(uris))
    altered = _check_names(uris) or _check_content(stored) or _check_head(ledger, stored)
    if altered is None and stored:
        ledger.remember(len(stored), stored[-1])
    return len(stored), altered


def _check_names(uris: Sequence[str]) -> Altered | None:
    for expected, uri in enumerate(uris, 1):
        if sequence_of(uri) != expected:
            return Altered(sequence=expected, problem=f"Event {expected} was dropped: the next one is {uri}.")
    return None


def _check_content(stored: Sequence[bytes]) -> Altered | None:
    events: list[dict[str, Any]] = []
    for sequence, data in enumerate(stored, 1):
        try:
            event = json.loads(data)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            return Altered(sequence=sequence, problem=f"Event {sequence} was changed: it is not a JSON object.")
        events.append(event)
    chained = False
    for sequence, event in enumerate(events, 1):
        problem = _problem_of_event(sequence, event, chained)
        chained = chained or "previous_sha256" in event
        if problem:
            return Altered(sequence=sequence, problem=problem)
        before = digest(stored[sequence - 2]) if sequence > 1 else None
        if "previous_sha256" in event and event["previous_sha256"] != before:
            return _broken_link(sequence, events, stored)
    return None


def _problem_of_event(sequence: int, event: dict[str, Any], chained: bool) -> str | None:
    """Check an event's number, and that it has a digest if an earlier one has. Args: chained, whether an earlier one has."""
    if event.get("sequence") != sequence:
        return f"Event {sequence} was reordered or changed: it was written as event {event.get('sequence')}."
    if "previous_sha256" not in event and chained:
        return f"Event {sequence} was changed: it lacks the digest of the event before it."
    return None


def _broken_link(sequence: int, events: Sequence[dict[str, Any]], stored: Sequence[bytes]) -> Altered:
    """Determine which of two events was altered, if the second does not have the digest of the first."""
    before = sequence - 1
    if before == 0:
        return Altered(sequence=1, problem="Event 1 was changed, or events before it were dropped.")
    known_digests = {event.get("previous_sha256") for event in events}
    if digest(stored[before - 1]) in known_digests:
        return Altered(sequence=sequence, problem=f"Event {sequence} was changed or reordered.")
    if sequence == len(events) or digest(stored[sequence - 1]) in known_digests:
        return Altered(sequence=before, problem=f"Event {before} was changed.")
    problem = (
        f"Event {before} or {sequence} was changed, or event {sequence} was dropped and those after it renumbered."
    )
    return Altered(sequence=before, problem=problem)


def _check_head(ledger: Ledger, stored: Sequence[bytes]) -> Altered | None:
    head = ledger.head()
    if head is None:
        return None
    last = head["sequence"]
    advice = f"If you emptied or replaced the ledger on purpose, remove {ledger.head_path}."
    if last > len(stored):
        first = len(stored) + 1
        which = f"Event {first} was" if first == last else f"Events {first} to {last} were"
        return Altered(sequence=first, problem=f"{which} dropped from the end. {advice}")
    if digest(stored[last - 1]) != head["sha256"]:
        problem = f"Event {last} was changed, or an earlier one together with all digests after it. {advice}"
        return Altered(sequence=last, problem=problem)
    return None
