"""The result of a rollout. Only `healthpredict.operations.record_rollout` distinguishes the cases."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InService:
    """The version serves and was verified.

    Attributes:
        version: of the model.
        image: by digest; None if the target is not Kubernetes.
        bundle_digest: of its bundle.
        url: of the API; None if the target is `none`.
        problem: always None.
    """

    version: int
    image: str | None
    bundle_digest: str
    url: str | None
    problem: None = None


@dataclass(frozen=True, slots=True)
class PutBack:
    """The requested version failed; the previous one serves and was verified.

    If a version fails while it is watched on Kubernetes and there is no previous one, it stays in service, and `version` names it.

    Attributes:
        version: that serves; None if nothing does.
        image: of that version, by digest; None if the target is not Kubernetes.
        bundle_digest: of its bundle; None if nothing serves.
        url: of the API; None if nothing serves.
        problem: why the requested version failed.
    """

    version: int | None
    image: str | None
    bundle_digest: str | None
    url: str | None
    problem: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """It could not be determined what serves.

    Attributes:
        version: that was requested; None if none was.
        image: that was requested, by digest; None if none was.
        problem: why it cannot be determined.
    """

    version: int | None
    image: str | None
    problem: str


RolloutResult = InService | PutBack | Unknown
