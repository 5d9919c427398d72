"""Alarms that are open, and their acknowledgement by a person."""

from __future__ import annotations

from typing import Any

from healthpredict.errors import ConfigurationError
from healthpredict.monitoring.alarms import OpenAlarm
from healthpredict.operations.installation import Installation


def open_alarms(installation: Installation) -> tuple[OpenAlarm, ...]:
    """Return the open alarms, the one that was raised first first."""
    found: dict[str, OpenAlarm] = {}
    for event in installation.ledger.events():
        if event["kind"] == "acknowledgement":
            found.pop(event["about"], None)
        for alarm in event.get("alarms", ()):
            before = found.get(alarm["about"])
            found[alarm["about"]] = OpenAlarm(
                **alarm,
                since=before.since if before else event["batch"],
                batch=event["batch"],
                trained_version=event["trained_version"],
            )
    return tuple(found.values())


def acknowledge(installation: Installation, about: str, because: str) -> OpenAlarm:
    """Record in the ledger that a person knows of an alarm.

    A later change of the same column raises a new alarm. A group of patients raises none again until a new model is trained.

    Raises:
        ConfigurationError: there is no open alarm about this.
        StorageError: the ledger cannot be read or written.
    """
    alarms = {alarm.about: alarm for alarm in open_alarms(installation)}
    if about not in alarms:
        others = ", ".join(map(repr, alarms)) or "none"
        raise ConfigurationError(f"There is no open alarm about {about!r}. Open alarms: {others}.")
    alarm = alarms[about]
    facts: dict[str, Any] = {"batch": alarm.batch, "trained_version": alarm.trained_version}
    installation.ledger.append("acknowledgement", about=about, because=because, **facts)
    return alarm


def acknowledged_groups(installation: Installation, trained_version: int) -> set[str]:
    """Return what was acknowledged while this model was in service."""
    events = installation.ledger.events("acknowledgement")
    return {event["about"] for event in events if event["trained_version"] == trained_version}
