"""A worker that is killed during a rollout, and two workers that roll out at the same time."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rig import CRASHES, Rig, alias, template_hash
from traffic import Traffic, nothing_fails

from healthpredict.config import Settings
from healthpredict.errors import AlreadyRunning, RolloutError
from healthpredict.operations.installation import Installation
from healthpredict.operations.roll_out import roll_out

pytestmark = pytest.mark.kubernetes


def kill_rollout(settings: Settings, point: str, version: int) -> None:
    command = [sys.executable, str(Path(__file__).with_name("killed_rollout.py")), point, str(version)]
    done = subprocess.run(command, input=settings.model_dump_json(), capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("point", ["pods are being replaced", "replaced, not verified", "verified, not the champion"])
def test_the_next_run_completes_a_killed_rollout(point: str, rig: Rig, champion: int, traffic: Traffic) -> None:
    settings = rig.settings
    before, version = alias(settings), rig.register()
    with nothing_fails(traffic) as versions:
        kill_rollout(settings, point, version)
        assert alias(settings) == before
        roll_out(rig.installation, version)
    assert alias(settings) == version
    assert versions == {before, version}
    promotions = [event["version"] for event in rig.installation.ledger.events("promotion")]
    assert promotions[-2:] == [before, version], "recorded once"


def test_the_next_run_reverses_a_killed_rollout_that_fails_verification(
    rig: Rig, champion: int, traffic: Traffic, tmp_path: Path
) -> None:
    """It goes back to the version that was verified last, not to what the killed run left."""
    settings = rig.settings
    bad = rig.altered(tmp_path / "source", CRASHES)
    before, template, version = alias(settings), template_hash(rig), rig.register()
    with nothing_fails(traffic) as versions:
        kill_rollout(bad, "pods are being replaced", version)
        with pytest.raises(RolloutError, match=f"Version {before} was put back and verified"):
            roll_out(Installation(bad), version)
    assert versions == {before}
    assert (alias(settings), template_hash(rig)) == (before, template)


def test_a_second_rollout_at_the_same_time_is_refused(
    rig: Rig, champion: int, traffic: Traffic, tmp_path: Path
) -> None:
    """The second one ends, on the same machine and on another, and the first one succeeds."""
    settings = rig.settings
    elsewhere = settings.model_copy(
        update={"state_path": tmp_path / "state", "tracking_uri": settings.mlflow_uri},
    )
    before, version, other = alias(settings), rig.register(), rig.register()
    failures = rig.installation.ledger.events("rollout_failed")
    first = threading.Thread(target=roll_out, args=(rig.installation, version))
    refused = 0
    with nothing_fails(traffic):
        first.start()
        while first.is_alive():
            first.join(1)
            for second in (settings, elsewhere):
                if alias(settings) == before and first.is_alive():
                    with pytest.raises(AlreadyRunning, match="A rollout is already running"):
                        roll_out(Installation(second), other)
                    refused += 1
    assert refused >= 4
    assert alias(settings) == version
    assert rig.installation.ledger.events("rollout_failed") == failures
