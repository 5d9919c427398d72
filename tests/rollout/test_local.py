"""Rollouts of the local API fail no request, and repair what a killed rollout left."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from healthpredict.bundle.model import Bundle, GoldenRow
from healthpredict.errors import RolloutError
from healthpredict.rollout.local import LocalTarget, ServingProcess
from healthpredict.rollout.ports import free_port
from healthpredict.storage.key_file import add_key


@pytest.fixture
def target(tmp_path: Path) -> Iterator[LocalTarget]:
    target = LocalTarget(tmp_path, port=free_port())
    yield target
    target.stop()


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> Iterator[tuple[LocalTarget, ServingProcess]]:
    """A target that serves version 1. Its tests must not change that."""
    target = LocalTarget(tmp_path_factory.mktemp("state"), port=free_port())
    yield target, roll_out(target, bundle)
    target.stop()


def roll_out(target: LocalTarget, bundle: Bundle) -> ServingProcess:
    candidate = target.start(bundle.path)
    target.verify(candidate)
    return target.switch(candidate)


def own_processes(target: LocalTarget) -> list[int]:
    return [process.pid for process in target._processes()]


def test_at_first_nothing_serves(target: LocalTarget) -> None:
    assert target.current() is None


def test_a_rollout_replaces_the_old_process_without_one_failed_request(
    target: LocalTarget, bundle: Bundle, next_bundle: Bundle
) -> None:
    """With requests on new connections and on a connection that is kept alive."""
    first = roll_out(target, bundle)
    assert (first.bundle_digest, first.model_version, first.bundle_path) == (bundle.digest, 1, bundle.path)
    seen: list[int] = []
    done = threading.Event()
    faults: list[BaseException] = []

    def ask(kept_alive: bool) -> None:
        client = httpx.Client(trust_env=False, timeout=10)
        try:
            while not done.is_set():
                fresh = client if kept_alive else httpx
                answer = fresh.post(f"{first.url}/predict", json=bundle.golden[0].record).raise_for_status().json()
                seen.append(answer["model_version"])
                time.sleep(0.005)
        except BaseException as fault:
            faults.append(fault)
        finally:
            client.close()

    threads = [threading.Thread(target=ask, args=(kept_alive,)) for kept_alive in (True, False)]
    for thread in threads:
        thread.start()
    try:
        second = roll_out(target, next_bundle)
        time.sleep(0.1)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert faults == []
    assert (set(seen), seen[0], seen[-1]) == ({1, 2}, 1, 2)
    assert own_processes(target) == [second.pid]
    assert target.current() == second


def test_a_failed_verification_keeps_the_old_process(
    serving: tuple[LocalTarget, ServingProcess], bundle: Bundle, next_bundle: Bundle
) -> None:
    target, old = serving
    candidate = target.start(next_bundle.path)
    row = next_bundle.golden[0]
    expects_another_risk = dataclasses.replace(next_bundle, golden=(GoldenRow(row.record, row.risk + 1e-5),))
    with pytest.raises(RolloutError, match="differs from training by 1"):
        target.verify(dataclasses.replace(candidate, bundle=expects_another_risk))
    with pytest.raises(RolloutError, match="serves another bundle"):
        target.verify(dataclasses.replace(candidate, bundle=bundle))
    target.abandon(candidate)
    assert own_processes(target) == [old.pid]
    assert target.current() == old


def test_a_killed_candidate_keeps_the_old_process(
    serving: tuple[LocalTarget, ServingProcess], next_bundle: Bundle
) -> None:
    target, old = serving
    candidate = target.start(next_bundle.path)
    candidate.process.kill()
    with pytest.raises(RolloutError, match="did not answer its golden rows"):
        target.verify(candidate)
    with pytest.raises(RolloutError, match="ended before it could listen on port"):
        target.switch(candidate)
    assert target.current() == old


def test_a_rollout_that_never_reached_the_switch_leaves_the_old_process(
    serving: tuple[LocalTarget, ServingProcess], next_bundle: Bundle
) -> None:
    """`kill -9` before the switch leaves a candidate on its private port."""
    target, old = serving
    target.start(next_bundle.path)
    assert len(own_processes(target)) == 2
    target.recover()
    assert own_processes(target) == [old.pid]
    assert target.current() == old


def test_a_target_does_not_end_processes_of_other_targets(
    serving: tuple[LocalTarget, ServingProcess], tmp_path: Path
) -> None:
    target, running = serving
    LocalTarget(tmp_path, port=target._port).stop()
    LocalTarget(target._folder.parent, port=free_port()).stop()
    assert target.current() == running


def test_a_port_that_another_process_uses_is_reported(tmp_path: Path, bundle: Bundle) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        target = LocalTarget(tmp_path, port=other.getsockname()[1])
        with pytest.raises(RolloutError, match=r"(?s)ended before .*Address already in use"):
            roll_out(target, bundle)
    assert own_processes(target) == []


def roll_out_and_die(state_path: Path, port: int, bundle_path: Path) -> None:
    """Roll out, and be killed when both processes answer on the public port. Runs in a process of its own."""
    from healthpredict.rollout import local

    target = LocalTarget(state_path, port=port)
    candidate = target.start(bundle_path)
    local._end = lambda _processes: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
    target.switch(candidate)


def test_after_a_kill_before_the_old_process_ended_the_new_one_stays(
    target: LocalTarget, bundle: Bundle, next_bundle: Bundle
) -> None:
    """The old one may be shutting down already."""
    roll_out(target, bundle)
    arguments = (target._folder.parent, target._port, next_bundle.path)
    victim = multiprocessing.get_context("spawn").Process(target=roll_out_and_die, args=arguments)
    victim.start()
    victim.join()
    assert victim.exitcode == -signal.SIGKILL
    assert len(own_processes(target)) == 2
    target.recover()
    running = target.current()
    assert running is not None
    assert running.model_version == 2
    assert own_processes(target) == [running.pid]
    assert httpx.get(f"{running.url}/model", trust_env=False).json()["model_version"] == 2


def test_a_killed_process_is_not_current_and_the_next_rollout_replaces_it(target: LocalTarget, bundle: Bundle) -> None:
    psutil.Process(roll_out(target, bundle).pid).kill()
    time.sleep(0.1)
    assert target.current() is None
    assert roll_out(target, bundle).model_version == 1


def test_on_other_addresses_keys_are_required_and_the_rollout_has_one(tmp_path: Path, bundle: Bundle) -> None:
    keys = tmp_path / "api-keys.json"
    key = add_key(keys, "rollout")
    target = LocalTarget(tmp_path, "0.0.0.0", free_port(), [f"--keys={keys}"], key)
    try:
        running = roll_out(target, bundle)
        assert target.current() == running
        assert httpx.get(f"{running.url}/model", trust_env=False).status_code == 401
    finally:
        target.stop()
