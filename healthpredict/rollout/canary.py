"""Try a version on a share of the requests before it answers all of them."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from statistics import fmean
from typing import Any, Final, NamedTuple

from healthpredict.bundle.model import TOLERANCE, Bundle, GoldenRow, largest_difference
from healthpredict.errors import RolloutError
from healthpredict.rollout.counts import exceeded_limit, growth, read_counts
from healthpredict.rollout.deployment import LiveDeployment
from healthpredict.rollout.manifests import KubernetesObject
from healthpredict.rollout.params import RolloutParams
from healthpredict.rollout.progress import is_ready, restarts

_logger = logging.getLogger(__name__)
_POLL_SECONDS: Final = 2.0


class DeployedBundle(NamedTuple):
    """A Deployment in the cluster, and the bundle in its image."""

    deployment: LiveDeployment
    bundle: Bundle


def judge_canary(canary: DeployedBundle, champion: DeployedBundle, key: str, params: RolloutParams) -> None:
    """Compare the risks that canary and champion predict for the same records, then watch the canary serve its share of requests.

    Args:
        canary: the new version.
        champion: the version in service.
        key: API key.
        params: see `RolloutParams`.

    Raises:
        RolloutError: the canary failed. It still runs, so the caller must delete it.
    """
    canary.deployment.wait(params.seconds, params.unschedulable_seconds)
    version = canary.bundle.manifest.model_version
    golden = canary.bundle.golden
    worst = largest_difference(_risks(canary.deployment, golden, key), [row.risk for row in golden])
    if not worst <= TOLERANCE:
        raise RolloutError(f"The canary, version {version}, differs from training by {worst:.1e} on its golden rows.")
    rows = (*golden, *champion.bundle.golden)
    distance = _distance(_risks(canary.deployment, rows, key), _risks(champion.deployment, rows, key))
    if distance > params.canary.risk_distance:
        raise RolloutError(
            f"The risks that the canary, version {version}, predicts lie {distance:.3f} from the champion's for the same "
            f"records. The limit is {params.canary.risk_distance}."
        )
    pod = _ready_pod(canary.deployment)
    name = pod["metadata"]["name"]
    start = {name: read_counts(canary.deployment.ask(pod, "/metrics", key))}
    deadline = time.monotonic() + params.canary.seconds
    while True:
        if restarts(_ready_pod(canary.deployment)):
            raise RolloutError(f"A container of the canary, version {version}, was restarted.")
        counts = growth(start, {name: read_counts(canary.deployment.ask(pod, "/metrics", key))})
        problem = exceeded_limit(counts, params.canary.error_rate, params.watch_mean_seconds)
        if problem is not None:
            raise RolloutError(f"The canary, version {version}, failed: {problem}.")
        if time.monotonic() > deadline:
            _logger.info("The canary, version %d, passed after %.0f requests", version, counts.requests)
            return
        time.sleep(_POLL_SECONDS)


def _ready_pod(deployment: LiveDeployment) -> KubernetesObject:
    ready = [pod for pod in deployment.pods() if is_ready(pod)]
    if not ready:
        raise RolloutError(f"{deployment.name} has no ready pod.")
    return ready[0]


def _distance(risks: list[float], others: list[float]) -> float:
    """The Wasserstein distance of two samples of the same size."""
    return fmean(abs(risk - other) for risk, other in zip(sorted(risks), sorted(others), strict=True))


def _risks(deployment: LiveDeployment, rows: Sequence[GoldenRow], key: str) -> list[float]:
    """Request the risks of golden rows from a pod."""
    body: dict[str, Any] = {"encounters": [row.record for row in rows]}
    _, response = next(deployment.ask_ready("/predict/batch", key, body))
    results = json.loads(response)["results"]
    return [result["readmission_risk"] for result in results]
