"""One Deployment in the cluster: read it, wait for its pods, send them requests."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from typing import Any, Final

from healthpredict.errors import RolloutError
from healthpredict.rollout.cluster import Cluster, Unfit, Unreachable
from healthpredict.rollout.manifests import KubernetesObject
from healthpredict.rollout.progress import (
    TEMPLATE_HASH,
    Failure,
    failure_of,
    first_unready,
    is_complete,
    is_ending,
    is_observed,
    is_ready,
    newest_replica_set,
    owned,
)

_logger = logging.getLogger(__name__)
_PORT: Final = 8080
_POLL_SECONDS: Final = 0.3
_LOG_LINES_SHOWN: Final = 8
_EVENTS_SHOWN: Final = 4


class LiveDeployment:
    """A Deployment, which may not exist yet."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        """Args: cluster, with the Deployment; name, of the Deployment."""
        self._cluster = cluster
        self.name = name

    def read(self) -> KubernetesObject:
        """Read the Deployment.

        Raises:
            RolloutError: it does not exist, or Kubernetes does not respond.
        """
        found = self._cluster.read("Deployment", self.name)
        if found is None:
            raise RolloutError(f"The Deployment {self.name} does not exist. If somebody deleted it, roll out again.")
        return found

    def replica_sets(self) -> list[KubernetesObject]:
        """Its ReplicaSets, one for each template in its history. Empty if there is no Deployment."""
        found = self._cluster.read("Deployment", self.name)
        return [] if found is None else owned(found, self._cluster.find("ReplicaSet"))

    def newest(self) -> KubernetesObject | None:
        """The ReplicaSet of the current template, or None if the controller has not created it yet."""
        return newest_replica_set(self.read(), self._cluster.find("ReplicaSet"))

    def pods(self) -> list[KubernetesObject]:
        """The pods of the current template."""
        return self._pods_of(self.read())

    def wait(self, seconds: float, unschedulable_seconds: float) -> None:
        """Wait until every pod has the current template and is available.

        Raises:
            Unfit: a pod failed, or the pods were not available in time.
            Unreachable: the time is over, and Kubernetes did not respond to the last poll.
            RolloutError: the Deployment does not exist.
        """
        deadline = time.monotonic() + seconds
        pods: list[KubernetesObject] = []
        while True:
            failure = unreachable = None
            try:
                deployment = self.read()
                if is_complete(deployment):
                    return
                if is_observed(deployment):
                    pods = self._pods_of(deployment)
                    failure = failure_of(deployment, pods, unschedulable_seconds)
            except Unreachable as error:
                _logger.warning("%s", error)
                unreachable = error
            if failure is None and time.monotonic() > deadline:
                if unreachable is not None:
                    raise unreachable
                failure = Failure(f"it was not available within {seconds:.0f} s", first_unready(pods))
            if failure is not None:
                raise Unfit(self._explain(failure))
            time.sleep(_POLL_SECONDS)

    def ask(self, pod: KubernetesObject, path: str, key: str, body: dict[str, Any] | None = None) -> bytes:
        """Send a request directly to one pod, not through the Service.

        Args:
            pod: the pod.
            path: of the endpoint.
            key: API key.
            body: JSON for a POST, or None for a GET.

        Raises:
            RolloutError: the pod does not respond, or not with status 200.
        """
        sent = None if body is None else json.dumps(body).encode()
        return self._cluster.ask_pod(pod["metadata"]["name"], _PORT, path, key, sent)

    def ask_ready(
        self, path: str, key: str, body: dict[str, Any] | None = None
    ) -> Iterator[tuple[KubernetesObject, bytes]]:
        """Send a request to each ready pod. A pod that is deleted meanwhile, for example by the autoscaler, is left out.

        Args:
            path: of the endpoint.
            key: API key.
            body: JSON for a POST, or None for a GET.

        Raises:
            RolloutError: no pod is ready, or one does not respond.
        """
        none_responded = True
        for pod in filter(is_ready, self.pods()):
            try:
                response = self.ask(pod, path, key, body)
            except RolloutError:
                found = self._cluster.read("Pod", pod["metadata"]["name"])
                if found is not None and not is_ending(found):
                    raise
            else:
                none_responded = False
                yield pod, response
        if none_responded:
            raise RolloutError(f"{self.name} has no ready pod.")

    def failure(self, unschedulable_seconds: float) -> Failure | None:
        """Why a pod of the current template does not run, or None if all run or may still start."""
        deployment = self.read()
        # A pod that is ready may have been restarted weeks ago.
        pods = [pod for pod in self._pods_of(deployment) if not is_ready(pod)]
        return failure_of(deployment, pods, unschedulable_seconds)

    def _pods_of(self, deployment: KubernetesObject) -> list[KubernetesObject]:
        newest = newest_replica_set(deployment, self._cluster.find("ReplicaSet"))
        if newest is None:
            return []
        return owned(newest, self._cluster.find("Pod", {TEMPLATE_HASH: newest["metadata"]["labels"][TEMPLATE_HASH]}))

    def _explain(self, failure: Failure) -> str:
        """Describe a failure, with the last log lines and warning events of its pod."""
        if failure.pod is None:
            return f"The rollout of {self.name} failed: {failure.reason}."
        previous = self._cluster.log_lines(failure.pod, previous=True, lines=_LOG_LINES_SHOWN)
        log = previous or self._cluster.log_lines(failure.pod, previous=False, lines=_LOG_LINES_SHOWN)
        return "\n".join(
            (
                f"The rollout of {self.name} failed at pod {failure.pod}: {failure.reason}.",
                *(f"  log: {line}" for line in log),
                *(f"  event: {event}" for event in self._events(failure.pod)),
            )
        )

    def _events(self, pod: str) -> list[str]:
        events = self._cluster.find("Event", fields=f"involvedObject.name={pod},type=Warning")
        events.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
        return [f"{event['reason']}: {event['message']}" for event in events][-_EVENTS_SHOWN:]
