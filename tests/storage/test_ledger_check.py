"""Changed, dropped and reordered events are detected and named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from healthpredict.cli.main import app
from healthpredict.errors import LedgerAltered, StorageError
from healthpredict.operations.installation import Installation
from healthpredict.storage.ledger import Event, Ledger
from healthpredict.storage.ledger_check import find_altered
from healthpredict.storage.tables import write_json
from healthpredict.storage.uris import delete, join, read_bytes, write_bytes


@pytest.fixture
def ledger(root: str, tmp_path: Path) -> Ledger:
    """Six events. This host has stored the last one."""
    ledger = Ledger(join(root, "ledger"), tmp_path / "head.json")
    for number in range(1, 7):
        ledger.append("batch", batch=f"batch-{number}", rows=number)
    return ledger


def change(ledger: Ledger, number: int, **facts: object) -> None:
    uri = ledger.uris()[number - 1]
    write_json(uri, {**json.loads(read_bytes(uri)), **facts})


def swap(ledger: Ledger) -> None:
    third, fourth = ledger.uris()[2:4]
    one, other = read_bytes(third), read_bytes(fourth)
    write_bytes(third, other)
    write_bytes(fourth, one)


def swap_and_renumber(ledger: Ledger) -> None:
    swap(ledger)
    change(ledger, 3, sequence=3)
    change(ledger, 4, sequence=4)


def drop_and_renumber(ledger: Ledger) -> None:
    uris = ledger.uris()
    for number in range(3, 6):
        write_bytes(uris[number - 1], read_bytes(uris[number]))
        change(ledger, number, sequence=number)
    delete(uris[5])


def rewrite_from(ledger: Ledger, number: int) -> None:
    """Rewrite events with matching digests, as an attacker would."""
    events = ledger.events()
    for uri in ledger.uris()[number - 1 :]:
        delete(uri)
    forged = Ledger(ledger.uri)
    for event in events[number - 1 :]:
        forged.append(event["kind"], batch=event["batch"], rows=0)


ALTERATIONS: dict[str, tuple[Callable[[Ledger], object], int, str]] = {
    "first changed": (lambda ledger: change(ledger, 1, rows=9), 1, "Event 1 was changed"),
    "changed": (lambda ledger: change(ledger, 3, rows=9), 3, "Event 3 was changed"),
    "last but one changed": (lambda ledger: change(ledger, 5, rows=9), 5, "Event 5 was changed"),
    "last changed": (lambda ledger: change(ledger, 6, rows=9), 6, "Event 6 was changed"),
    "digest changed": (lambda ledger: change(ledger, 3, previous_sha256="0" * 64), 2, "Event 2 or 3 was changed"),
    "only a space changed": (
        lambda ledger: write_bytes(ledger.uris()[2], read_bytes(ledger.uris()[2]) + b"\n"),
        3,
        "Event 3 was changed",
    ),
    "not JSON": (lambda ledger: write_bytes(ledger.uris()[2], b"{"), 3, "Event 3 was changed: it is not a JSON object"),
    "first dropped": (lambda ledger: delete(ledger.uris()[0]), 1, "Event 1 was dropped"),
    "dropped": (lambda ledger: delete(ledger.uris()[2]), 3, "Event 3 was dropped"),
    "last dropped": (lambda ledger: delete(ledger.uris()[5]), 6, "Event 6 was dropped from the end"),
    "last two dropped": (
        lambda ledger: [delete(uri) for uri in ledger.uris()[4:]],
        5,
        "Events 5 to 6 were dropped from the end",
    ),
    "dropped and renumbered": (drop_and_renumber, 2, "event 3 was dropped and those after it renumbered"),
    "swapped": (swap, 3, "Event 3 was reordered or changed: it was written as event 4"),
    "swapped and renumbered": (swap_and_renumber, 3, "Event 3 was changed or reordered"),
    "rewritten with all digests": (lambda ledger: rewrite_from(ledger, 3), 6, "together with all digests after it"),
}


@pytest.mark.parametrize("what", ALTERATIONS)
def test_the_first_altered_event_is_named(ledger: Ledger, what: str) -> None:
    alter, sequence, problem = ALTERATIONS[what]
    assert find_altered(ledger) == (6, None)
    alter(ledger)
    _, altered = find_altered(ledger)
    assert altered is not None
    assert (altered.sequence, problem in altered.problem) == (sequence, True), altered.problem


def test_a_ledger_without_digests_is_readable_and_new_events_have_digests(root: str) -> None:
    ledger = Ledger(join(root, "ledger"))
    old: list[Event] = [
        {"sequence": n, "time": "2026-01-01T00:00:00+00:00", "kind": "batch", "n": n} for n in (1, 2, 3)
    ]
    for event in old:
        write_json(join(ledger.uri, f"{event['sequence']:06d}.json"), event)
    ledger.append("batch", n=4)
    ledger.append("batch", n=5)
    assert [event["n"] for event in ledger.events()] == [1, 2, 3, 4, 5]
    assert find_altered(ledger) == (5, None)
    change(ledger, 3, n=0)
    _, altered = find_altered(ledger)
    assert altered is not None
    assert altered.problem == "Event 3 was changed."


def test_restored_events_are_the_same_bytes(ledger: Ledger, tmp_path: Path) -> None:
    restored = Ledger(str(tmp_path / "restored"), tmp_path / "other-head.json")
    restored.restore([json.loads(json.dumps(event)) for event in ledger.events()])
    assert [read_bytes(uri) for uri in restored.uris()] == [read_bytes(uri) for uri in ledger.uris()]
    assert find_altered(restored) == (6, None)
    events = ledger.events()
    events[2]["rows"] = 9
    with pytest.raises(StorageError, match="Event 4 does not follow"):
        Ledger(str(tmp_path / "third")).restore(events)
    assert Ledger(str(tmp_path / "third")).events() == []


def test_the_command_and_status_show_the_result(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from healthpredict.operations.check_ledger import last_ledger_check

    monkeypatch.setenv("HEALTHPREDICT_DATA_URI", ledger.uri.removesuffix("/ledger"))
    monkeypatch.setenv("HEALTHPREDICT_STATE_PATH", str(tmp_path / "state"))
    assert last_ledger_check(Installation()) is None
    result = CliRunner().invoke(app, ["ledger", "--verify"])
    assert (result.exit_code, "is unaltered: 6 events" in result.output) == (0, True)
    change(ledger, 2, rows=9)
    result = CliRunner().invoke(app, ["ledger", "--verify"])
    assert isinstance(result.exception, LedgerAltered)
    assert result.exception.exit_code not in {0, 1}
    assert "Event 2 was changed" in str(result.exception)
    check = last_ledger_check(Installation())
    assert check is not None
    assert check.altered is not None
    assert check.altered.sequence == 2
