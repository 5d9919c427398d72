"""The traffic of the other tests. This needs no cluster, so `make test` checks it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from traffic import Requests, Traffic


@pytest.mark.timeout(30)
def test_traffic_that_ended_is_a_failure_and_no_endless_wait(tmp_path: Path) -> None:
    traffic = Traffic(tmp_path, "http://127.0.0.1:9/predict", Requests({}, [{}]))
    traffic.start()
    traffic.stop()
    with pytest.raises(AssertionError, match="has ended"):
        traffic.since(time.monotonic())
