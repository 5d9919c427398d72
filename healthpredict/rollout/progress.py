"""The progress of a rollout on Kubernetes, read from its objects: complete, in progress, or failed and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from healthpredict.rollout.manifests import KubernetesObject

REVISION: Final = "deployment.kubernetes.io/revision"
TEMPLATE_HASH: Final = "pod-template-hash"
_FATAL: Final = {
    "ImagePullBackOff": "its image cannot be pulled",
    "ErrImageNeverPull": "its image is not on the node",
    "InvalidImageName": "its image has no valid name",
    "CreateContainerConfigError": "its container cannot be configured",
    "CreateContainerError": "its container cannot be created",
    "RunContainerError": "its container cannot be started",
    "CrashLoopBackOff": "its container crashes repeatedly",
}
"""Reasons of waiting containers that do not resolve by themselves (kubelet, images/types.go and kuberuntime)."""
_REFUSED: Final = (
    "401 unauthorized",
    "403 forbidden",
    "authorization failed",
    "authentication required",
    "no basic auth",
)
"""Words with which container runtimes report that a registry refused the login."""
_NO_METRICS_YET: Final = "did not receive metrics for targeted pods"
"""Words of an autoscaler about pods that were not measured yet (controller-manager, podautoscaler/replica_calculator)."""
_SECONDS_WITHOUT_METRICS: Final = 120.0
_FATAL_RESTARTS: Final = 2
"""A single restart may be the machine's fault."""


@dataclass(frozen=True)
class Failure:
    """Why a rollout cannot succeed.

    Attributes:
        reason: a clause without the name of the pod.
        pod: that failed; None if no pod could be created.
    """

    reason: str
    pod: str | None = None


def newest_replica_set(
    deployment: KubernetesObject, replica_sets: Sequence[KubernetesObject]
) -> KubernetesObject | None:
    """The ReplicaSet of a Deployment's current template, or None if the controller has not created it yet."""
    revision = _annotations(deployment).get(REVISION)
    return next(
        (found for found in owned(deployment, replica_sets) if _annotations(found).get(REVISION) == revision), None
    )


def owned(owner: KubernetesObject, objects: Sequence[KubernetesObject]) -> list[KubernetesObject]:
    """The objects that `owner` owns."""
    uid = owner["metadata"]["uid"]
    return [o for o in objects if any(r["uid"] == uid for r in o["metadata"].get("ownerReferences", ()))]


def is_observed(deployment: KubernetesObject) -> bool:
    """Whether the controller has observed the last change of a Deployment."""
    seen: int = deployment.get("status", {}).get("observedGeneration", 0)
    return bool(seen >= deployment["metadata"]["generation"])


def is_complete(deployment: KubernetesObject) -> bool:
    """Whether every replica has the current template and is available, and no older one is left."""
    status, wanted = deployment.get("status", {}), deployment["spec"]["replicas"]
    counts = {status.get(name, 0) for name in ("updatedReplicas", "availableReplicas", "replicas")}
    return is_observed(deployment) and counts == {wanted}


def failure_of(
    deployment: KubernetesObject, pods: Sequence[KubernetesObject], unschedulable_seconds: float
) -> Failure | None:
    """Look for a reason why a rollout cannot succeed.

    Args:
        deployment: one for which `is_observed` is true.
        pods: of its current template.
        unschedulable_seconds: for which a pod may wait for a node.

    Returns:
        The failure, or None if the rollout may still succeed.
    """
    for pod in pods:
        if is_ending(pod):
            continue
        reason = _failure_of_pod(pod, unschedulable_seconds)
        if reason is not None:
            return Failure(reason, pod["metadata"]["name"])
    for condition in deployment.get("status", {}).get("conditions", ()):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return Failure(f"no pod could be created: {condition['message']}")
        if condition["type"] == "Progressing" and condition["reason"] == "ProgressDeadlineExceeded":
            seconds = deployment["spec"]["progressDeadlineSeconds"]
            return Failure(f"it was not ready within {seconds} s", first_unready(pods))
    return None


def is_ready(pod: KubernetesObject) -> bool:
    """Whether a pod is ready and not being deleted."""
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", ()))
    return ready and not is_ending(pod)


def is_ending(pod: KubernetesObject) -> bool:
    """Whether a pod is being deleted."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def first_unready(pods: Sequence[KubernetesObject]) -> str | None:
    """The name of the first pod that is not ready, or None if all are."""
    return next((pod["metadata"]["name"] for pod in pods if not is_ready(pod)), None)


def waits_for_image(pod: KubernetesObject) -> bool:
    """Whether the image of a pod could not be pulled."""
    waiting = (status.get("state", {}).get("waiting") or {} for status in _container_statuses(pod))
    return any(found.get("reason") in ("ErrImagePull", "ImagePullBackOff") for found in waiting)


def restarts(pod: KubernetesObject) -> int:
    """How often the containers of a pod were restarted."""
    return sum(status["restartCount"] for status in _container_statuses(pod))


def _container_statuses(pod: KubernetesObject) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pod.get("status", {}).get("containerStatuses", [])
    return found


def _failure_of_pod(pod: KubernetesObject, unschedulable_seconds: float) -> str | None:
    for condition in pod.get("status", {}).get("conditions", ()):
        waits = condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable"
        if waits and _age(condition["lastTransitionTime"]) >= unschedulable_seconds:
            return f"no node has room for it: {condition.get('message', '')}"
    for status in _container_statuses(pod):
        ends = [status.get(when, {}).get("terminated") for when in ("state", "lastState")]
        ended: dict[str, Any] | None = next(filter(None, ends), None)
        if ended and ended.get("reason") == "OOMKilled":
            return "its container used more memory than its limit and was killed (OOMKilled)"
        waiting = status.get("state", {}).get("waiting") or {}
        if (problem := _FATAL.get(waiting.get("reason", ""))) or status["restartCount"] >= _FATAL_RESTARTS:
            exit_code = f", exit code {ended['exitCode']}" if ended else ""
            message = "" if ended else f": {waiting.get('message', '')}{_hint(waiting)}"
            return f"{problem or _FATAL['CrashLoopBackOff']} ({waiting.get('reason', 'restarts')}{exit_code}){message}"
    return None


def _hint(waiting: dict[str, Any]) -> str:
    if not any(words in waiting.get("message", "").lower() for words in _REFUSED):
        return ""
    return (
        "\nThe login for the image registry is missing or has expired. For ECR, `healthpredict cluster refresh-login` renews it. "
        "For another registry, replace the Secret healthpredict-pull."
    )


def scaling_problem(autoscaler: KubernetesObject) -> str | None:
    """Why an autoscaler adds no pods, or None if it works."""
    for condition in autoscaler.get("status", {}).get("conditions", ()):
        if condition["type"] == "ScalingActive" and condition["status"] == "False":
            since, message = condition["lastTransitionTime"], condition["message"]
            if _NO_METRICS_YET in message and _age(since) < _SECONDS_WITHOUT_METRICS:
                continue
            return f"The autoscaler has added no pods since {since}: {message}. Does metrics-server run?"
    return None


def _annotations(owner: KubernetesObject) -> dict[str, str]:
    found: dict[str, str] = owner["metadata"].get("annotations") or {}
    return found


def _age(time: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()
