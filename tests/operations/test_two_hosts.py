"""Two loops with state folders of their own, as on two hosts, never work on one data URI at once."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from healthpredict.config import Settings
from healthpredict.errors import AlreadyRunning
from healthpredict.operations import installation
from healthpredict.operations.drift_loop import Steps, drift_loop
from healthpredict.operations.installation import Installation
from healthpredict.storage.layout import Layout
from healthpredict.storage.lease import hold
from healthpredict.storage.uris import read_bytes, write_bytes

SECONDS = 3.0
WORKING = f"""
import time
from functools import partial
from healthpredict.operations import installation
from healthpredict.operations.drift_loop import Steps, drift_loop
from healthpredict.storage.lease import hold

def accept(*_):
    print("working", flush=True)
    time.sleep(600)

installation.hold = partial(hold, seconds={SECONDS})
drift_loop(installation.Installation(), Steps(accept, None, None, None))
"""


def unused(*_: object) -> Any:
    raise AssertionError("the loop on the other host works on it")


@pytest.mark.parametrize("place", ["local", "s3"])
def test_two_loops_exclude_each_other_until_one_is_killed(
    request: pytest.FixtureRequest, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = f"{request.getfixturevalue('s3_bucket')}/data" if place == "s3" else str(tmp_path / "shared")
    monkeypatch.setattr(installation, "hold", partial(hold, seconds=SECONDS))
    settings = Settings(data_uri=root, state_path=tmp_path / "two")
    Installation(settings).ledger.append("promotion", version=1)
    write_bytes(Layout(root).batch("batch-01"), b"encounter_id\n")
    write_bytes(f"{Layout(root).batch('batch-01')}.done", b"")  # it has arrived whole
    environment = {"HEALTHPREDICT_DATA_URI": root, "HEALTHPREDICT_STATE_PATH": str(tmp_path / "one")}
    first = subprocess.Popen([sys.executable, "-c", WORKING], env=os.environ | environment, stdout=subprocess.PIPE)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == b"working\n"
        with pytest.raises(AlreadyRunning, match=rf"state {tmp_path / 'one'} .*process {first.pid}"):
            drift_loop(Installation(settings), Steps(unused, unused, unused, unused))
        assert first.poll() is None
        first.kill()
        first.wait()
        with pytest.raises(
            AssertionError, match="the other host"
        ):  # which is dead: this one takes over, and reaches the batch
            drift_loop(Installation(settings), Steps(unused, unused, unused, unused))
    finally:
        first.kill()
        first.wait()
        assert first.stdout is not None
        first.stdout.close()
    assert b'"owner": ""' in read_bytes(Layout(root).lease("drift-loop"))
