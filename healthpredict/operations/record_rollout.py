"""The only place that moves the alias `champion` and records the result of a rollout in the ledger."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict

from healthpredict.errors import RolloutError, RolloutUnknown
from healthpredict.operations.installation import Installation
from healthpredict.operations.timing import Seconds
from healthpredict.rollout.results import InService, PutBack, RolloutResult, Unknown

Service = tuple[int, str | None]
"""Version and image."""


class Rollout(BaseModel):
    """A version in service. The ledger contains it: never rename a field.

    Attributes:
        version: the version in service.
        previous: the version in service before, or None if there was none.
        bundle_digest: of the bundle of `version`.
        url: URL of the API; None if the target is `none`.
        image: digest of the image; None if the target is not Kubernetes.
        git_ref: Git ref of the code in the image, or None if none was given.
        reason: the reason, if a person or a failure caused the rollout and not the gate.
        forced: whether the version was promoted although it did not pass the gate.
        rolled_back: whether the rollout returned to a version that was in service before.
        seconds: wall time by stage.
    """

    model_config = ConfigDict(frozen=True)

    version: int
    previous: int | None
    bundle_digest: str
    url: str | None
    image: str | None = None
    git_ref: str | None = None
    reason: str | None = None
    forced: bool = False
    rolled_back: bool = False
    seconds: Seconds


def record_rollout(installation: Installation, result: RolloutResult, *, asked: int | None, **why: Any) -> Rollout:
    """Update alias and ledger to the result of a rollout.

    Args:
        installation: where models and ledger are.
        result: result of a rollout, or what `repair_rollout` found in service.
        asked: the version to roll out; None for `repair_rollout`.
        why: fields of `Rollout`: git_ref, reason, forced, rolled_back, seconds.

    Returns:
        The version in service.

    Raises:
        RolloutError: the version is not in service, or failed while it was watched. The ledger names the version in service.
        RolloutUnknown: it could not be determined what serves. The alias was not moved.
        RegistryError, StorageError: alias or ledger could not be written; the next run repairs them.
    """
    match result:
        case InService():
            return _record_in_service(installation, result, asked, **why)
        case PutBack(version=None):
            _record_failure(installation, asked, result)
            record_nothing_serves(installation)
            raise RolloutError(result.problem)
        case PutBack():
            _record_failure(installation, asked, result)
            why |= {"reason": result.problem, "forced": False, "rolled_back": True}
            _record_in_service(installation, result, asked, **why)
            raise RolloutError(result.problem)
        case Unknown():
            ledger = installation.ledger
            if asked is not None or last_unknown(installation) is None:
                version = result.version or asked
                ledger.append("rollout_unknown", version=version, image=result.image, problem=result.problem)
            raise RolloutUnknown(result.problem)


def last_unknown(installation: Installation) -> dict[str, Any] | None:
    """Return the event of the last rollout if its result is still unknown, or None if it is known what serves."""
    last = _last_result(installation)
    return last if last is not None and last["kind"] == "rollout_unknown" else None


def record_nothing_serves(installation: Installation) -> None:
    """If the result of the last rollout was unknown, record that nothing serves. The alias stays until the next rollout."""
    if last_unknown(installation) is not None:
        installation.ledger.append("rollout_settled", version=None, image=None)


def _last_result(installation: Installation) -> dict[str, Any] | None:
    """Return the latest event with the result of a rollout, or None."""
    kinds = ("promotion", "rollout_settled", "rollout_unknown")
    return next((event for event in reversed(installation.ledger.events()) if event["kind"] in kinds), None)


def _record_in_service(
    installation: Installation, result: InService | PutBack, asked: int | None, **why: Any
) -> Rollout:
    assert result.version is not None
    assert result.bundle_digest is not None
    registry, ledger = installation.registry, installation.ledger
    last = _last_result(installation)
    unsettled = last is not None and (last["kind"] == "rollout_unknown" or last["version"] is None)
    champion, promoted = registry.by_alias("champion"), ledger.last("promotion")
    if champion is None or champion.version != result.version:
        registry.make_champion(result.version)
    if asked is None:
        # An interrupted run did not record whether it was a rollback. It was one if its result had been in service before.
        why["rolled_back"] = (result.version, result.image) in in_service(ledger.events("promotion"))[:-1]
    rollout = Rollout(
        version=result.version,
        previous=promoted["version"] if promoted else None,
        bundle_digest=result.bundle_digest,
        url=result.url,
        image=result.image,
        **({"seconds": {}} | why),
    )
    if promoted is None or (promoted["version"], promoted.get("image")) != (result.version, result.image):
        ledger.append("promotion", **rollout.model_dump(mode="json"))
    elif unsettled:
        ledger.append("rollout_settled", version=result.version, image=result.image)
    return rollout


def _record_failure(installation: Installation, asked: int | None, result: PutBack) -> None:
    ledger = installation.ledger
    ledger.append("rollout_failed", version=asked, champion=result.version, image=result.image, problem=result.problem)


def in_service(promotions: Iterable[dict[str, Any]]) -> list[Service]:
    """Return what was in service and was not rolled back, the oldest first. The last one is in service now."""
    history: list[Service] = []
    for event in promotions:
        service = (event["version"], event.get("image"))
        # In events of earlier versions of this system, only the reason shows a rollback.
        went_back = event.get("rolled_back", str(event.get("reason") or "").startswith("rolled back"))
        if went_back and service in history:
            # Drop what came after its last occurrence.
            del history[len(history) - history[::-1].index(service) :]
        elif not history or history[-1] != service:
            history.append(service)
    return history
