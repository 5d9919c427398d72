"""A version tried on a share of the requests, before it takes them all."""

from __future__ import annotations

import json
import logging
import time
from statistics import fmean
from typing import Any, Final

from healthpredict.bundle.model import TOLERANCE, Bundle, largest_difference
from healthpredict.errors import RolloutError
from healthpredict.rollout.counts import breach, growth, read_counts
from healthpredict.rollout.deployment import LiveDeployment
from healthpredict.rollout.manifests import KubernetesObject
from healthpredict.rollout.params import RolloutParams
from healthpredict.rollout.progress import is_ready, restarts

_logger = logging.getLogger(__name__)
_LOOK_EVERY_SECONDS: Final = 2.0


AppliedBundle = tuple[LiveDeployment, Bundle]
"""A Deployment that was applied, and the bundle in its image."""


def judge_canary(trial: AppliedBundle, champion: AppliedBundle, key: str, params: RolloutParams) -> None:
    """Ask a canary and the champion the same, and look at what the canary does with its share of the requests.

    Args:
        trial: the canary.
        champion: what is in service.
        key: of the API.
        params: see `RolloutParams`.

    Raises:
        RolloutError: it is not good enough. It still runs: remove it.
    """
    (canary, bundle), (stable, before) = trial, champion
    canary.wait(params.seconds, params.unschedulable_seconds)
    pod = _pod(canary)
    version = bundle.manifest.model_version
    worst = largest_difference(_risks(canary, pod, bundle, key), [row.risk for row in bundle.golden])
    if not worst <= TOLERANCE:
        raise RolloutError(f"The canary, version {version}, differs from training by {worst:.1e} on its golden rows.")
    distance = _distance(
        *([risk for asked in (bundle, before) for risk in _risks(of, _pod(of), asked, key)] for of in (canary, stable))
    )
    if distance > params.canary.risk_distance:
        raise RolloutError(
            f"The risks that the canary, version {version}, gives lie {distance:.3f} from the champion's, asked the same; "
            f"{params.canary.risk_distance} are allowed."
        )
    name = pod["metadata"]["name"]
    start = {name: read_counts(canary.ask(pod, "/metrics", key))}
    deadline = time.monotonic() + params.canary.seconds
    while True:
        if restarts(_pod(canary)):
            raise RolloutError(f"The canary, version {version}, ended and was started again.")
        counts = growth(start, {name: read_counts(canary.ask(pod, "/metrics", key))})
        if (problem := breach(counts, params.canary.error_rate, params.watch_mean_seconds)) is not None:
            raise RolloutError(f"Of the canary, version {version}: {problem}.")
        if time.monotonic() > deadline:
            _logger.info("The canary, version %d, answered %.0f requests well", version, counts.requests)
            return
        time.sleep(_LOOK_EVERY_SECONDS)


def _pod(of: LiveDeployment) -> KubernetesObject:
    ready = [pod for pod in of.pods() if is_ready(pod)]
    if not ready:
        raise RolloutError(f"{of.name} has no pod that is ready.")
    return ready[0]


def _distance(risks: list[float], others: list[float]) -> float:
    """The Wasserstein distance of two distributions of as many values: how far a risk is moved on average."""
    return fmean(abs(risk - other) for risk, other in zip(sorted(risks), sorted(others), strict=True))


def _risks(of: LiveDeployment, pod: KubernetesObject, bundle: Bundle, key: str) -> list[float]:
    """What a pod says to the golden rows of a bundle."""
    body: dict[str, Any] = {"encounters": [row.record for row in bundle.golden]}
    results = json.loads(of.ask(pod, "/predict/batch", key, body))["results"]
    return [result["readmission_risk"] for result in results]
