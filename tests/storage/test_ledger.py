"""The ledger is append-only, ordered, and safe for two writers."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from healthpredict.errors import AlreadyExists, StorageError
from healthpredict.storage import local, s3
from healthpredict.storage.ledger import Ledger
from healthpredict.storage.ledger_check import find_altered
from healthpredict.storage.uris import join


def test_events_are_kept_in_order(root: str) -> None:
    ledger = Ledger(join(root, "ledger"))
    first = ledger.append("batch", name="batch-01", drifted=0.25)
    ledger.append("promotion", version=2)
    ledger.append("batch", name="batch-02", drifted=None)
    assert [event["sequence"] for event in ledger.events()] == [1, 2, 3]
    assert [event["name"] for event in ledger.events("batch")] == ["batch-01", "batch-02"]
    assert ledger.events()[0] == first
    assert datetime.fromisoformat(first["time"]).tzinfo is not None


def test_empty_ledger_has_no_events(root: str) -> None:
    assert Ledger(join(root, "ledger")).events() == []
    assert Ledger(join(root, "ledger")).last("batch") is None


def test_events_of_another_writer_are_seen_after_a_refresh(root: str) -> None:
    ours, others = (Ledger(join(root, "ledger")) for _ in range(2))
    ours.append("batch", name="batch-01")
    others.append("batch", name="batch-02", key="second")
    assert ours.last("batch", name="batch-02") is None
    assert ours.append("batch", name="batch-02", key="second")["sequence"] == 2, "it meets the event at this number"
    others.append("batch", name="batch-03")
    ours.refresh()
    assert [event["name"] for event in ours.events()] == ["batch-01", "batch-02", "batch-03"]


def test_last_finds_the_latest_with_these_facts(root: str) -> None:
    ledger = Ledger(join(root, "ledger"))
    ledger.append("batch", name="batch-01", attempt=1)
    ledger.append("batch", name="batch-01", attempt=2)
    ledger.append("batch", name="batch-02", attempt=1)
    latest = ledger.last("batch", name="batch-01")
    assert latest is not None
    assert latest["attempt"] == 2
    assert ledger.last("batch", name="batch-03") is None
    assert ledger.last("batch", unknown_fact=1) is None


def test_last_finds_an_event_far_back(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path))
    for number in range(70):
        ledger.append("first" if number in (0, 37) else "batch", n=number)
    assert (ledger.last("first") or {})["n"] == 37
    assert (ledger.last("first", n=0) or {})["n"] == 0
    assert (ledger.last("batch") or {})["n"] == 69
    assert ledger.last("first", n=1) is None


def test_concurrent_writers_lose_no_event(root: str) -> None:
    """Every event has its own number, whatever its kind."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: Ledger(join(root, "ledger")).append(f"kind-{number}", n=number), range(12)))
    events = Ledger(join(root, "ledger")).events()
    assert [event["sequence"] for event in events] == list(range(1, 13))
    assert {event["n"] for event in events} == set(range(12))


def test_two_processes_leave_no_gap_and_no_duplicate(root: str) -> None:
    """Also if both append an event with the same key."""
    program = """
import sys
from healthpredict.storage.ledger import Ledger
ledger = Ledger(sys.argv[1])
for number in range(int(sys.argv[3])):
    ledger.append("own", writer=sys.argv[2], n=number)
    if number % 66 == 0:
        ledger.append("batch", key=f"batch {number}", n=number)
"""
    each = 200
    uri = join(root, "ledger")
    writers = [subprocess.Popen([sys.executable, "-c", program, uri, name, str(each)]) for name in ("one", "two")]
    assert [writer.wait(300) for writer in writers] == [0, 0]
    ledger = Ledger(uri)
    events = ledger.events()
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    own = [(event["writer"], event["n"]) for event in events if event["kind"] == "own"]
    assert sorted(own) == [(name, n) for name in ("one", "two") for n in range(each)]
    assert sorted(event["n"] for event in events if event["kind"] == "batch") == list(range(0, each, 66))
    assert len({event["id"] for event in events}) == len(events)
    assert find_altered(ledger) == (len(events), None)


def test_an_event_with_a_key_is_written_once(root: str) -> None:
    ledger = Ledger(join(root, "ledger"))
    first = ledger.append("batch", key="batch a 1", rows=1)
    ledger.append("batch", key="batch a 2", rows=2)
    assert Ledger(join(root, "ledger")).append("batch", key="batch a 1", rows=3) == first
    assert [event["rows"] for event in ledger.events("batch")] == [1, 2]


@pytest.mark.parametrize("failure", ["response lost", "no retry left"])
def test_an_event_whose_response_was_lost_is_stored_once(
    root: str, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    ledger = Ledger(join(root, "ledger"))
    store = local if "://" not in root else s3
    write = store.write_bytes

    def lossy(uri: str, data: bytes, *, exclusive: bool) -> None:
        write(uri, data, exclusive=exclusive)
        # The error of boto's retry after a lost response, or a connection error.
        raise AlreadyExists("412") if failure == "response lost" else StorageError("connection closed")

    with monkeypatch.context() as context:
        context.setattr(store, "write_bytes", lossy)
        event = ledger.append("batch", name="batch-01")
    ledger.append("batch", name="batch-02")
    assert ledger.events()[0] == event
    assert [event["name"] for event in ledger.events()] == ["batch-01", "batch-02"]


def test_an_append_that_failed_although_it_was_written_is_not_repeated(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(join(root, "ledger"))
    store = local if "://" not in root else s3
    write, read = store.write_bytes, store.read_bytes

    def gone(_: str) -> bytes:
        raise StorageError("connection refused")

    def lossy(uri: str, data: bytes, *, exclusive: bool) -> None:
        write(uri, data, exclusive=exclusive)
        monkeypatch.setattr(store, "read_bytes", gone)
        raise StorageError("connection closed")

    monkeypatch.setattr(store, "write_bytes", lossy)
    with pytest.raises(StorageError, match="connection closed"):
        ledger.append("batch", key="batch-01")
    monkeypatch.setattr(store, "write_bytes", write)
    monkeypatch.setattr(store, "read_bytes", read)
    ledger.append("batch", key="batch-01")
    assert len(ledger.events()) == 1


def test_a_fact_that_is_not_json_writes_no_event(root: str) -> None:
    ledger = Ledger(join(root, "ledger"))
    with pytest.raises(StorageError, match="not JSON"):
        ledger.append("batch", auroc=float("nan"))
    assert ledger.events() == []


def test_a_backup_is_restored_once_and_never_overwrites_other_events(root: str) -> None:
    ledger, restored = Ledger(join(root, "ledger")), Ledger(join(root, "restored"))
    ledger.append("batch", name="batch-01")
    ledger.append("promotion", version=2)
    restored.restore(ledger.events()[:1])
    restored.restore(ledger.events())
    restored.restore(ledger.events())
    assert restored.events() == ledger.events()
    other = Ledger(join(root, "other"))
    other.append("batch", name="batch-07")
    with pytest.raises(StorageError, match="other events"):
        other.restore(ledger.events())
    assert [event["name"] for event in other.events()] == ["batch-07"]


@pytest.mark.parametrize("damage", [b"{", b"[]", b"{}"])
def test_an_event_is_written_once_although_the_head_is_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: bytes
) -> None:
    ledger = Ledger(str(tmp_path / "ledger"), tmp_path / "head.json")
    (tmp_path / "head.json").write_bytes(damage)
    ledger.append("batch", name="batch-01")
    assert len(Ledger(ledger.uri).events()) == 1
    assert "head.json" in caplog.text
    with pytest.raises(StorageError, match=r"head\.json"):
        find_altered(ledger)
