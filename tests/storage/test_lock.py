"""A second holder of the lock is refused, and a killed holder loses the lock."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from healthpredict.errors import AlreadyRunning, StorageError
from healthpredict.storage.lock import exclusive

HOLD = """
import sys, time
from pathlib import Path
from healthpredict.storage.lock import exclusive
with exclusive(Path(sys.argv[1]), "The drift loop"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_lock_is_free_again_after_the_block(tmp_path: Path) -> None:
    for _ in range(2):
        with exclusive(tmp_path / "state" / "loop.lock", "The drift loop"):
            pass


def test_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="inside"), exclusive(tmp_path / "loop.lock", "The drift loop"):
        raise ValueError("inside")
    with exclusive(tmp_path / "loop.lock", "The drift loop"):
        pass


def test_a_second_holder_in_the_same_process_is_refused(tmp_path: Path) -> None:
    with (
        exclusive(tmp_path / "loop.lock", "The drift loop"),
        pytest.raises(AlreadyRunning, match=rf"The drift loop is already running \(.+, process {os.getpid()}\)"),
        exclusive(tmp_path / "loop.lock", "The drift loop"),
    ):
        pass


def test_the_holder_is_named_to_a_second_process_until_it_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "loop.lock")], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(AlreadyRunning, match=f"process {holder.pid}"),
            exclusive(tmp_path / "loop.lock", "The drift loop"),
        ):
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    with exclusive(tmp_path / "loop.lock", "The drift loop"):
        pass


def test_lock_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"")
    with (
        pytest.raises(StorageError, match=r"Cannot lock .*loop\.lock"),
        exclusive(tmp_path / "state" / "loop.lock", "The drift loop"),
    ):
        pass
