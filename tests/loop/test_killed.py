"""Killed anywhere and started again, the loop goes on, does no batch twice and loses none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import httpx
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
    "before the batch is written down",
)


def run(point: str, variables: dict[str, str]) -> int:
    script = Path(__file__).with_name("killed_at.py")
    done = subprocess.run([sys.executable, script, point], env={**os.environ, **variables}, check=False, timeout=600)
    return done.returncode


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
        retrained = ledger.events("batch")[0]["decision"] == "retrain"
        trainings = 1 + retrained
        assert kinds["batch"] == 1
        assert len(registry.versions()) == trainings, "each training was registered once"
        assert kinds["training"] == kinds["gate"] == trainings
        promotions = [event["version"] for event in ledger.events("promotion")]
        assert len(promotions) == len(set(promotions)) == trainings
        champion = registry.by_alias("champion")
        assert champion is not None
        assert champion.version == promotions[-1]
        model = httpx.get(f"http://127.0.0.1:{settings.api_port}/model", trust_env=False).json()
        assert model["bundle_digest"] == champion.bundle_digest
        runs = registry.client.search_runs([registry.experiment_id], "tags.trigger = 'initial'")
        assert len(runs) == 1, "the training that was killed went on in its own run"
        assert runs[0].info.status == "FINISHED"
    finally:
        local_target(Installation(settings)).stop()
