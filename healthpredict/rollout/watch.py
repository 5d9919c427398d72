"""Watch pods after a rollout, for the time in which most faults show."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Final

from healthpredict.errors import RolloutError
from healthpredict.rollout.counts import RequestCounts, breach, growth, read_counts
from healthpredict.rollout.deployment import LiveDeployment
from healthpredict.rollout.manifests import KubernetesObject
from healthpredict.rollout.params import RolloutParams
from healthpredict.rollout.progress import is_ready, restarts

_logger = logging.getLogger(__name__)
_LOOK_EVERY_SECONDS: Final = 3.0
_LOOKS_UNREADY: Final = 3
_LOOKS_UNANSWERED: Final = 5
"""In a row, at the end of the watch; fewer may only mean that the API server restarts."""


def watch_pods(api: LiveDeployment, key: str, params: RolloutParams, seconds: float) -> str | None:
    """Poll the pods of a Deployment.

    Args:
        api: the Deployment.
        key: of the API.
        params: what is allowed.
        seconds: how long.

    Returns:
        The first problem; None if there was none.

    Raises:
        RolloutError: the last polls got no response, so the state of the pods is unknown.
    """
    deadline = time.monotonic() + seconds
    first: dict[str, RequestCounts] | None = None
    restarted_before = 0
    unready = unanswered = 0
    while time.monotonic() < deadline or unanswered:
        try:
            pods = api.pods()
            if first is None:
                first, restarted_before = _counts(api, key, pods), sum(map(restarts, pods))
            counts = growth(first, _counts(api, key, pods))
            replicas = api.read()["spec"]["replicas"]
        except RolloutError as error:
            _logger.warning("%s", error)
            unanswered += 1
            if time.monotonic() >= deadline and unanswered >= _LOOKS_UNANSWERED:
                raise
        else:
            unanswered = 0
            if sum(map(restarts, pods)) > restarted_before:
                return "A pod ended and was started again."
            unready = unready + 1 if sum(map(is_ready, pods)) < replicas else 0
            if unready >= _LOOKS_UNREADY:
                return f"A pod was not ready for {_LOOKS_UNREADY * _LOOK_EVERY_SECONDS:.0f} s."
            problem = breach(counts, params.watch_error_rate, params.watch_mean_seconds)
            if problem is not None:
                return f"In service, {problem}."
        time.sleep(_LOOK_EVERY_SECONDS)
    return None


def _counts(api: LiveDeployment, key: str, pods: Sequence[KubernetesObject]) -> dict[str, RequestCounts]:
    """Read the counters of the ready pods. Raises: RolloutError, none of them responds."""
    found, lost = {}, None
    for pod in filter(is_ready, pods):
        try:
            found[pod["metadata"]["name"]] = read_counts(api.ask(pod, "/metrics", key))
        except (RolloutError, ValueError) as error:  # it may have just ended, which readiness and restarts show
            _logger.warning("%s", error)
            lost = error
    if lost is not None and not found:
        raise RolloutError(f"No pod answers: {lost}") from lost
    return found
