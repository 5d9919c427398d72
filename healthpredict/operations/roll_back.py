"""Put a version that was in service before into service again, by hand."""

from __future__ import annotations

from healthpredict.config import Settings
from healthpredict.errors import ConfigurationError
from healthpredict.operations.context import open_ledger
from healthpredict.operations.roll_out import Rollout, roll_out


def roll_back(settings: Settings, version: int | None = None) -> Rollout:
    """Roll an earlier version out again, with the image that it had: verified, then champion, as every rollout.

    Args:
        settings: where the API is.
        version: that was in service; None for the one before the present one.

    Raises:
        ConfigurationError: it never was in service, or there is none before.
        RolloutError: it is not in service; what ran before is.
    """
    promotions = open_ledger(settings).events("promotion")
    present = promotions[-1]["version"] if promotions else None
    earlier = {event["version"]: event for event in promotions if event["version"] != present}
    if not earlier:
        raise ConfigurationError("There is nothing to go back to: no version was in service before the present one.")
    if version is None:
        version = next(event["version"] for event in reversed(promotions) if event["version"] != present)
    if version not in earlier:
        raise ConfigurationError(
            f"There is no going back to version {version}. In service were {', '.join(map(str, sorted(earlier)))}, "
            f"and now it is {present}."
        )
    return roll_out(
        settings, version, image=earlier[version].get("image"), reason=f"rolled back from version {present}"
    )
