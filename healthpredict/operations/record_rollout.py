"""The one place where the result of a rollout moves the alias `champion` and enters the ledger."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict

from healthpredict.config import Settings
from healthpredict.errors import RolloutError, RolloutUnknown
from healthpredict.operations.context import Seconds, open_ledger, open_registry
from healthpredict.rollout.results import InService, PutBack, RolloutResult, Unknown

Service = tuple[int, str | None]
"""Version and image."""


class Rollout(BaseModel):
    """A version in service.

    Attributes:
        version: that answers now.
        previous: the version before; None where there was none.
        bundle_digest: of its bundle.
        url: where it answers; None where it was only promoted.
        image: by digest; None where there is none.
        git_ref: of the code in the image, where one was named.
        reason: why, if not the gate decided.
        forced: whether it was promoted although it did not pass the gate.
        rolled_back: whether this goes back to what was in service before.
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


def record_rollout(settings: Settings, result: RolloutResult, *, asked: int | None, **why: Any) -> Rollout | None:
    """Let alias and ledger say what serves.

    Args:
        settings: where registry and ledger are.
        result: of a rollout, or of a look at what serves.
        asked: the version that was asked for; None if this is a look.
        why: fields of `Rollout`: git_ref, reason, forced, rolled_back, seconds.

    Returns:
        What is in service; None if nothing is.

    Raises:
        RolloutError: the version that was asked for is not in service, or not good; what the ledger says is.
        RolloutUnknown: it could not be determined what serves. The alias is where it was.
        RegistryError, StorageError: alias or ledger could not be written; the next run repairs them.
    """
    match result:
        case InService():
            return _serves(settings, result, asked, **why)
        case PutBack(version=None):
            _failed(settings, asked, result)
            raise RolloutError(result.problem)
        case PutBack():
            _failed(settings, asked, result)
            _serves(settings, result, asked, **why | {"reason": result.problem, "forced": False, "rolled_back": True})
            raise RolloutError(result.problem)
        case Unknown():
            ledger = open_ledger(settings)
            if asked is not None or last_unknown(settings) is None:
                version = result.version or asked
                ledger.append("rollout_unknown", version=version, image=result.image, problem=result.problem)
            raise RolloutUnknown(result.problem)


def last_unknown(settings: Settings) -> dict[str, Any] | None:
    """The newest event of a rollout with an unknown result that no later run has settled; None if there is none."""
    kinds = ("promotion", "rollout_settled", "rollout_unknown")
    last = next((e for e in reversed(open_ledger(settings).events()) if e["kind"] in kinds), None)
    return last if last is not None and last["kind"] == "rollout_unknown" else None


def _serves(settings: Settings, result: InService | PutBack, asked: int | None, **why: Any) -> Rollout:
    assert result.version is not None
    assert result.bundle_digest is not None
    registry, ledger = open_registry(settings), open_ledger(settings)
    unsettled = last_unknown(settings)
    champion, promoted = registry.by_alias("champion"), ledger.last("promotion")
    if champion is None or champion.version != result.version:
        registry.make_champion(result.version)
    if asked is None:
        # An interrupted rollback leaves no word that it was one; what served before is found in service again.
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
    elif unsettled is not None:
        ledger.append("rollout_settled", version=result.version, image=result.image)
    return rollout


def _failed(settings: Settings, asked: int | None, result: PutBack) -> None:
    ledger = open_ledger(settings)
    ledger.append("rollout_failed", version=asked, champion=result.version, image=result.image, problem=result.problem)


def in_service(promotions: Iterable[dict[str, Any]]) -> list[Service]:
    """What was in service and has not been rolled back, the oldest first; the last one is in service now."""
    stack: list[Service] = []
    for event in promotions:
        service = (event["version"], event.get("image"))
        # Earlier versions of this system say so in the reason only.
        went_back = event.get("rolled_back", str(event.get("reason") or "").startswith("rolled back"))
        if went_back and service in stack:
            del stack[len(stack) - stack[::-1].index(service) :]
        elif not stack or stack[-1] != service:
            stack.append(service)
    return stack
