"""A worker that is killed in the middle, and two that want to roll out at once."""

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
def test_the_next_run_finishes_what_a_killed_one_began(point: str, rig: Rig, champion: int, traffic: Traffic) -> None:
    settings = rig.settings
    before, version = alias(settings), rig.register()
    with nothing_fails(traffic) as versions:
        kill_rollout(settings, point, version)
        assert alias(settings) == before
        roll_out(rig.installation, version)
    assert alias(settings) == version
    assert versions == {before, version}
    promotions = [event["version"] for event in rig.installation.ledger.events("promotion")]
    assert promotions[-2:] == [before, version], "written down once"


def test_the_next_run_takes_back_what_a_killed_one_began(
    rig: Rig, champion: int, traffic: Traffic, tmp_path: Path
) -> None:
    """Back to what was verified last, and not to what the killed one left."""
    settings = rig.settings
    bad = rig.altered(tmp_path / "source", CRASHES)
    before, template, version = alias(settings), template_hash(rig), rig.register()
    with nothing_fails(traffic) as versions:
        kill_rollout(bad, "pods are being replaced", version)
        with pytest.raises(RolloutError, match=f"Version {before} was put back and verified"):
            roll_out(Installation(bad), version)
    assert versions == {before}
    assert (alias(settings), template_hash(rig)) == (before, template)


def test_two_rollouts_at_once(rig: Rig, champion: int, traffic: Traffic, tmp_path: Path) -> None:
    """The second one leaves, on the same machine and on another one, and the first one is not disturbed."""
    settings = rig.settings
    elsewhere = settings.model_copy(
        update={"state_path": tmp_path / "state", "tracking_uri": settings.mlflow_uri},
    )
    before, version, other = alias(settings), rig.register(), rig.register()
    failures = rig.installation.ledger.events("rollout_failed")
    first = threading.Thread(target=roll_out, args=(settings, version))
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
