"""A lease has one holder at a time, across hosts. A silent holder is replaced, a live one is not."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from healthpredict.errors import AlreadyRunning, LeaseLost, StorageError
from healthpredict.storage import lease as module
from healthpredict.storage.lease import Lease, hold
from healthpredict.storage.uris import join, read_bytes

WHAT = "The drift loop"
HOLD = """
import sys, time
from healthpredict.storage.lease import hold
with hold(sys.argv[1], "The drift loop", sys.argv[2], 2.0):
    print("held", flush=True)
    time.sleep(120)
"""


@pytest.fixture
def uri(root: str) -> str:
    return join(root, "leases", "drift-loop.json")


@contextmanager
def holder(uri: str, owner: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the lease."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, uri, owner], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_a_released_lease_is_free(uri: str) -> None:
    for owner in ("one", "two", "one"):
        with hold(uri, WHAT, owner) as lease:
            lease.check()


def test_a_live_holder_keeps_the_lease_and_is_named(uri: str) -> None:
    with holder(uri, "host a") as process:
        with (
            pytest.raises(
                AlreadyRunning, match=rf"The drift loop is already running \(host a, process {process.pid}\)"
            ),
            hold(uri, WHAT, "host b", 2.0),
        ):
            pass
        assert process.poll() is None


def test_a_killed_holder_is_replaced_after_its_time(uri: str) -> None:
    with holder(uri, "host a") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with hold(uri, WHAT, "host b", 2.0) as lease:
            lease.check()


def test_the_same_owner_does_not_wait(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner's lock file guarantees that its earlier process has ended."""
    Lease(uri, WHAT, "host a", 60.0).acquire()
    monkeypatch.setattr(module.time, "sleep", None)
    with hold(uri, WHAT, "host a") as lease:
        lease.check()


def test_a_holder_that_lost_its_lease_stops(uri: str) -> None:
    silent = Lease(uri, WHAT, "host a", 0.5)
    silent.acquire()
    with hold(uri, WHAT, "host b", 0.5):
        with pytest.raises(LeaseLost, match="taken over by host b") as caught:
            silent.check()
        assert caught.value.exit_code == AlreadyRunning.exit_code
        with pytest.raises(LeaseLost):
            silent.renew()


def test_a_renewal_succeeds_although_its_response_was_lost(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = Lease(uri, WHAT, "host a", 60.0)
    lease.acquire()
    replace = module.replace_bytes

    def lossy(*arguments: Any) -> None:
        replace(*arguments)
        raise StorageError("connection closed")

    with monkeypatch.context() as context:
        context.setattr(module, "replace_bytes", lossy)
        with pytest.raises(StorageError, match="connection closed"):
            lease.renew()
    lease.renew()
    lease.check()


def test_unreadable_content_counts_as_a_free_lease(uri: str) -> None:
    module.write_bytes(uri, b"not a lease")
    with hold(uri, WHAT, "host a") as lease:
        lease.check()


def test_of_many_that_want_a_free_lease_one_gets_it(uri: str) -> None:
    everybody_asked = threading.Barrier(5)
    held = []

    def ask(owner: str) -> None:
        try:
            with hold(uri, WHAT, owner, 2.0):
                held.append(owner)
                everybody_asked.wait(60)
        except AlreadyRunning:
            everybody_asked.wait(60)

    threads = [threading.Thread(target=ask, args=(f"host {n}",)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 1
    assert b'"owner": ""' in read_bytes(uri)
