"""Killed anywhere and started again, the loop goes on, does no batch twice and loses none."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import Counter
from pathlib import Path

import httpx
import killed_at
import pytest
from installation import environment

from healthpredict.config import Settings
from healthpredict.operations.installation import Installation
from healthpredict.operations.prepare import prepare
from healthpredict.operations.roll_out import local_target

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

POINTS = (
    "during search",
    "while the bundle is uploaded",
    "between registration and ledger",
    "between registration and rollout",
    "between rollout and alias",
    "between alias and ledger",
    "between recalibration and ledger",
    "before the batch is written down",
)


def run(point: str, variables: dict[str, str]) -> int | None:
    """Run the loop in another process. Returns: its exit code."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["libraries"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        process = processes.Process(target=killed_at.run, args=(point, variables))
        process.start()
    process.join(600)
    return process.exitcode


def test_loop_killed_at_every_step_goes_on(tmp_path: Path, small_source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # One batch is enough: the initial training takes every step, and the batch is written down at the end.
    variables = environment(tmp_path) | {"HEALTHPREDICT_N_BATCHES": "1", "HEALTHPREDICT_SEARCH__N_TRIALS": "2"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    prepare(Installation(settings), small_source)
    try:
        for point in POINTS:
            assert run(point, variables) == -signal.SIGKILL, f"was not killed {point}"
        assert run("never", variables) == 0

        registry, ledger = Installation(settings).registry, Installation(settings).ledger
        kinds = Counter(event["kind"] for event in ledger.events())
        (batch,) = ledger.events("batch")
        assert batch["decision"] == "recalibrate"
        assert kinds["training"] == kinds["gate"] == kinds["recalibration"] == 1
        assert len(registry.versions()) == 2, "training and recalibration were registered once"
        promotions = [event["version"] for event in ledger.events("promotion")]
        assert promotions == [ledger.last("training")["version"], batch["recalibrated"]]
        champion = registry.champion()
        assert champion.version == promotions[-1]
        model = httpx.get(f"http://127.0.0.1:{settings.api_port}/model", trust_env=False).json()
        assert model["bundle_digest"] == champion.bundle_digest
        runs = registry.client.search_runs([registry.experiment_id], "tags.trigger = 'initial'")
        assert len(runs) == 1, "the training that was killed went on in its own run"
        assert runs[0].info.status == "FINISHED"
    finally:
        local_target(Installation(settings)).stop()
