"""`make bench-rollout`: from "promote" to verified, and back, on a real cluster, into `benchmarks/results/rollout.json`.

The bundle is the tests' tiny one: the image's other layers are the same for every bundle, and a real one adds about a megabyte.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from rig import CRASHES, OTHER_RISKS, Rig
from traffic import PER_SECOND, Traffic

from benchmarks.results import FOLDER, at_most, conditions, write
from healthpredict.errors import RolloutError
from healthpredict.operations.installation import Installation
from healthpredict.operations.roll_out import roll_out
from healthpredict.rollout.kubernetes import KubernetesTarget

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(3600)]
RUNS = 5
BAD = {
    # The earlier pods still run.
    "crash at start": CRASHES,
    # All pods were replaced before the failure was detected.
    "golden rows differ": OTHER_RISKS,
}


def test_times(rig: Rig, champion: int, traffic: Traffic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many good versions as bad ones, under constant requests."""
    began = time.monotonic()
    runs = []
    for _ in range(RUNS):
        version, start = rig.register(), time.perf_counter()
        seconds = roll_out(rig.installation, version).seconds
        runs.append({**seconds, "promote to verified": time.perf_counter() - start})
    taken = seconds_to_put_back(monkeypatch)
    back: dict[str, list[float]] = {}
    for kind, alterations in BAD.items():
        bad = rig.altered(tmp_path / kind.replace(" ", "-"), alterations)
        for _ in range(RUNS):
            with pytest.raises(RolloutError, match="was put back and verified"):
                roll_out(Installation(bad), rig.register())
        back[kind] = [taken.pop() for _ in range(RUNS)]
    answers = traffic.since(began)
    middle = {stage: median(run[stage] for run in runs) for stage in runs[0]}
    failed = sum(answer.fault is not None for answer in answers)
    measured: dict[str, Any] = {"runs": runs, "median_s": middle, "rollback_s": back}
    measured |= {"requests": len(answers), "failed_requests": failed}
    targets = [
        at_most("promote to verified, seconds", middle["promote to verified"], 60),
        at_most("build with a warm cache, seconds", middle["build"], 15),
        at_most("push, seconds", middle["push"], 10),
        at_most("rollout of two pods with verification, seconds", middle["rollout"], 25),
        *(at_most(f"rollback, {kind}: from detection to verified, seconds", median(back[kind]), 30) for kind in back),
        at_most("failed requests", failed, 0),
    ]
    about = conditions(requests_per_second=PER_SECOND, runs=RUNS)
    assert write(FOLDER / "rollout.json", "rollout", measured, targets, about)


def seconds_to_put_back(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the duration of each rollback from now on."""
    taken: list[float] = []
    put_back = KubernetesTarget.put_back

    def timed(*arguments: Any) -> str:
        start = time.perf_counter()
        said = put_back(*arguments)
        taken.append(time.perf_counter() - start)
        return said

    monkeypatch.setattr(KubernetesTarget, "put_back", timed)
    return taken
