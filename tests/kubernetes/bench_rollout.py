"""`make bench-rollout`: from "promote" to verified, and back, on a real cluster, into `benchmarks/results/rollout.json`.

The bundle is the tests' tiny one: the image's other layers are the same for every bundle, and a real one adds about a megabyte.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
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
PUBLISHED_RUNS = 5
RUNS = int(os.environ.get("RUNS", PUBLISHED_RUNS))
"""With fewer, the times are printed and not published. A request that fails is an error all the same."""
ROLLOUT = ("pull", "start", "verification")
BAD = {
    # The earlier pods still run.
    "crash at start": CRASHES,
    # All pods were replaced before the failure was detected.
    "golden rows differ": OTHER_RISKS,
}


def test_times(rig: Rig, champion: int, traffic: Traffic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many good versions as bad ones, under constant requests, with the manifests for Minikube."""
    rollout = rig.settings.rollout.model_copy(update={"overlay": Path("k8s/overlays/minikube")})
    rig = replace(rig, settings=rig.settings.model_copy(update={"rollout": rollout}))
    roll_out(rig.installation, rig.register())  # from here on, only the bundle changes
    began = time.monotonic()
    waits, checks = (seconds_of(monkeypatch, name) for name in ("wait", "_verify"))
    runs = []
    for _ in range(RUNS):
        version, start = rig.register(), time.perf_counter()
        done = roll_out(rig.installation, version)
        whole = time.perf_counter() - start
        pull, started, verification = seconds_to_pull(rig, str(done.image)), waits.pop(), checks.pop()
        stages = {name: done.seconds[name] for name in ("build", "push", "bill of materials")}
        stages |= {"pull": pull, "start": started - pull, "verification": verification}
        runs.append({**stages, "other": whole - sum(stages.values()), "promote to verified": whole})
    taken = seconds_of(monkeypatch, "put_back")
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
    measured["share"] = {
        stage: sum(run[stage] for run in runs) / sum(run["promote to verified"] for run in runs) for stage in middle
    }
    targets = [
        at_most("promote to verified, seconds", middle["promote to verified"], 20),
        at_most("build with a warm cache, seconds", middle["build"], 15),
        at_most("push, seconds", middle["push"], 10),
        at_most("pull, start and verification of two pods, seconds", sum(middle[stage] for stage in ROLLOUT), 15),
        *(at_most(f"rollback, {kind}: from detection to verified, seconds", median(back[kind]), 30) for kind in back),
        at_most("failed requests", failed, 0),
    ]
    about = conditions(requests_per_second=PER_SECOND, runs=RUNS)
    if RUNS < PUBLISHED_RUNS:
        print("\n".join(map(str, targets)))  # noqa: T201
        assert failed == 0
        return
    assert write(FOLDER / "rollout.json", "rollout", measured, targets, about)


def seconds_of(monkeypatch: pytest.MonkeyPatch, name: str) -> list[float]:
    """Record the duration of each call of a method of `KubernetesTarget` from now on."""
    taken: list[float] = []
    method: Callable[..., Any] = getattr(KubernetesTarget, name)

    def timed(*arguments: Any) -> Any:
        start = time.perf_counter()
        try:
            return method(*arguments)
        finally:
            taken.append(time.perf_counter() - start)

    monkeypatch.setattr(KubernetesTarget, name, timed)
    return taken


PULLED = re.compile(r"in (?:(?P<m>\d+)m)?(?P<number>[\d.]+)(?P<unit>ms|s) \(")


def seconds_to_pull(rig: Rig, image: str) -> float:
    """For how long the node pulled an image. The second pod finds it on the node."""
    events = rig.administrator.find("Event", fields="reason=Pulled")
    messages = [event["message"] for event in events if image in event["message"]]
    pulls = [found for found in map(PULLED.search, messages) if found]
    assert pulls, messages
    return sum(
        60 * int(found["m"] or 0) + float(found["number"]) / (1000 if found["unit"] == "ms" else 1) for found in pulls
    )
