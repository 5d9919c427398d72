"""How versions are rolled out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class CanaryParams(BaseModel):
    """When a canary is good enough.

    Attributes:
        seconds: for which it takes its share of the requests.
        error_rate: of its requests, above which it is removed.
        risk_distance: largest Wasserstein distance of its risks from the champion's on the same requests (0-1).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seconds: float = Field(60.0, ge=0)
    error_rate: float = Field(0.01, ge=0, le=1)
    risk_distance: float = Field(0.05, ge=0, le=1)


class RolloutParams(BaseModel):
    """Where a version goes into service, and what it must show there.

    Attributes:
        target: the API as a local process, on Kubernetes, or nowhere: then only the alias moves.
        context: of the kubeconfig; it is never whatever kubectl points at.
        overlay: folder of the Kubernetes files, below the source.
        service_url: of the API as callers reach it; by default the host of the cluster's API and the Service's node port.
        strategy: rolling replaces pod by pod; canary tries the version on a share of the requests before.
        canary: see `CanaryParams`.
        seconds: for the whole of a rollout to become ready.
        unschedulable_seconds: for a node to have room for a pod.
        p50_seconds: median time of a prediction, asked from here.
        watch_seconds: how long a version is watched after it became the champion.
        watch_error_rate: share (0-1) of failed requests in that time above which it is rolled back.
        watch_mean_seconds: mean time of a prediction inside the pods above which it is rolled back.
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
