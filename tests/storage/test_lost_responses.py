"""If a store loses the responses to writes, no event is lost or duplicated, and the chain is intact."""

from __future__ import annotations

from benchmarks.chaos.lost_responses import run


def test_lost_responses_duplicate_nothing_and_lose_nothing() -> None:
    counts = run(losses=12)
    assert counts == {"lost_responses": 12, "duplicated_events": 0, "lost_events": 0, "chain_broken": 0}
