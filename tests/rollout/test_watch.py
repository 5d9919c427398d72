"""What the watch counts as a fault of the version in service, while an autoscaler or a drain adds and deletes pods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
from fake_cluster import FakeTime

from healthpredict.errors import RolloutError
from healthpredict.rollout import watch as module
from healthpredict.rollout.deployment import LiveDeployment
from healthpredict.rollout.manifests import KubernetesObject
from healthpredict.rollout.params import RolloutParams
from healthpredict.rollout.watch import watch_pods

UNREADY = "A pod was not ready for 9 s."


def pod(name: str, *, ready: bool = True, restarts: int = 0, deleted: bool = False) -> KubernetesObject:
    return {
        "metadata": {"name": name} | ({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {}),
        "status": {
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"restartCount": restarts}],
        },
    }


class Deployment:
    """Its pods at each poll; those of the last poll stay."""

    def __init__(self, polls: Sequence[list[KubernetesObject]]) -> None:
        self._polls = list(polls)
        self.asked: list[str] = []

    def pods(self) -> list[KubernetesObject]:
        return self._polls.pop(0) if len(self._polls) > 1 else self._polls[0]

    def ask(self, found: KubernetesObject, path: str, key: str) -> bytes:
        self.asked.append(found["metadata"]["name"])
        if found["metadata"]["name"] == "silent":
            raise RolloutError("silent")
        return b""


def watched(monkeypatch: pytest.MonkeyPatch, *polls: list[KubernetesObject]) -> str | None:
    monkeypatch.setattr(module, "time", FakeTime())
    return watch_pods(cast("LiveDeployment", Deployment(polls)), "key", RolloutParams(), 60)


A, B = pod("a"), pod("b")
UNREADY_B: Any = pod("b", ready=False)


@pytest.mark.parametrize(
    "polls",
    [
        pytest.param([[A, B], [A, B, pod("c", ready=False)]], id="a pod is added and not ready yet"),
        pytest.param([[A, B], [A, pod("b", ready=False, deleted=True)], [A]], id="a pod is deleted"),
        pytest.param([[A, B], [A, pod("c", ready=False)]], id="a pod was evicted, and its replacement has no node"),
        pytest.param([[A, pod("b", restarts=1)]], id="a pod was restarted before the watch"),
        pytest.param([[A, B], [A, UNREADY_B], [A, UNREADY_B], [A, B]], id="a pod is not ready for a moment"),
    ],
)
def test_nothing_is_wrong(polls: list[list[KubernetesObject]], monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched(monkeypatch, *polls) is None


@pytest.mark.parametrize(
    ("polls", "problem"),
    [
        pytest.param([[A, B], [A, UNREADY_B]], UNREADY, id="a pod is not ready any more"),
        pytest.param([[A], [A, B], [A, UNREADY_B]], UNREADY, id="an added pod is not ready any more"),
        pytest.param([[A], []], UNREADY, id="no pod is left"),
        pytest.param([[A, B], [A, pod("c", restarts=1)]], "Pod c was restarted.", id="an added pod crashes"),
        pytest.param(
            [[pod("a", restarts=2), B], [pod("b", restarts=1)]],
            "Pod b was restarted.",
            id="a pod crashes after one that had crashed more often was deleted",
        ),
    ],
)
def test_the_version_is_at_fault(
    polls: list[list[KubernetesObject]], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert watched(monkeypatch, *polls) == problem


def test_each_poll_asks_each_pod_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "time", FakeTime())
    deployment = Deployment([[A, B]])
    # Time for one poll.
    assert watch_pods(cast("LiveDeployment", deployment), "key", RolloutParams(), 1) is None
    assert deployment.asked == ["a", "b"]
