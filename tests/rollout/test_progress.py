"""The progress of a rollout, read from objects as a cluster returns them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from healthpredict.rollout.progress import failure_of, is_complete, newest_replica_set, scaling_problem

WAITS = 15.0


def deployment(**status: Any) -> dict[str, Any]:
    return {
        "metadata": {"uid": "d", "generation": 3, "annotations": {"deployment.kubernetes.io/revision": "2"}},
        "spec": {"replicas": 2, "progressDeadlineSeconds": 60},
        "status": {"observedGeneration": 3, "updatedReplicas": 2, "availableReplicas": 2, "replicas": 2} | status,
    }


def pod(*, restarts: int = 0, conditions: list[dict[str, Any]] | None = None, **states: Any) -> dict[str, Any]:
    status = {"restartCount": restarts, "state": {}, "lastState": {}} | states
    return {
        "metadata": {"name": "api-1"},
        "status": {"conditions": conditions or [], "containerStatuses": [status]},
    }


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def test_a_rollout_whose_replicas_are_all_updated_and_available_is_complete() -> None:
    assert is_complete(deployment())


@pytest.mark.parametrize(
    "status", [{"observedGeneration": 2}, {"updatedReplicas": 1}, {"availableReplicas": 1}, {"replicas": 3}]
)
def test_a_rollout_is_not_complete(status: dict[str, int]) -> None:
    """While it is not observed, one replica is old, one is not available, or an old one is left."""
    assert not is_complete(deployment(**status))


def test_the_newest_replica_set_has_the_revision_of_its_deployment() -> None:
    def replica_set(revision: str, owner: str = "d") -> dict[str, Any]:
        annotations = {"deployment.kubernetes.io/revision": revision}
        return {"metadata": {"ownerReferences": [{"uid": owner}], "annotations": annotations}}

    mine = replica_set("2")
    assert newest_replica_set(deployment(), [replica_set("1"), replica_set("2", "other"), mine]) is mine
    assert newest_replica_set(deployment(), [replica_set("1")]) is None


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (pod(state=waiting("ImagePullBackOff", "no such image")), "cannot be pulled (ImagePullBackOff): no such image"),
        (pod(state=waiting("CreateContainerConfigError", 'secret "k" not found')), 'configured.*secret "k" not found'),
        (
            pod(state=waiting("CrashLoopBackOff"), lastState={"terminated": {"exitCode": 2, "reason": "Error"}}),
            "crashes repeatedly (CrashLoopBackOff, exit code 2)",
        ),
        (pod(lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, restarts=1), "OOMKilled"),
        (pod(state={"terminated": {"exitCode": 137, "reason": "OOMKilled"}}), "OOMKilled"),
        (pod(restarts=2, lastState={"terminated": {"exitCode": 1}}), "crashes repeatedly (restarts, exit code 1)"),
    ],
)
def test_hopeless(found: dict[str, Any], words: str) -> None:
    failure = failure_of(deployment(), [pod(), found], WAITS)
    assert failure is not None
    assert failure.pod == "api-1"
    for part in words.split(".*"):
        assert part in failure.reason


@pytest.mark.parametrize(
    "found",
    [
        pod(state=waiting("ContainerCreating")),
        pod(state=waiting("ErrImagePull", "once")),
        pod(restarts=1, lastState={"terminated": {"exitCode": 1, "reason": "Error"}}),
    ],
)
def test_it_may_still_come(found: dict[str, Any]) -> None:
    assert failure_of(deployment(), [found], WAITS) is None


def test_no_room_counts_after_a_while() -> None:
    def since(seconds: float) -> dict[str, Any]:
        at = (datetime.now(UTC) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
        condition = {"type": "PodScheduled", "reason": "Unschedulable", "message": "0/1 nodes", "status": "False"}
        return pod(conditions=[{**condition, "lastTransitionTime": at}])

    assert failure_of(deployment(), [since(5)], WAITS) is None
    failure = failure_of(deployment(), [since(20)], WAITS)
    assert failure is not None
    assert failure.reason == "no node has room for it: 0/1 nodes"


def test_a_pod_that_is_being_deleted_is_no_failure() -> None:
    leaving = pod(state=waiting("CrashLoopBackOff"))
    leaving["metadata"]["deletionTimestamp"] = "2026-11-24T12:00:00Z"
    assert failure_of(deployment(), [leaving], WAITS) is None


def test_the_conditions_of_the_deployment_are_failures() -> None:
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": ""}
    failure = failure_of(deployment(conditions=[late]), [pod()], WAITS)
    assert failure is not None
    assert (failure.reason, failure.pod) == ("it was not ready within 60 s", "api-1")
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}
    failure = failure_of(deployment(conditions=[refused]), [], WAITS)
    assert failure is not None
    assert failure.reason == "no pod could be created: exceeded quota"


@pytest.mark.parametrize(
    "message",
    [
        # containerd 2.3 with a registry that requires a login, and Docker's engine
        "failed to authorize: failed to fetch anonymous token: unexpected status from GET request: 401 Unauthorized",
        "failed to resolve reference: pull access denied, authorization failed",
        "no basic auth credentials",
    ],
)
def test_a_refused_login_is_reported_with_the_command_that_renews_it(message: str) -> None:
    failure = failure_of(deployment(), [pod(state=waiting("ImagePullBackOff", message))], WAITS)
    assert failure is not None
    assert "`healthpredict cluster refresh-login`" in failure.reason


def test_an_image_that_does_not_exist_is_no_matter_of_the_login() -> None:
    failure = failure_of(deployment(), [pod(state=waiting("ImagePullBackOff", "manifest unknown"))], WAITS)
    assert failure is not None
    assert "refresh-login" not in failure.reason


NO_SERVER = "unable to fetch metrics from resource metrics API: the server could not find the requested resource"
NOT_MEASURED = "did not receive metrics for targeted pods (pods might be unready)"


def autoscaler(status: str, message: str, seconds: float) -> dict[str, Any]:
    since = (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()
    condition = {"type": "ScalingActive", "status": status, "lastTransitionTime": since, "message": message}
    return {"status": {"conditions": [condition]}}


@pytest.mark.parametrize(("message", "seconds"), [(NO_SERVER, 0), (NOT_MEASURED, 200)])
def test_an_autoscaler_without_metrics_is_reported(message: str, seconds: float) -> None:
    problem = scaling_problem(autoscaler("False", message, seconds))
    assert problem is not None
    assert f": {message}. Does metrics-server run?" in problem


def test_an_autoscaler_that_works_or_waits_for_the_first_metrics_is_not_reported() -> None:
    for found in (autoscaler("True", "", 200), autoscaler("False", NOT_MEASURED, 40), {"spec": {}}):
        assert scaling_problem(found) is None
