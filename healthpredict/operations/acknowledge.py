"""Alarms that are open, and their acknowledgement by a person."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from healthpredict.errors import ConfigurationError
from healthpredict.monitoring.alarms import Alarm, OpenAlarm
from healthpredict.operations.installation import Installation


class Alarms(BaseModel):
    """The alarms of all batches, from the ledger.

    Attributes:
        open: those that nobody has acknowledged, the oldest first.
        acknowledged_states: what was acknowledged, with the model (`Manifest.trained_version`) that was in service. Of a group of
            patients, the same problem raises no alarm again while that model is in service.
        acknowledgements: a sentence for each acknowledgement.
    """

    model_config = ConfigDict(frozen=True)

    open: tuple[OpenAlarm, ...]
    acknowledged_states: frozenset[tuple[str, int]]
    acknowledgements: tuple[str, ...]

    def known_under(self, trained_version: int) -> set[str]:
        """Return what was acknowledged while this model was in service."""
        return {about for about, version in self.acknowledged_states if version == trained_version}


def read_alarms(installation: Installation) -> Alarms:
    """Read the alarms from the ledger.

    Raises:
        StorageError: the ledger cannot be read.
    """
    opened: dict[tuple[str, str], OpenAlarm] = {}
    states, acknowledgements = set[tuple[str, int]](), list[str]()
    position: dict[str, int] = {}
    for event in installation.ledger.events():
        if event["kind"] == "acknowledgement":
            about, until = event["about"], position[event["batch"]]
            opened = {
                key: alarm
                for key, alarm in opened.items()
                if alarm.about != about or position[alarm.newest_batch] > until
            }
            states.add((about, event["trained_version"]))
            acknowledgements.append(f"{about} ({event['batch']}): {event['because']}")
        elif event["kind"] == "batch" and "trained_version" in event:
            batch, version = event["batch"], event["trained_version"]
            position[batch] = event["sequence"]
            # A new model is judged anew.
            opened = {k: alarm for k, alarm in opened.items() if not alarm.lasts or alarm.trained_version == version}
            for alarm in (Alarm.model_validate(raised) for raised in event.get("alarms", ())):
                if alarm.lasts and (alarm.about, version) in states:
                    continue  # acknowledged while the loop was at work on this batch
                key = (alarm.about, "" if alarm.lasts else batch)
                first = opened[key].first_batch if key in opened else batch
                opened[key] = OpenAlarm(
                    **alarm.model_dump(), first_batch=first, newest_batch=batch, trained_version=version
                )
    return Alarms(
        open=tuple(opened.values()),
        acknowledged_states=frozenset(states),
        acknowledgements=tuple(acknowledgements),
    )


def acknowledge(installation: Installation, about: str, batch: str, because: str) -> OpenAlarm:
    """Record in the ledger that a person knows of the alarms about this, up to this batch. Later ones stay open.

    Raises:
        ConfigurationError: there is no open alarm about this up to this batch, or no reason was given.
        StorageError: the ledger cannot be read or written.
    """
    if not because.strip():
        raise ConfigurationError("Give a reason with --because. The ledger keeps it for those who ask later.")
    alarms = read_alarms(installation).open
    newest = next((alarm for alarm in alarms if (alarm.about, alarm.newest_batch) == (about, batch)), None)
    if newest is None:
        others = ", ".join(f"{alarm.about!r} of {alarm.newest_batch}" for alarm in alarms) or "none"
        raise ConfigurationError(f"There is no open alarm about {about!r} of {batch}. Open alarms: {others}.")
    installation.ledger.append(
        "acknowledgement", about=about, batch=batch, because=because, trained_version=newest.trained_version
    )
    return newest
