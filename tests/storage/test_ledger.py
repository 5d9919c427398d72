"""The ledger: append-only, in order, safe for two writers."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from healthpredict.errors import StorageError
from healthpredict.storage.ledger import Ledger
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


def test_writers_at_once_lose_nothing(root: str) -> None:
    """Every event has a number of its own, whatever its kind."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: Ledger(join(root, "ledger")).append(f"kind-{number}", n=number), range(12)))
    events = Ledger(join(root, "ledger")).events()
    assert [event["sequence"] for event in events] == list(range(1, 13))
    assert {event["n"] for event in events} == set(range(12))


def test_fact_that_is_not_json_leaves_the_ledger_as_it_was(root: str) -> None:
    ledger = Ledger(join(root, "ledger"))
    with pytest.raises(StorageError, match="not JSON"):
        ledger.append("batch", auroc=float("nan"))
    assert ledger.events() == []


def test_a_backup_is_restored_once_and_never_over_other_events(root: str) -> None:
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
