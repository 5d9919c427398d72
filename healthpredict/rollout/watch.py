"""Watch the pods of a new version for a while after the rollout."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Final

from healthpredict.errors import RolloutError
from healthpredict.rollout.counts import RequestCounts, exceeded_limit, growth, read_counts
from healthpredict.rollout.deployment import LiveDeployment
from healthpredict.rollout.manifests import KubernetesObject
from healthpredict.rollout.params import RolloutParams
from healthpredict.rollout.progress import is_ending, is_ready, restarts

_logger = logging.getLogger(__name__)
_POLL_SECONDS: Final = 3.0
_UNREADY_POLLS: Final = 3
_FAILED_POLLS: Final = 5
"""A watch never ends on a failed poll: it goes on until one succeeds, or until this many in a row have failed. The API server
may only be restarting."""


def watch_pods(deployment: LiveDeployment, key: str, params: RolloutParams, seconds: float) -> str | None:
    """Poll the pods of a Deployment.

    Args:
        deployment: the Deployment.
        key: API key.
        params: limits of errors and response time.
        seconds: how long to watch.

    Returns:
        The first problem, or None if there was none.

    Raises:
        RolloutError: the last polls failed, so the state of the pods is unknown.
    """
    deadline = time.monotonic() + seconds
    first: dict[str, RequestCounts] | None = None
    restarted_before: dict[str, int] = {}
    were_ready: set[str] = set()
    unready = failed = 0
    while time.monotonic() < deadline or failed:
        try:
            pods = deployment.pods()
            counts = _counts(deployment, key, pods)
        except RolloutError as error:
            _logger.warning("%s", error)
            failed += 1
            if time.monotonic() >= deadline and failed >= _FAILED_POLLS:
                raise
        else:
            failed = 0
            if first is None:
                first = counts
                restarted_before = {_name(pod): restarts(pod) for pod in pods}
            for pod in pods:
                if restarts(pod) > restarted_before.get(_name(pod), 0):
                    return f"Pod {_name(pod)} was restarted."
            # The autoscaler, or a node that is drained, may add a pod, which is not ready immediately, or delete one.
            ready = {_name(pod) for pod in pods if is_ready(pod)}
            were_ready |= ready
            present = {_name(pod) for pod in pods if not is_ending(pod)}
            no_longer_ready = (were_ready & present) - ready
            unready = unready + 1 if no_longer_ready or not ready else 0
            if unready >= _UNREADY_POLLS:
                return f"A pod was not ready for {_UNREADY_POLLS * _POLL_SECONDS:.0f} s."
            problem = exceeded_limit(growth(first, counts), params.watch_error_rate, params.watch_mean_seconds)
            if problem is not None:
                return f"The version in service failed: {problem}."
        time.sleep(_POLL_SECONDS)
    return None


def _name(pod: KubernetesObject) -> str:
    name: str = pod["metadata"]["name"]
    return name


def _counts(deployment: LiveDeployment, key: str, pods: Sequence[KubernetesObject]) -> dict[str, RequestCounts]:
    """Read the counters of the ready pods. Raises: RolloutError, if none of them responds."""
    found, silent = {}, None
    for pod in filter(is_ready, pods):
        try:
            found[_name(pod)] = read_counts(deployment.ask(pod, "/metrics", key))
        except (RolloutError, ValueError) as error:
            # If the pod has just ended, the next poll reports that it is not ready.
            _logger.warning("%s", error)
            silent = error
    if silent is not None and not found:
        raise RolloutError(f"No pod responds: {silent}") from silent
    return found
