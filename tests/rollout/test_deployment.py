"""The pods of a Deployment: the autoscaler deletes one while a rollout verifies them, and one served before it was restarted."""

from __future__ import annotations

from typing import Any, cast

import pytest

from healthpredict.errors import RolloutError
from healthpredict.rollout.cluster import Cluster
from healthpredict.rollout.deployment import LiveDeployment
from healthpredict.rollout.manifests import KubernetesObject


def pod(name: str, *, deleted: bool = False, ready: bool = True, restarts: int = 0) -> KubernetesObject:
    return {
        "metadata": {
            "name": name,
            "labels": {"pod-template-hash": "h"},
            "ownerReferences": [{"uid": "r"}],
        }
        | ({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {}),
        "status": {
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"restartCount": restarts}],
        },
    }


class OneDeployment:
    """A cluster with two pods, `a` and `b`. Pod `b` does not respond."""

    def __init__(self, b_now: KubernetesObject | None, b_before: KubernetesObject | None = None) -> None:
        self._b_now = b_now
        self._pods = [pod("a"), b_before or pod("b")]

    def read(self, kind: str, name: str) -> KubernetesObject | None:
        revision = {"deployment.kubernetes.io/revision": "1"}
        return self._b_now if kind == "Pod" else {"metadata": {"uid": "d", "annotations": revision}}

    def find(self, kind: str, *_: Any) -> list[KubernetesObject]:
        if kind == "Pod":
            return self._pods
        metadata = {
            "uid": "r",
            "labels": {"pod-template-hash": "h"},
            "annotations": {"deployment.kubernetes.io/revision": "1"},
            "ownerReferences": [{"uid": "d"}],
        }
        return [{"metadata": metadata}]

    def ask_pod(self, pod: str, *_: Any) -> bytes:
        if pod == "b":
            raise RolloutError("Pod b does not respond.")
        return b"{}"


def responses(b_now: KubernetesObject | None) -> list[tuple[str, bytes]]:
    deployment = LiveDeployment(cast("Cluster", OneDeployment(b_now)), "api")
    return [(found["metadata"]["name"], response) for found, response in deployment.ask_ready("/model", "key")]


@pytest.mark.parametrize("b_now", [None, pod("b", deleted=True)])
def test_a_deleted_pod_is_left_out(b_now: KubernetesObject | None) -> None:
    assert responses(b_now) == [("a", b"{}")]


def test_a_pod_that_exists_and_does_not_respond_is_a_failure() -> None:
    with pytest.raises(RolloutError, match="Pod b does not respond"):
        responses(pod("b"))


@pytest.mark.parametrize(("ready", "failed"), [(True, None), (False, "b")])
def test_only_a_pod_that_is_not_ready_is_reported(ready: bool, failed: str | None) -> None:
    """After two restarts of its node, a pod serves again."""
    cluster = OneDeployment(None, pod("b", ready=ready, restarts=2))
    failure = LiveDeployment(cast("Cluster", cluster), "api").failure(unschedulable_seconds=15)
    assert (failure and failure.pod) == failed
