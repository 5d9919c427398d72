"""Alarms for people. `changes` raises those about columns, and `subgroups` those about groups of patients that are served worse."""

from __future__ import annotations

import shlex
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


def stored_about(about: str) -> str:
    """Return today's name of what a stored alarm or acknowledgement is about. Earlier versions wrote "payer code"."""
    return about.replace("payer code ", "payer_code ", 1) if about.startswith("payer code ") else about


class Alarm(BaseModel):
    """Something that a person should look at, and can acknowledge. The ledger contains alarms: never rename a field.

    Attributes:
        about: identifies it in the ledger: a column, such as `payer_code`, or the columns and the value of a group with its
            problem, such as `payer_code MC: sensitivity`. It consists of stored names, so rewording a text does not change it.
        sentence: what happened, for people.
        lasts: whether it is a state (of a group) that every check finds again. Otherwise, it is a change.
    """

    model_config = ConfigDict(frozen=True)

    about: Annotated[str, AfterValidator(stored_about)]
    sentence: str
    lasts: bool = False


class OpenAlarm(Alarm):
    """An alarm that nobody has acknowledged.

    Attributes:
        first_batch: the batch that raised it; for a state, the first one.
        newest_batch: for a state, the newest batch that found it, which `sentence` describes; for a change, `first_batch`.
        ended: for a state, the batch after `newest_batch` that no longer found it; otherwise None.
        trained_version: the model that was in service, see `Manifest.trained_version`.
    """

    first_batch: str
    newest_batch: str
    ended: str | None = None
    trained_version: int

    @property
    def story(self) -> str:
        """What happened, and whether it has ended."""
        return f"{self.sentence} {self.ended} no longer shows it." if self.ended else self.sentence

    @property
    def command(self) -> str:
        """The command that acknowledges it."""
        return f'healthpredict acknowledge {shlex.quote(self.about)} {shlex.quote(self.newest_batch)} --because "..."'
