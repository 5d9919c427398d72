"""One Deployment as it is in the cluster: its pods, waited for, and asked."""

from __future__ import annotations

import json
import logging
import time
from typing import Any, Final

from healthpredict.errors import RolloutError
from healthpredict.rollout.cluster import Cluster, Unfit, Unreachable
from healthpredict.rollout.manifests import KubernetesObject
from healthpredict.rollout.progress import (
    TEMPLATE_HASH,
    Failure,
    failure_of,
    is_complete,
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
    """See the module."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        """Args: cluster; name, of the Deployment, which need not exist."""
        self._cluster = cluster
        self.name = name

    def read(self) -> KubernetesObject:
        """The Deployment.

        Raises:
            RolloutError: there is none.
        """
        found = self._cluster.read("Deployment", self.name)
        if found is None:
            raise RolloutError(f"The Deployment {self.name} is gone. Someone deleted it: roll out again.")
        return found

    def replica_sets(self) -> list[KubernetesObject]:
        """Its ReplicaSets, one for each template that is kept; none where there is no Deployment."""
        found = self._cluster.read("Deployment", self.name)
        return [] if found is None else owned(found, self._cluster.find("ReplicaSet"))

    def newest(self) -> KubernetesObject | None:
        """The ReplicaSet of the present template; None where there is none yet."""
        return newest_replica_set(self.read(), self._cluster.find("ReplicaSet"))

    def pods(self) -> list[KubernetesObject]:
        """The pods of the present template."""
        newest = self.newest()
        if newest is None:
            return []
        return owned(newest, self._cluster.find("Pod", {TEMPLATE_HASH: newest["metadata"]["labels"][TEMPLATE_HASH]}))

    def wait(self, seconds: float, unschedulable_seconds: float) -> None:
        """Wait until every pod is of the present template and available.

        Raises:
            Unfit: that cannot come to be, or has not in time.
            Unreachable: the time is over, and the last look got no answer.
            RolloutError: the Deployment is gone.
        """
        deadline = time.monotonic() + seconds
        pods: list[KubernetesObject] = []
        while True:
            failure = lost = None
            try:
                deployment = self.read()
                if is_complete(deployment):
                    return
                if is_observed(deployment):
                    pods = self.pods()
                    failure = failure_of(deployment, pods, unschedulable_seconds)
            except Unreachable as error:
                _logger.warning("%s", error)
                lost = error
            if lost is not None and time.monotonic() > deadline:
                raise lost
            if failure is None and time.monotonic() > deadline:
                unready = next((pod["metadata"]["name"] for pod in pods if not is_ready(pod)), None)
                failure = Failure(f"it was not in service within {seconds:.0f} s", unready)
            if failure is not None:
                raise Unfit(self._words(failure))
            time.sleep(_POLL_SECONDS)

    def ask(self, pod: KubernetesObject, path: str, key: str, body: dict[str, Any] | None = None) -> bytes:
        """The answer of a pod itself, past the Service. Args: body, for a POST.

        Raises:
            RolloutError: it does not answer, or not well.
        """
        sent = None if body is None else json.dumps(body).encode()
        return self._cluster.ask_pod(pod["metadata"]["name"], _PORT, path, key, sent)

    def _words(self, failure: Failure) -> str:
        """A failure with what its pod wrote last and what Kubernetes noted about it."""
        if failure.pod is None:
            return f"The rollout of {self.name} failed: {failure.reason}."
        ended = self._cluster.log_lines(failure.pod, previous=True, lines=_LOG_LINES_SHOWN)
        written = ended or self._cluster.log_lines(failure.pod, previous=False, lines=_LOG_LINES_SHOWN)
        return "\n".join(
            (
                f"The rollout of {self.name} failed at pod {failure.pod}: {failure.reason}.",
                *(f"  log: {line}" for line in written),
                *(f"  event: {event}" for event in self._events(failure.pod)),
            )
        )

    def _events(self, pod: str) -> list[str]:
        events = self._cluster.find("Event", fields=f"involvedObject.name={pod},type=Warning")
        events.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
        return [f"{event['reason']}: {event['message']}" for event in events][-_EVENTS_SHOWN:]
