"""Parameters of rollouts."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class CanaryParams(BaseModel):
    """How long a canary is tried, and what it must not exceed.

    Attributes:
        seconds: for which the canary answers its share of the requests.
        error_rate: highest share (0-1) of its requests that may fail.
        risk_distance: largest Wasserstein distance of its risks from the champion's on the same golden rows (0-1).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seconds: float = Field(60.0, ge=0)
    error_rate: float = Field(0.01, ge=0, le=1)
    risk_distance: float = Field(0.05, ge=0, le=1)


class RolloutParams(BaseModel):
    """Where versions are rolled out to, and when a rollout fails. All but `target` concern Kubernetes only.

    Attributes:
        target: `process` is a local process. With `none`, nothing is rolled out, and only the alias moves.
        context: of the kubeconfig. It has no default, so a rollout never goes to the cluster that kubectl happens to point at.
        overlay: folder of the Kubernetes manifests, relative to the source.
        service_url: of the API, as callers reach it. The default is the host of the cluster's API with the Service's node port.
        strategy: `rolling` replaces one pod after the other. `canary` first tries the version on a share of the requests.
        canary: see `CanaryParams`.
        seconds: within which all pods must be available.
        unschedulable_seconds: for which a pod may wait for a node with room.
        p50_seconds: highest median time of a prediction, measured by the rollout.
        watch_seconds: for which a version is watched after it became the champion.
        watch_error_rate: share (0-1) of failed requests above which a watched version is rolled back.
        watch_mean_seconds: mean time of a prediction, measured by the pods, above which a canary fails or a watched version is
            rolled back.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    target: Literal["process", "kubernetes", "none"] = "process"
    context: str | None = None
    overlay: Path = Path("k8s/overlays/minikube")
    service_url: str | None = None
    strategy: Literal["rolling", "canary"] = "rolling"
    canary: CanaryParams = CanaryParams()
    seconds: float = Field(300.0, gt=0)
    unschedulable_seconds: float = Field(15.0, ge=0)
    p50_seconds: float = Field(0.1, gt=0)
    watch_seconds: float = Field(120.0, ge=0)
    watch_error_rate: float = Field(0.01, ge=0, le=1)
    watch_mean_seconds: float = Field(0.1, gt=0)
