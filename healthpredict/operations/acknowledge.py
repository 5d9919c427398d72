"""Alarms that are open, and their acknowledgement by a person."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict

from healthpredict.errors import ConfigurationError
from healthpredict.monitoring.alarms import Alarm, OpenAlarm, stored_about
from healthpredict.operations.installation import Installation
from healthpredict.operations.pending import find_pending
from healthpredict.storage.tables import read_json
from healthpredict.storage.uris import exists


class Alarms(BaseModel):
    """The alarms of all batches.

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
    """Read the alarms from the ledger, and from the checks of batches that are not done yet.

    Raises:
        StorageError: the ledger, a check or the folder of batches cannot be read.
    """
    opened: dict[tuple[str, str], OpenAlarm] = {}
    states, acknowledgements = set[tuple[str, int]](), list[str]()
    acknowledged = set[tuple[str, str]]()
    position: dict[str, float] = {}
    for event in [*installation.ledger.events(), *_checked_but_not_done(installation)]:
        if event["kind"] == "acknowledgement":
            about, batch = stored_about(event["about"]), event["batch"]
            until = position.get(batch, event["sequence"])  # it may be older than the event of its batch
            opened = {
                key: alarm
                for key, alarm in opened.items()
                if alarm.about != about or position[alarm.newest_batch] > until
            }
            acknowledged.add((about, batch))
            states.add((about, event["trained_version"]))
            acknowledgements.append(f"{about} ({batch}): {event['because']}")
        elif event["kind"] == "batch" and "trained_version" in event:
            batch, version = event["batch"], event["trained_version"]
            position[batch] = event["sequence"]
            alarms = [Alarm.model_validate(raised) for raised in event.get("alarms", ())]
            # A new model is judged anew.
            opened = {k: alarm for k, alarm in opened.items() if not alarm.lasts or alarm.trained_version == version}
            found = {alarm.about for alarm in alarms}
            for key, state in opened.items():
                if state.lasts and state.about not in found and not state.ended:
                    opened[key] = state.model_copy(update={"ended": batch})
            for alarm in alarms:
                # It may have been acknowledged while the loop was at work on this batch.
                if (alarm.about, batch) in acknowledged or (alarm.lasts and (alarm.about, version) in states):
                    continue
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


def _checked_but_not_done(installation: Installation) -> Iterator[dict[str, Any]]:
    """Yield a batch event for each batch whose check is stored and which a later step has not finished."""
    for name in find_pending(installation).names:
        if exists(uri := installation.layout.check(name)):
            check = read_json(uri)
            facts = {key: check[key] for key in ("trained_version", "alarms") if key in check}
            yield {"kind": "batch", "batch": name, "sequence": math.inf, **facts}


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
