"""Return to an earlier version by hand."""

from __future__ import annotations

from healthpredict.errors import ConfigurationError
from healthpredict.operations.installation import Installation
from healthpredict.operations.record_rollout import Rollout, in_service
from healthpredict.operations.roll_out import repair_rollout, roll_out


def roll_back(installation: Installation, version: int | None = None) -> Rollout:
    """Roll out a version that was in service before, with the image that it had.

    Args:
        installation: where models and API are.
        version: a version that was in service before. By default, the previous one that was not rolled back.

    Raises:
        ConfigurationError: the version was never in service or is in service now, or there is nothing to roll back to.
        RolloutError, RolloutUnknown: see `roll_out`.
    """
    repair_rollout(installation)
    promotions = installation.ledger.events("promotion")
    present, *earlier = reversed(in_service(promotions)) if promotions else (None,)
    if present is None or (version is None and not earlier):
        raise ConfigurationError(
            "There is nothing to roll back to: every earlier version was rolled back already, or there was none."
        )
    if version is None:
        wanted = earlier[0]
    else:
        had = [(event["version"], event.get("image")) for event in promotions if event["version"] == version]
        if version == present[0] or not had:
            known = ", ".join(map(str, sorted({event["version"] for event in promotions} - {present[0]}))) or "none"
            raise ConfigurationError(
                f"Version {version} cannot be rolled back to. In service before: {known}; in service now: {present[0]}."
            )
        wanted = had[-1]
    reason = f"rolled back from version {present[0]}"
    return roll_out(installation, wanted[0], image=wanted[1], reason=reason, rolled_back=True)
