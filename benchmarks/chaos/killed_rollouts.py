"""Kill rollouts to a fake cluster; the next run must determine what serves, and repair alias and ledger."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from healthpredict.config import Settings
from healthpredict.operations.installation import Installation
from tests.bundles import register_tiny_bundle
from tests.fake_cluster import FakeCluster, install

_SEED = 17
_IMAGE = "registry/hp@sha256:"


def run(kills: int = 20) -> dict[str, int]:
    """Kill a rollout at a random step, then start again.

    Returns:
        `kills`, and after how many of them the alias did not name what serves, or a promotion was missing or duplicated.
    """
    import healthpredict.operations.roll_out  # noqa: F401 -- the forked processes inherit it

    draw = random.Random(_SEED)
    wrong = ("not_killed", "unknown_afterwards", "alias_wrong", "lost_promotions", "duplicated_promotions")
    counts = {"kills": 0, **dict.fromkeys(wrong, 0)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _in_a_process(_prepare, folder)
        steps = json.loads((folder / "steps.json").read_text())
        for number in range(kills):
            exit_code = _in_a_process(_roll_out, folder, 1 + number % 2, draw.randrange(3 * steps // 4))
            counts["kills" if exit_code == -signal.SIGKILL else "not_killed"] += 1
            _in_a_process(_repair, folder)
            seen = json.loads((folder / "seen.json").read_text())
            counts["unknown_afterwards"] += seen["problem"] is not None
            counts["alias_wrong"] += seen["champion"] != seen["serving"][0]
            counts["lost_promotions"] += seen["promotions"][-1] != seen["serving"]
            counts["duplicated_promotions"] += any(one == two for one, two in pairwise(seen["promotions"]))
    return counts


def _in_a_process(work: Callable[..., None], *arguments: Any) -> int:
    """Run a function in another process, so that no database is open in this one when it forks. Returns: its exit code."""
    process = multiprocessing.get_context("fork").Process(target=work, args=arguments)
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _settings(folder: Path) -> Settings:
    return Settings(
        data_uri=str(folder / "data"),
        state_path=folder / "state",
        image_repository="registry/hp",
        kubeconfig=folder / "kubeconfig",
        rollout={"target": "kubernetes", "context": "fake", "watch_seconds": 10},
    )


def _cluster(folder: Path) -> FakeCluster:
    registry = Installation(_settings(folder)).registry
    bundles = {version.bundle_digest: registry.fetch_bundle(version) for version in registry.versions()}
    cluster = FakeCluster(bundles, folder / "cluster")
    install(cluster, pytest.MonkeyPatch())
    return cluster


def _prepare(folder: Path) -> None:
    """Register two versions, roll both out, and save the number of steps of a rollout."""
    from healthpredict.operations.roll_out import roll_out

    for _ in range(2):
        register_tiny_bundle(_settings(folder), folder)
    cluster = _cluster(folder)
    roll_out(Installation(_settings(folder)), 1, image=f"{_IMAGE}1")
    cluster.calls = 0
    roll_out(Installation(_settings(folder)), 2, image=f"{_IMAGE}2")
    (folder / "steps.json").write_text(json.dumps(cluster.calls))


def _roll_out(folder: Path, version: int, step: int) -> None:
    """Roll a version out, and kill this process at a step: a call to the cluster, or a write to alias or ledger."""
    from healthpredict.operations.roll_out import roll_out
    from healthpredict.registry.models import Registry
    from healthpredict.storage.ledger import Ledger

    cluster = _cluster(folder)

    def kill(call: int) -> None:
        if call >= step:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(write: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            kill(cluster.calls)
            cluster.calls += 1
            return write(*arguments, **named)

        return wrapped

    cluster.on_call = kill
    Registry.make_champion = counted(Registry.make_champion)  # type: ignore[method-assign]
    Ledger.append = counted(Ledger.append)  # type: ignore[method-assign]
    roll_out(Installation(_settings(folder)), version, image=f"{_IMAGE}{version}")


def _repair(folder: Path) -> None:
    """Call `repair_rollout`, and save what serves and what alias and ledger name."""
    from healthpredict.operations.roll_out import repair_rollout

    settings, cluster = _settings(folder), _cluster(folder)
    problem = repair_rollout(Installation(settings))
    serving, champion = cluster.serving(), Installation(settings).registry.by_alias("champion")
    assert serving is not None
    promotions = [[event["version"], event["image"]] for event in Installation(settings).ledger.events("promotion")]
    seen = {
        "problem": problem,
        "serving": list(serving[:2]),
        "champion": champion.version if champion else None,
        "promotions": promotions,
    }
    (folder / "seen.json").write_text(json.dumps(seen))
