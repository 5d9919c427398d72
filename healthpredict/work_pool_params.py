"""Parameters of the work pool that runs data, training, monitoring and scoring."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class WorkPoolParams(BaseModel):
    """Where flows run: in the process of a worker, or each in a pod of Kubernetes. All but `type` concern Kubernetes only.

    Attributes:
        type: of the pool `health-predict`. The pool of rollouts is always of type process.
        image: of the workers, in a registry that the nodes reach.
        prefect_api_url: URL of Prefect's API, as pods reach it.
        tracking_uri: URL of MLflow, as pods reach it.
        namespace: of the pods.
        service_account: of the pods, which get no token of it.
        secret: its keys become environment variables of the pods: the logins of Prefect and MLflow and, if nothing else gives pods
            access to S3, the keys of AWS.
        state_claim: volume claim of the state folder.
        cpu: cores of a pod. A search runs one trial on each.
        memory: of a pod, including that of Ray.
        kept_seconds: for which a pod that has ended is kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["process", "kubernetes"] = "process"
    image: str | None = None
    prefect_api_url: str | None = None
    tracking_uri: str | None = None
    namespace: str = "health-predict"
    service_account: str = "healthpredict-jobs"
    secret: str = "healthpredict-jobs"  # noqa: S105 -- a name
    state_claim: str = "healthpredict-state"
    cpu: int = Field(2, ge=1)
    memory: str = "3Gi"
    kept_seconds: int = Field(86_400, ge=0)

    @model_validator(mode="after")
    def _kubernetes_is_complete(self) -> Self:
        needed = ("image", "prefect_api_url", "tracking_uri")
        missing = [name for name in needed if getattr(self, name) is None]
        if self.type == "kubernetes" and missing:
            raise ValueError(f"pods of Kubernetes need {', '.join(missing)}")
        return self
